"""What an answer cost is booked at the most where nobody tells it; and an answer that was cut off is nobody's fault."""

from decimal import Decimal
from typing import Any

import pytest

from engine.domain.errors import StrategyFault
from engine.llm.groq_client import MAX_ANSWER_BYTES
from tests.compatibility.conftest import PlayCycle
from tests.engine.deciding.cycle_world import LONG
from tests.engine.deciding.examples import a_context, a_strategy
from tests.support.servers.groq_double import Answer, Handler, completion, error, ok, raw

PROMPT_USD, ANSWER_USD = Decimal("0.15") / 10**6, Decimal("0.60") / 10**6
ALLOWED = 800
TOO_LONG = "Failed to generate JSON: max completion tokens reached before generating a valid document"


def usage(**fields: Any) -> dict[str, Any]:
    return {"prompt_tokens": 900, "completion_tokens": 60, "total_tokens": 960, **fields}


SENSELESS: dict[str, object] = {
    "null": None,
    "empty": {},
    "a word": "none",
    "a list": [900, 60],
    "fractional": usage(completion_tokens=5.5),
    "negative": usage(completion_tokens=-1),
    "in words": usage(prompt_tokens="many"),
    "null fields": usage(prompt_tokens=None, completion_tokens=None),
    "true": usage(completion_tokens=True),
    "no completion": {"prompt_tokens": 900},
    "three billion": usage(prompt_tokens=3_000_000_000),
    "more of an answer than was allowed": usage(completion_tokens=10**30),
    "not even a number": usage(completion_tokens=1e400),
    "nothing at all for a whole answer": usage(prompt_tokens=0, completion_tokens=0),
    "one token each": usage(prompt_tokens=1, completion_tokens=1),
}


@pytest.mark.parametrize("use", SENSELESS.values(), ids=SENSELESS.keys())
def test_a_decision_counts_whatever_is_said_of_its_use_which_is_booked_at_the_most(
    play: PlayCycle, use: object
) -> None:
    cycle = play(ok(LONG, usage=use))
    assert (cycle.outcome.outcome, cycle.signals, len(cycle.requests)) == ("ok", ["BUY"], 1)
    (record,) = cycle.world.records
    assert record.completion_tokens <= ALLOWED
    assert 1_000 * PROMPT_USD < record.cost_usd < 6_000 * PROMPT_USD + ALLOWED * ANSWER_USD


def test_a_use_that_is_not_told_at_all_is_booked_at_the_most(play: PlayCycle) -> None:
    answer = {name: value for name, value in completion(LONG).items() if name != "usage"}
    cycle = play(lambda handler: handler.send(200, answer))
    assert cycle.signals == ["BUY"]
    assert cycle.cost_usd > ALLOWED * ANSWER_USD


@pytest.mark.parametrize(
    "told",
    [
        {"total_tokens": 1_360},
        {"total_tokens": 1_360, "completion_tokens_details": {"reasoning_tokens": 400}},
        {"completion_tokens": 0, "total_tokens": 0, "completion_tokens_details": {"reasoning_tokens": 460}},
    ],
)
def test_thoughts_that_are_told_apart_are_paid_for(play: PlayCycle, told: dict[str, Any]) -> None:
    assert play(ok(LONG, usage=usage(**told))).cost_usd == 900 * PROMPT_USD + 460 * ANSWER_USD


@pytest.mark.parametrize(
    "details", [None, {}, {"cached_tokens": None}, {"cached_tokens": 5e9}, {"cached_tokens": -4}, "x", 3]
)
def test_cached_tokens_that_make_no_sense_are_none(play: PlayCycle, details: object) -> None:
    cycle = play(ok(LONG, usage=usage(prompt_tokens_details=details)))
    assert cycle.signals == ["BUY"]
    assert cycle.cost_usd == 900 * PROMPT_USD + 60 * ANSWER_USD


def test_a_budget_stops_requests_whose_use_is_never_told(play: PlayCycle) -> None:
    spent, asked = Decimal(0), 0
    for _ in range(41):
        strategy = a_strategy(daily_llm_budget_usd=Decimal("0.002"))
        cycle = play(ok(LONG, usage=None), context=a_context(strategy, llm_spent_today_usd=spent))
        asked += len(cycle.requests)
        spent += sum((record.cost_usd for record in cycle.world.records), Decimal(0))
    assert asked <= 4


@pytest.mark.parametrize(
    "body",
    [
        b"<html>hello</html>",
        b'{"choices": []}',
        b"null",
        b"{",
        b'{"id": "1", "object": "chat',
        pytest.param(b" " * (MAX_ANSWER_BYTES + 1), id="too large to be read"),
    ],
)
def test_a_200_that_is_no_completion_may_have_cost_the_most(play: PlayCycle, body: bytes) -> None:
    cycle = play(raw(200, body))
    assert len(cycle.outcome.calls) == 3
    assert all(call.cost_usd > ALLOWED * ANSWER_USD for call in cycle.outcome.calls)


