"""Only a finished answer is an answer: drafts and cut texts are never traded, and what follows a thought is read."""

from typing import Any

import pytest

from engine.domain.decision import Action
from tests.compatibility.conftest import PlayCycle
from tests.engine.deciding.cycle_world import LONG
from tests.support.servers.groq_double import ok

HOLD = '{"action":"HOLD","symbol":null,"size_usd":0,"confidence":0.5,"reasoning":"no edge"}'
THINKS_ON = "but the right answer is HOLD. Let me double-check RSI"

DRAFTS: dict[str, str] = {
    "an open analysis of harmony": f"<|channel|>analysis<|message|>Candidate: {LONG} {THINKS_ON}",
    "a whole message of harmony's analysis": f"<|start|>assistant<|channel|>analysis<|message|>{LONG}<|end|>",
    "a closed analysis and nothing after it": f"<|channel|>analysis<|message|>Candidate: {LONG}<|end|>",
    "harmony's commentary": f"<|channel|>commentary<|message|>{LONG}<|end|>",
    "a constrained call in the commentary": "<|channel|>commentary to=decide "
    f"<|constrain|>json<|message|>{LONG}<|call|>",
    "an answer that is thought about again": f"<|channel|>final<|message|>{LONG}<|end|><|start|>assistant"
    "<|channel|>analysis<|message|>Wait, RSI says HOLD",
    "harmony's words without its marks": f"analysisCandidate: {LONG}",
    "an open <think>": f"<think>Candidate: {LONG} {THINKS_ON}",
    "an open <think> that ends with the draft": f"<think>{LONG}",
    "a closed <think> and nothing after it": f"<think>Candidate: {LONG}</think>",
    "a thought after the answer": f"{LONG}<think>no, HOLD is better</think>",
    "a second thought that is open": f"<think>hm</think>{LONG}<think>no, HOLD is better",
    "<thinking>": f"<thinking>\n{LONG}\n",
    "<Thought> with an attribute": f'<Thought level="2">{LONG}</Thought>',
    "<reasoning>": f"<reasoning>{LONG}",
    "<reflection>": f"<reflection>{LONG}</reflection>",
    "<scratchpad>": f"<scratchpad>{LONG}",
    "<seed:think>": f"<seed:think>{LONG}",
    "Mistral's [THINK]": f"[THINK]{LONG}",
    "Kimi's mark": f"\u25c1think\u25b7{LONG}",
    "begin_of_thought": f"<|begin_of_thought|>{LONG}<|end_of_thought|>",
    "START_THINKING": f"<|START_THINKING|>{LONG}",
    "Gemma's thought": f"<|channel>thought\n{LONG}",
    "an escaped mark": f"&lt;think&gt;{LONG}",
    "full-width marks": f"\uff1cthink\uff1e{LONG}",
    "spaces in the mark": f"< think >{LONG}",
    "a line break in the mark": f"<think\n>{LONG}",
    "a thought that quotes our own marks": f"<think>The <notes>buy dips</notes> say so. Candidate: {LONG}",
    "a thought in a thought": f"<think>a <think>b</think> draft {LONG}",
    "a tool call in a thought": f"<think>a <tool_call>x</tool_call> draft {LONG}",
    "a summary in details": f'<details type="reasoning"><summary>Thinking</summary>\n> draft {LONG}',
    "a second turn of Llama's": f"{HOLD}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n{LONG}",
    "a second answer behind a tag": f"{HOLD}</tool_call>{LONG}",
    "harmony's words, run together": f"analysiswe need {LONG}",
    "a heading of analysis": f"**Analysis**: RSI is low\n{LONG}",
    "a heading of thinking": f"Thinking Process:\n1. RSI\n{LONG}",
    "a bare word": f"thought\n{LONG}",
    "a final analysis of harmony": f"<|channel|>final analysis<|message|>{LONG}",
    "an answer that is taken back in harmony": f"<|channel|>final<|message|>{LONG}<|constrain|> is wrong<|return|>",
    "a thought that begins after the answer": f"<|channel|>final<|message|>{LONG}<|end|><|start|>assistant"
    "<|channel|>analysis<|message|>",
    "a nested fence": f"```thinking\nCandidate:\n```json\n{LONG}\n```\n```",
    "other brackets": f"\u3010think\u3011{LONG}",
    "a draft in an answer's mark": f'<answer type="draft">{LONG}</answer>',
    "a comment": f"<!-- draft\n{LONG}",
    "an answer before it": f"Final decision: HOLD. The rejected alternative was:\n{LONG}",
    "a word before it": f"HOLD\n{LONG}",
    "a warning before it": f"Do NOT trade this:\n{LONG}",
    "a mark that takes it back": f"{LONG}\n<final_answer: HOLD instead>",
    "a long attribute": f"<think {'x' * 90}>{LONG}",
    "an escape": f"\\u003cthink\\u003e{LONG}",
    "a fenced thought": f"```thinking\n{LONG}\n```",
    "a family that nobody knows yet": f"<cogitation>{LONG}",
    "a mark that nobody knows yet": f"<|pondering|>{LONG}",
    "an answer that is taken back": f"Candidate: {LONG} {THINKS_ON}",
}


