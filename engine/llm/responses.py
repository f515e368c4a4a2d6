"""Reads a chat completion as providers really send it, with fields missing, null, of another type or absurd. Pure."""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from engine.domain.completion import Usage
from engine.platform.plain_text import one_line

_MAX_INTEGER: Final = 18  # digits; Python refuses to read thousands of them
_MAX_BRACKETS: Final = 5_000
_MAX_TOKEN: Final = 16  # bytes per token, averaged over a text: no vocabulary reaches it
_TEXT_PARTS: Final = frozenset({"text", "output_text"})


class Reading(NamedTuple):
    """A completion. `finish` is the provider's `finish_reason` in lower case, empty where it is missing.

    `usage` is the reported one where `is_usage_told`, else has the largest assumed count for each that is missing or
    absurd. `no_answer` is the reason for which the text is not the model's answer, None where it is.
    """

    text: str
    finish: str
    usage: Usage
    is_usage_told: bool
    no_answer: str | None = None


def read_json(content: bytes) -> object:
    """The JSON value of a body; None for invalid JSON. An integer of more than 18 digits is read as a float.

    Deeply nested JSON counts as invalid: Python's parser would use up the stack where a library has raised the
    recursion limit.
    """
    if content.count(b"[") + content.count(b"{") > _MAX_BRACKETS:
        return None
    try:
        return json.loads(content.decode("utf-8-sig", "replace"), parse_int=_parse_integer)
    except (ValueError, RecursionError):
        return None


def read_completion(body: object, assumed: Usage, largest: Usage) -> Reading | None:
    """The completion in `body`; None when it is no chat completion.

    `assumed` has the counts to use where one is missing, `largest` the counts that a request can have at all: a larger
    one is absurd.
    """
    choices = body.get("choices") if isinstance(body, Mapping) else None
    if not isinstance(body, Mapping) or not isinstance(choices, list) or not choices:
        return None
    first = choices[0] if isinstance(choices[0], Mapping) else {}
    given = first.get("message")
    message = given if isinstance(given, Mapping) else {}
    text, no_answer = _extract_text(message.get("content"))
    usage, is_told = read_usage(body.get("usage"), assumed, largest, text)
    if len(choices) > 1:
        no_answer = f"{len(choices)} answers where one was asked for"
    return Reading(text, _parse_finish_reason(first), usage, is_told, no_answer or _find_no_answer_reason(message))


def _parse_finish_reason(choice: Mapping[str, Any]) -> str:
    """The finish reason in lower case. A gateway may report "stop" where its provider cut the answer off, so the
    native reason is read too."""
    finish, native = choice.get("finish_reason"), choice.get("native_finish_reason")
    if isinstance(native, str) and native.strip().lower() in ("max_tokens", "length"):
        return "length"
    return finish.strip().lower() if isinstance(finish, str) else ""


def _find_no_answer_reason(message: Mapping[str, Any]) -> str | None:
    """Why the content is not the answer, by the fields beside it; None where it is."""
    if message.get("refusal"):
        return f"the model refused: {one_line(str(message['refusal']), 100)}"
    if message.get("tool_calls") or message.get("function_call"):
        return "the model called a tool"
    role = message.get("role")
    return None if role in (None, "assistant") else f"a message in the role of {one_line(str(role), 40)!r}"


def read_usage(reported: object, assumed: Usage, largest: Usage, text: str = "") -> tuple[Usage, bool]:
    """Tokens of one request, each count from `assumed` where it is missing or absurd; and whether all were reported.

    A count below what the prompt, or `text`, must have is absurd too. Reasoning tokens that are reported apart, or in
    the total alone, belong to the completion.
    """
    counts = reported if isinstance(reported, Mapping) else {}
    prompt = _parse_count(counts.get("prompt_tokens"), largest.prompt_tokens, largest.prompt_tokens // _MAX_TOKEN)
    completion = _parse_count(counts.get("completion_tokens"), largest.completion_tokens)
    if prompt is not None and completion is not None:
        completion = _count_completion_tokens(counts, prompt, completion, largest)
    if completion is not None and completion < len(text) // _MAX_TOKEN:
        completion = None
    details = counts.get("prompt_tokens_details")
    cached = _parse_count(details.get("cached_tokens"), prompt or 0) if isinstance(details, Mapping) else None
    usage = Usage(
        prompt_tokens=assumed.prompt_tokens if prompt is None else prompt,
        cached_tokens=cached or 0,
        completion_tokens=assumed.completion_tokens if completion is None else completion,
    )
    return usage, prompt is not None and completion is not None


def _count_completion_tokens(counts: Mapping[str, Any], prompt: int, completion: int, largest: Usage) -> int:
    details = counts.get("completion_tokens_details")
    reasoning = (
        _parse_count(details.get("reasoning_tokens"), largest.completion_tokens)
        if isinstance(details, Mapping)
        else None
    )
    total = _parse_count(counts.get("total_tokens"), prompt + largest.completion_tokens)
    # Reasoning that exceeds the completion cannot be a part of it, so it was reported apart.
    both = completion + reasoning if reasoning is not None and reasoning > completion else completion
    return min(max(completion, both, (total or 0) - prompt), largest.completion_tokens)


def _parse_count(value: object, largest: int, least: int = 0) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= largest:
        return None
    return int(value) if value == int(value) else None


def _extract_text(content: object) -> tuple[str, str | None]:
    """The text of the content, without its parts of reasoning, and the reason for which that is no answer."""
    if isinstance(content, str):
        return content, None
    parts: list[Any] = content if isinstance(content, list) else [content]
    text = ""
    for part in parts:
        if _is_text(part):
            text += part if isinstance(part, str) else part["text"]
        elif text and part is not None:
            return text, "a thought or a refusal after the answer"
    return text, None


def _is_text(part: Any) -> bool:
    if isinstance(part, str):
        return True
    if not isinstance(part, Mapping) or not isinstance(part.get("text"), str) or part.get("thought"):
        return False
    return part.get("type", "text") in _TEXT_PARTS


def _parse_integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_INTEGER else float(digits[:400])
