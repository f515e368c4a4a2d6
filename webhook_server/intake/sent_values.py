"""Single values as senders write them: numbers bounded before anything computes with them, words, placeholders.

Comparing, adding or converting a Decimal takes time in proportion to its exponent and holds the GIL: one signal with
1e999999999 could stop the whole server.
"""

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

MAX_JSON_DIGITS: Final = 50  # of a JSON number
MAX_TEXT_DIGITS: Final = 30
MAX_EXPONENT: Final = 324  # of a double: JSON libraries write 5e-324 and 1.8e308, and nothing beyond
BLANKS: Final = " \t\r\n"
_NUMERAL: Final = re.compile(r"[0-9]+(\.[0-9]+)?")
_WHOLE: Final = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class UnusableNumber:
    """A JSON number that no field can use; `reason` continues the field's name, `str()` gives the sent text."""

    sent: str = field(repr=False)
    reason: str

    def __str__(self) -> str:
        return self.sent


def parse_json_number(number: str) -> int | Decimal | UnusableNumber:
    """The value of a JSON number, exact."""
    mantissa, _, exponent = number.lower().partition("e")
    digits = sum(map(str.isdigit, mantissa)) if len(mantissa) <= MAX_JSON_DIGITS + 2 else len(mantissa)
    if digits > MAX_JSON_DIGITS or not _is_exponent_in_range(exponent):
        return UnusableNumber(
            number, f"has a number of over {MAX_JSON_DIGITS} digits, or an exponent beyond {MAX_EXPONENT}"
        )
    return int(number) if mantissa == number and "." not in number else Decimal(number)


def parse_json_constant(word: str) -> UnusableNumber:
    """The value of NaN, Infinity and -Infinity: JSON has none of them, but charting services send them."""
    return UnusableNumber(word, "has NaN or Infinity where a number belongs")


def parse_decimal(value: object, wanted: str = "must be a number; in text, digits with at most one point") -> object:
    """Text as Decimal; other values unchanged. Raises ValueError with `wanted` for a bool and other text."""
    return _parse_text(value, _NUMERAL, wanted)


def parse_whole_number(value: object) -> object:
    """As `parse_decimal`, for whole numbers only."""
    return _parse_text(value, _WHOLE, "must be a whole number; in text, digits only")


def find_unusable_reason(value: Any) -> str | None:
    """The reason of the first unusable number in `value` (as parsed from JSON, nested), or None."""
    if isinstance(value, UnusableNumber):
        return value.reason
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((reason for reason in map(find_unusable_reason, inner) if reason is not None), None)


def has_placeholder(value: object) -> bool:
    """Whether `value` still holds a placeholder of an alert's template, such as {{close}}."""
    return isinstance(value, str) and "{{" in value


def to_upper(value: object) -> str | None:
    """An ASCII word in upper case and stripped; None for anything else."""
    # str.upper would turn some letters of other alphabets into ASCII ones.
    return value.strip().upper() if isinstance(value, str) and value.isascii() else None


def to_lower(value: object) -> str | None:
    """As `to_upper`, in lower case."""
    return value.strip().lower() if isinstance(value, str) and value.isascii() else None


def _parse_text(value: object, pattern: re.Pattern[str], wanted: str) -> object:
    if isinstance(value, bool):
        raise ValueError(wanted)  # noqa: TRY004 - pydantic collects ValueErrors only
    if not isinstance(value, str):
        return value
    text = value.strip(BLANKS)
    if not pattern.fullmatch(text):
        raise ValueError(wanted)
    if len(text.replace(".", "")) > MAX_TEXT_DIGITS:
        raise ValueError(f"must have at most {MAX_TEXT_DIGITS} digits")
    return Decimal(text)


def _is_exponent_in_range(exponent: str) -> bool:
    digits = exponent.lstrip("+-").lstrip("0")
    return not digits or (len(digits) <= 3 and int(digits) <= MAX_EXPONENT)