@pytest.mark.parametrize("draft", DRAFTS.values(), ids=DRAFTS.keys())
def test_a_thought_is_never_traded(play: PlayCycle, draft: str) -> None:
    """Not even one that the provider calls finished; and one more request asks for the answer."""
    cycle = play(ok(draft))
    assert cycle.signals == []
    assert [record.action for record in cycle.world.records] == [Action.HOLD]
    assert len(cycle.requests) == 2


@pytest.mark.parametrize(
    "finish", ["length", "tool_calls", "content_filter", "function_call", "error", "", None, "STOPPED"]
)
def test_only_stop_ends_an_answer(play: PlayCycle, finish: str | None) -> None:
    cycle = play(ok(LONG, finish=finish))
    assert cycle.signals == []
    assert {call.outcome.value for call in cycle.outcome.calls} == {HOW_IT_ENDS.get(finish or "", "unfinished")}


HOW_IT_ENDS = {"length": "cut", **dict.fromkeys(("tool_calls", "content_filter", "function_call"), "unusable")}


def test_an_answer_that_does_not_say_how_it_ended_is_none(play: PlayCycle) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": LONG}}
    assert play(ok(None, choices=[choice])).signals == []


ANSWERS: dict[str, str] = {
    "after harmony's analysis": "<|channel|>analysis<|message|>Candidate: "
    f"{LONG.replace('LONG', 'SHORT')}<|end|><|start|>assistant<|channel|>final<|message|>{LONG}<|return|>",
    "harmony's final alone": f"<|channel|>final <|constrain|>json<|message|>{LONG}",
    "after harmony's words without its marks": f"analysisLet us see {{x}}.assistantfinal{LONG}",
    "after <think>": f"<think>Candidate: {LONG.replace('LONG', 'SHORT')}</think>\n\n{LONG}",
    "after a thought whose beginning was in the prompt": f"RSI {{low}} so.\n</think>\n{LONG}",
    "after two thoughts": f"<think>one</think><thinking>two {{}}</thinking>```json\n{LONG}\n```",
    "after [THINK]": f"[THINK]{{}}[/THINK]{LONG}",
    "after Kimi's mark": f"\u25c1think\u25b7{{}}\u25c1/think\u25b7{LONG}",
    "after begin_of_thought": "<|begin_of_thought|>{}<|end_of_thought|>"
    f"<|begin_of_solution|>{LONG}<|end_of_solution|>",
    "after an empty thought": f"<think>\n\n</think>\n\n{LONG}",
    "in <answer>": f"<think>{{}}</think><answer>{LONG}</answer>",
    "before a token that ends it": f"{LONG}<|im_end|>",
    "before </s>": f"{LONG}</s>",
    "before other ends": f"{LONG}<|eot|>\n",
    "before Phi's end": f"{LONG}<|end|>",
    "behind Llama's header": f"<|start_header_id|>assistant<|end_header_id|>\n\n{LONG}<|eot_id|>",
    "behind Gemma's turn": f"<start_of_turn>model\n{LONG}<end_of_turn>",
    "behind an empty thought in one mark": f"<think/>{LONG}",
    "behind a block of an unknown family": f"<cogitation>{{}} hm</cogitation>{LONG}",
    "in a wrapper": f"<final_decision>{LONG}</final_decision>",
    "in waves": f"~~~json\n{LONG}\n~~~",
    "with a mark in its own words": LONG.replace('"up"', '"RSI <think> 30 </think> up"'),
    "fenced": f"```json\n{LONG}\n```",
    "after a sentence": f"Here is my decision:\n{LONG}",
}


