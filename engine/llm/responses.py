"""Reads a chat completion as providers really send it: parts missing, null, of another type or absurd. Pure."""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from engine.types import Usage

_LONGEST_INTEGER: Final = 18  # digits; Python refuses to read thousands of them
_MOST_BRACKETS: Final = 5_000
_TEXT_PARTS: Final = frozenset({"text", "output_text"})


class Reading(NamedTuple):
    """A completion. `finish` is the provider's `finish_reason`, None where it told none. `text` is None when there was
    no content at all.

    `usage` is what the request used, at the most where that was not told or cannot be; `is_usage_told` says which.
    """

    text: str | None
    finish: str | None
    usage: Usage
    is_usage_told: bool
    choices: int


def read_json(content: bytes) -> object:
    """The JSON value of a body, None for what is none. An integer of more than 18 digits is read as a float.

    What is nested without measure is none: Python's parser would use up the stack, where a library has raised the limit
    of recursion.
    """
    if content.count(b"[") + content.count(b"{") > _MOST_BRACKETS:
        return None
    try:
        return json.loads(content, parse_int=_integer)
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
    message = first.get("message")
    finish = first.get("finish_reason")
    usage, is_told = read_usage(body.get("usage"), most, largest)
    return Reading(
        text=_text(message.get("content") if isinstance(message, Mapping) else None),
        finish=finish if isinstance(finish, str) else None,
        usage=usage,
        is_usage_told=is_told,
        choices=len(choices),
    )


def read_usage(told: object, most: Usage, largest: Usage) -> tuple[Usage, bool]:
    """Tokens of one request, each count at `most` where it is missing or senseless; and whether all were told."""
    counts = told if isinstance(told, Mapping) else {}
    prompt = _count(counts.get("prompt_tokens"), largest.prompt_tokens)
    completion = _count(counts.get("completion_tokens"), largest.completion_tokens)
    details = counts.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens"), prompt or 0) if isinstance(details, Mapping) else None
    usage = Usage(
        prompt_tokens=most.prompt_tokens if prompt is None else prompt,
        cached_tokens=cached or 0,
        completion_tokens=most.completion_tokens if completion is None else completion,
    )
    return usage, prompt is not None and completion is not None


def _count(value: object, largest: int) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= largest:
        return None
    return int(value) if value == int(value) else None


def _text(content: object) -> str | None:
    """The content, or the pieces of it that are text: pieces of thinking are none."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else None
    pieces = [_piece(part) for part in content]
    return "".join(pieces) if pieces else None


def _piece(part: Any) -> str:
    if isinstance(part, str):
        return part
    is_text = isinstance(part, Mapping) and part.get("type") in _TEXT_PARTS and isinstance(part.get("text"), str)
    return str(part["text"]) if is_text else ""


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits[:400])
