"""Reads a chat completion as providers really send it: parts missing, null, of another type or absurd. Pure."""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from engine.domain.completion import Usage
from engine.platform.plain_text import one_line

_MAX_INTEGER: Final = 18  # digits; Python refuses to read thousands of them
_MAX_BRACKETS: Final = 5_000
_MAX_TOKEN: Final = 16  # bytes on the average of a text: no vocabulary does as well
_TEXT_PARTS: Final = frozenset({"text", "output_text"})


class Reading(NamedTuple):
    """A completion. `finish` is the provider's `finish_reason` in small letters, empty where it told none.

    `usage` is what the request used, at the most where that was not told or cannot be; `is_usage_told` says which.
    `no_answer` says why the text is not the model's answer, whatever it looks like.
    """

    text: str
    finish: str
    usage: Usage
    is_usage_told: bool
    no_answer: str | None = None


def read_json(content: bytes) -> object:
    """The JSON value of a body, None for what is none. An integer of more than 18 digits is read as a float.

    What is nested without measure is none: Python's parser would use up the stack, where a library has raised the limit
    of recursion.
    """
    if content.count(b"[") + content.count(b"{") > _MAX_BRACKETS:
        return None
    try:
        return json.loads(content.decode("utf-8-sig", "replace"), parse_int=_integer)
    except (ValueError, RecursionError):
        return None


def read_completion(body: object, most: Usage, largest: Usage) -> Reading | None:
    """None when `body` is no chat completion.

    `most` is what a request is booked with whose use is not known, `largest` what it can have used at all: a larger
    count makes no sense.
    """
    choices = body.get("choices") if isinstance(body, Mapping) else None
    if not isinstance(body, Mapping) or not isinstance(choices, list) or not choices:
        return None
    first = choices[0] if isinstance(choices[0], Mapping) else {}
    given = first.get("message")
    message = given if isinstance(given, Mapping) else {}
    text, no_answer = _text(message.get("content"))
    usage, is_told = read_usage(body.get("usage"), most, largest, text)
    if len(choices) > 1:
        no_answer = f"{len(choices)} answers where one was asked for"
    return Reading(text, _finish(first), usage, is_told, no_answer or _said_beside(message))


def _finish(choice: Mapping[str, Any]) -> str:
    """A gateway may call finished what its model's provider cut off."""
    finish, native = choice.get("finish_reason"), choice.get("native_finish_reason")
    if isinstance(native, str) and native.strip().lower() in ("max_tokens", "length"):
        return "length"
    return finish.strip().lower() if isinstance(finish, str) else ""


def _said_beside(message: Mapping[str, Any]) -> str | None:
    """What stands beside the content and shows that it is not the answer."""
    if message.get("refusal"):
        return f"the model refused: {one_line(str(message['refusal']), 100)}"
    if message.get("tool_calls") or message.get("function_call"):
        return "the model called a tool"
    role = message.get("role")
    return None if role in (None, "assistant") else f"a message in the role of {one_line(str(role), 40)!r}"


def read_usage(told: object, most: Usage, largest: Usage, text: str = "") -> tuple[Usage, bool]:
    """Tokens of one request, each count at `most` where it is missing or senseless; and whether all were told.

    Senseless is also what is less than the prompt, or `text`, can have been. What is told of thoughts apart, or in the
    total alone, is a part of the completion.
    """
    counts = told if isinstance(told, Mapping) else {}
    prompt = _count(counts.get("prompt_tokens"), largest.prompt_tokens, largest.prompt_tokens // _MAX_TOKEN)
    completion = _count(counts.get("completion_tokens"), largest.completion_tokens)
    if prompt is not None and completion is not None:
        completion = _whole_completion(counts, prompt, completion, largest)
    if completion is not None and completion < len(text) // _MAX_TOKEN:
        completion = None
    details = counts.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens"), prompt or 0) if isinstance(details, Mapping) else None
    usage = Usage(
        prompt_tokens=most.prompt_tokens if prompt is None else prompt,
        cached_tokens=cached or 0,
        completion_tokens=most.completion_tokens if completion is None else completion,
    )
    return usage, prompt is not None and completion is not None


def _whole_completion(counts: Mapping[str, Any], prompt: int, completion: int, largest: Usage) -> int:
    details = counts.get("completion_tokens_details")
    thought = (
        _count(details.get("reasoning_tokens"), largest.completion_tokens) if isinstance(details, Mapping) else None
    )
    total = _count(counts.get("total_tokens"), prompt + largest.completion_tokens)
    apart = completion + thought if thought is not None and thought > completion else completion
    return min(max(completion, apart, (total or 0) - prompt), largest.completion_tokens)


def _count(value: object, largest: int, least: int = 0) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= largest:
        return None
    return int(value) if value == int(value) else None


def _text(content: object) -> tuple[str, str | None]:
    """The content, or the pieces of it that are text: pieces of thinking are none. And why that is no answer."""
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


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_INTEGER else float(digits[:400])
