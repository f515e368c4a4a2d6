"""How long a server asks us to wait, in every form in which servers say it. Pure."""

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

MAX_WAIT_S: Final = 86_400.0
_UNITS_S: Final = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION: Final = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{1,12})?(?:ms|d|h|m|s))+", re.ASCII)
_PART: Final = re.compile(r"([0-9.]+)(ms|d|h|m|s)", re.ASCII)
_SECONDS: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?", re.ASCII)


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3): seconds, a duration, or an HTTP date.

    None when there is no header or it makes no sense; never negative, and never more than a day.
    """
    text = (value or "").strip()
    seconds = float(text) if _SECONDS.fullmatch(text) else duration_s(text)
    if seconds is None:
        seconds = _until(text, now)
    return None if seconds is None else min(max(seconds, 0.0), MAX_WAIT_S)


def duration_s(value: str) -> float | None:
    """Seconds in a duration such as ``2m59.56s``, ``7.66s``, ``120ms`` or ``1h2m``; None when it is none."""
    text = value.strip()
    if not _DURATION.fullmatch(text):
        return None
    return math.fsum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))


_WISH: Final = re.compile(
    r"\b(?:try again|retry|wait|available again|resets?)(?:[ -]\w{1,12}){0,3}?(?: in| after| for|-after)?:? "
    r"(?P<parts>[0-9][0-9,]{0,11}(?:\.[0-9]{1,12})? ?[a-z]{0,12}"
    r"(?:(?: and)? ?[0-9]{1,12}(?:\.[0-9]{1,12})? ?[a-z]{1,12}){0,4})\b(?!:)",
    re.IGNORECASE,
)
_WORD_PART: Final = re.compile(r"([0-9][0-9,]*(?:\.[0-9]+)?) ?([a-z]*)", re.IGNORECASE)
_WORD_UNITS_S: Final = {
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("", "s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3_600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
}


def retry_after_in_text(words: str) -> float | None:
    """Seconds that a sentence asks to wait, as in ``try again in 7m27.5s`` or ``wait 20 seconds``; None if none.

    Never more than a day.
    """
    found = _WISH.search(words)
    if found is None:
        return None
    seconds = 0.0
    for number, (amount, unit) in enumerate(_WORD_PART.findall(found["parts"])):
        unit_s = _WORD_UNITS_S.get(unit.lower())
        if unit_s is None:  # of something else than time, as in "try again after 3 attempts"
            return None if number == 0 else min(seconds, MAX_WAIT_S)
        seconds += float(amount.replace(",", "")) * unit_s
    return min(seconds, MAX_WAIT_S)


def _until(text: str, now: datetime) -> float | None:
    try:
        at = parsedate_to_datetime(text)
        return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