@pytest.mark.parametrize("text", ANSWERS.values(), ids=ANSWERS.keys())
def test_what_follows_the_end_of_a_thought_is_the_answer(play: PlayCycle, text: str) -> None:
    cycle = play(ok(text))
    assert (cycle.signals, len(cycle.requests)) == (["BUY"], 1)


PARTS: dict[str, Any] = {
    "text": [{"type": "text", "text": LONG}],
    "text without a type": [{"text": LONG}],
    "one part": {"type": "text", "text": LONG},
    "two pieces": [{"type": "text", "text": LONG[:20]}, {"type": "text", "text": LONG[20:]}],
    "a thought before it": [
        {"type": "thinking", "thinking": [{"type": "text", "text": HOLD}]},
        {"type": "text", "text": LONG},
    ],
    "reasoning before it": [{"type": "reasoning", "text": HOLD}, {"type": "output_text", "text": LONG}],
}


@pytest.mark.parametrize("content", PARTS.values(), ids=PARTS.keys())
def test_an_answer_in_parts_is_read_without_its_thoughts(play: PlayCycle, content: object) -> None:
    assert play(ok(content)).signals == ["BUY"]


@pytest.mark.parametrize(
    "content",
    [[{"type": "thinking", "thinking": LONG}], [{"type": "reasoning", "text": LONG}], [], [None], [{}], 5, {"a": 1}],
)
def test_parts_that_hold_no_answer_are_none(play: PlayCycle, content: object) -> None:
    assert play(ok(content)).signals == []


def test_a_thought_in_a_field_of_its_own_is_not_read(play: PlayCycle) -> None:
    for field in ("reasoning", "reasoning_content", "thinking", "refusal"):
        message = {"role": "assistant", "content": None, field: LONG}
        assert play(ok(None, choices=[{"index": 0, "message": message, "finish_reason": "stop"}])).signals == []


@pytest.mark.parametrize(
    "beside",
    [
        {"refusal": "I cannot help with that."},
        {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "trade", "arguments": "{}"}}]},
        {"function_call": {"name": "trade", "arguments": "{}"}},
        {"role": "user"},
    ],
)
def test_an_answer_beside_which_something_else_was_said_is_none(play: PlayCycle, beside: dict[str, Any]) -> None:
    message = {"role": "assistant", "content": LONG, **beside}
    assert play(ok(None, choices=[{"index": 0, "message": message, "finish_reason": "stop"}])).signals == []


@pytest.mark.parametrize("finish", ["STOP", " stop", "Stop"])
def test_stop_is_stop_in_any_spelling(play: PlayCycle, finish: str) -> None:
    assert play(ok(LONG, finish=finish)).signals == ["BUY"]


def test_two_answers_where_one_was_asked_for_are_none(play: PlayCycle) -> None:
    choices = [
        {"index": n, "message": {"content": text}, "finish_reason": "stop"} for n, text in enumerate((LONG, HOLD))
    ]
    assert play(ok(None, choices=choices)).signals == []