CUTS: dict[str, Any] = {
    "nothing but thinking": ok(None, finish="length", answer=800),
    "half an answer": ok(LONG[:60], finish="length", answer=800),
    "a whole answer that goes on": ok(LONG + "\n\n" + LONG[:20], finish="length", answer=800),
    "what the provider could not validate": error(400, "json_validate_failed", message=TOO_LONG, failed_generation=""),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS.keys())
def test_a_cut_is_told_with_its_tokens_and_is_nobodys_fault(play: PlayCycle, cut: Any) -> None:
    cycle = play(cut)
    assert cycle.signals == []
    assert {call.outcome.value for call in cycle.outcome.calls} == {"cut"}
    assert not isinstance(cycle.outcome.failure, StrategyFault)
    assert cycle.outcome.failure is not None
    assert "cut off" in (cycle.outcome.reason or "")
    assert "tokens" in (cycle.outcome.reason or "")


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS.keys())
def test_after_a_cut_the_allowance_is_raised_within_a_bound(play: PlayCycle, cut: Any) -> None:
    cycle = play(cut, ok(LONG))
    assert (cycle.outcome.outcome, cycle.signals) == ("ok", ["BUY"])
    first, second = (request["max_completion_tokens"] for request in cycle.requests)
    assert (first, second) == (ALLOWED, 2 * ALLOWED)
    for _ in range(20):
        last = play(cut)
    assert last.requests[-1]["max_completion_tokens"] <= 8_192


@pytest.mark.parametrize(
    ("model", "effort", "asked"),
    [
        ("openai/gpt-oss-120b", "low", ("json_schema", "low", 800)),
        ("gpt-oss-120b", "medium", ("json_schema", "medium", 1_600)),
        ("gpt-oss:20b", "high", ("json_schema", "high", 4_400)),
        ("GPT-OSS-20B", "low", ("json_schema", "low", 800)),
        ("qwen/qwen3.6-27b", "low", ("json_object", "none", 400)),
        ("qwen3-32b", "medium", ("json_object", "default", 4_400)),
        ("llama-3.3-70b-versatile", "high", ("json_object", None, 400)),
    ],
)
def test_effort_and_allowance_follow_the_family(
    play: PlayCycle, model: str, effort: str, asked: tuple[str, str | None, int]
) -> None:
    cycle = play(ok(LONG), groq_model=(model,), sparky_llm_reasoning_effort=effort)
    (request,) = cycle.requests
    told = (request["response_format"]["type"], request.get("reasoning_effort"), request["max_completion_tokens"])
    assert told == asked


@pytest.mark.parametrize("trouble", [CUTS["nothing but thinking"], raw(200, b"<html>"), ok(LONG, finish=None)])
def test_no_further_request_is_made_in_a_cycle_whose_budget_is_spent(play: PlayCycle, trouble: Any) -> None:
    strategy = a_strategy(daily_llm_budget_usd=Decimal("0.0001"))
    assert len(play(trouble, context=a_context(strategy)).requests) == 1


def needs(tokens: int, most: int = 99_999) -> Answer:
    """Answers when it is allowed `tokens`, is cut off below, and too large for a minute above `most`."""

    def answer(handler: Handler) -> None:
        allowed = handler.asked["max_completion_tokens"]
        if allowed > most:
            error(413, "rate_limit_exceeded", message="on tokens per minute (TPM): Limit 8000, Requested 9000")(handler)
        elif allowed < tokens:
            ok(None, finish="length", answer=allowed)(handler)
        else:
            ok(LONG, answer=tokens)(handler)

    return answer


def test_a_raised_allowance_stays_while_it_is_needed_and_goes_when_it_is_not(play: PlayCycle) -> None:
    def asked(answer: Answer) -> list[int]:
        return [request["max_completion_tokens"] for request in play(answer).requests]

    assert asked(needs(3_000)) == [800, 1_600, 3_200]
    assert asked(needs(3_000)) == [3_200]
    assert asked(needs(100)) == [3_200]
    assert asked(needs(100)) == [1_600]
    assert asked(needs(100)) == [800]


def test_a_raise_that_the_provider_does_not_carry_is_taken_back_and_stops_nobody(play: PlayCycle) -> None:
    greedy = needs(9_000, most=1_600)
    first, second = play(greedy), play(greedy)
    assert [request["max_completion_tokens"] for request in first.requests] == [800, 1_600, 3_200]
    assert (first.outcome.outcome, second.outcome.outcome) == ("cut", "cut")
    assert [request["max_completion_tokens"] for request in second.requests] == [800]
    assert play(needs(100)).signals == ["BUY"]
