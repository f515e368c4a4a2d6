"""Numbers as senders write them, bounded before anything computes with them.

Comparing, adding or converting a Decimal of a huge exponent takes as long as its exponent is large, and holds up all
threads of the process meanwhile.
"""

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

MOST_DIGITS: Final = 50  # of a JSON number
MOST_DIGITS_IN_TEXT: Final = 30
LARGEST_EXPONENT: Final = 324  # of a double: JSON libraries write 5e-324 and 1.8e308, and nothing beyond
BLANKS: Final = " \t\r\n"
_NUMERAL: Final = re.compile(r"[0-9]+(\.[0-9]+)?")
_WHOLE: Final = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class Unusable:
    """A number in JSON that no field can use; `reason` continues its field's name. As text it is what was sent."""

    sent: str = field(repr=False)
    reason: str

    def __str__(self) -> str:
        return self.sent


def from_json(number: str) -> int | Decimal | Unusable:
    """The value of a JSON number, exact."""
    mantissa, _, exponent = number.lower().partition("e")
    digits = sum(map(str.isdigit, mantissa)) if len(mantissa) <= MOST_DIGITS + 2 else len(mantissa)
    if digits > MOST_DIGITS or not _is_small(exponent):
        return Unusable(number, f"has a number of over {MOST_DIGITS} digits, or an exponent beyond {LARGEST_EXPONENT}")
    return int(number) if mantissa == number and "." not in number else Decimal(number)


def from_constant(word: str) -> Unusable:
    """What NaN, Infinity and -Infinity are, which JSON does not have and charting services write."""
    return Unusable(word, "has NaN or Infinity where a number belongs")


def from_text(value: object, wanted: str = "must be a number; in text, digits with at most one point") -> object:
    """A numeral in text as Decimal; anything else that is no bool as it is. Raises ValueError that says `wanted`."""
    return _from_text(value, _NUMERAL, wanted)


def whole_from_text(value: object) -> object:
    """As `from_text`, for whole numbers only."""
    return _from_text(value, _WHOLE, "must be a whole number; in text, digits only")


def reason_unusable(value: Any) -> str | None:
    """Why `value` (as read from JSON) or something in it is unusable, or None."""
    if isinstance(value, Unusable):
        return value.reason
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((reason for reason in map(reason_unusable, inner) if reason is not None), None)


def _from_text(value: object, pattern: re.Pattern[str], wanted: str) -> object:
    if isinstance(value, bool):
        raise ValueError(wanted)  # noqa: TRY004 - pydantic collects ValueErrors only
    if not isinstance(value, str):
        return value
    text = value.strip(BLANKS)
    if not pattern.fullmatch(text):
        raise ValueError(wanted)
    if len(text.replace(".", "")) > MOST_DIGITS_IN_TEXT:
        raise ValueError(f"must have at most {MOST_DIGITS_IN_TEXT} digits")
    return Decimal(text)


def _is_small(exponent: str) -> bool:
    digits = exponent.lstrip("+-").lstrip("0")
    return not digits or (len(digits) <= 3 and int(digits) <= LARGEST_EXPONENT)
