"""The types of a signal's fields: what may stand in each, and what it is understood as."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, ValidationInfo

from engine.types import SignalAction
from webhook_server import actions, numerals, symbols

LARGEST_USD: Final = Decimal(1_000_000_000)
SMALLEST: Final = Decimal("0.00000001")  # what the books tell apart
SECONDS_END: Final = (
    100_000_000_000  # numbers below are seconds since 1970 (year 5138), those above milliseconds (1973)
)
_ISO: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?( ?(Z|[+-][0-9]{2}:?[0-9]{2}))?)?",
    re.IGNORECASE,
)

# As validation context, where an order comes from. Without one it is made by us, or stored and not sent to a venue.
FROM_SENDER: Final = object()  # as it came: spellings are understood, and everything is checked
EXIT_FROM_SENDER: Final = object()
_SENT: Final = (FROM_SENDER, EXIT_FROM_SENDER)
SYMBOL: Final = re.compile(r"[A-Z0-9_]{2,30}")
WAS_SENT: Final = (
    object()
)  # stored, and may be at a venue: whether senders may still write this is no question any more


def _action(value: object) -> object:
    return value if isinstance(value, SignalAction) else actions.action_of(value)


def _symbol(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str) or info.context not in _SENT:
        return _upper(value)
    try:
        return symbols.canonical(value)
    except ValueError:
        written = _upper(value)
        if info.context is EXIT_FROM_SENDER and isinstance(written, str) and SYMBOL.fullmatch(written):
            return written  # it may be held under the exchange's own name; if not, it is refused as not listed
        raise


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) and value.isascii() else value


def _upper(value: object) -> object:
    """Letters of other alphabets stay as they are, and are refused: some become ASCII when their case changes."""
    return value.strip().upper() if isinstance(value, str) and value.isascii() else value


def _number(value: object, info: ValidationInfo) -> object:
    """What is stored may have an exponent in its text."""
    return numerals.from_text(value) if info.context in _SENT else value


def _whole_number(value: object, info: ValidationInfo) -> object:
    return numerals.whole_from_text(value) if info.context in _SENT else value


def _moment(value: object) -> object:
    """Milliseconds or seconds since 1970, as number or text, or ISO 8601."""
    if isinstance(value, str):
        text = value.strip(numerals.BLANKS)
        if _ISO.fullmatch(text):
            return text
        value = numerals.from_text(text, wanted="must be ISO 8601, or seconds or milliseconds since 1970")
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return value
    if value < 0:
        raise ValueError("is before 1970")
    try:
        seconds = float(value)
        return datetime.fromtimestamp(seconds if seconds < SECONDS_END else seconds / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        raise ValueError("is not a moment in time") from None


def _in_utc(value: datetime) -> datetime:
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:  # the first or last hours of the calendar, with an offset
        raise ValueError("is not a moment in time") from None


def _storable(value: str) -> str:
    """PostgreSQL keeps neither NUL nor half of a surrogate pair."""
    if "\x00" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError("has characters that cannot be stored")
    return value


def shortened(limit: int) -> AfterValidator:
    """Text that can be stored, cut after `limit` characters."""
    return AfterValidator(lambda value: _storable(value)[:limit])


_NUMBER: Any = BeforeValidator(_number)
Usd = Annotated[Decimal, _NUMBER, Field(ge=0, le=LARGEST_USD)]
Price = Annotated[Decimal, _NUMBER, Field(ge=SMALLEST, le=LARGEST_USD)]
Percent = Annotated[Decimal, _NUMBER, Field(ge=SMALLEST, lt=100)]
Gain = Annotated[Decimal, _NUMBER, Field(ge=SMALLEST, le=1000)]
Share = Annotated[Decimal, _NUMBER, Field(gt=0, le=100)]
Confidence = Annotated[float, _NUMBER, Field(ge=0, le=1)]
Leverage = Annotated[int, BeforeValidator(_whole_number), Field(ge=1, le=125)]
Moment = Annotated[datetime, BeforeValidator(_moment), AfterValidator(_in_utc)]
Action = Annotated[SignalAction, BeforeValidator(_action)]
Symbol = Annotated[str, BeforeValidator(_symbol), StringConstraints(pattern=r"^[A-Z0-9_]{2,30}$")]
Exchange = Annotated[str, BeforeValidator(_lower), StringConstraints(pattern=r"^[a-z0-9]{2,30}$")]
UPPER = BeforeValidator(_upper)
LOWER = BeforeValidator(_lower)
