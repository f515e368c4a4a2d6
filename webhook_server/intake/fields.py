"""The types of a signal's fields: what may stand in each, and what it is understood as."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, ValidationInfo

from engine.domain import decimals, symbol_names
from engine.domain.signal import SignalAction
from engine.domain.signal_payload import MAX_USD, MIN_SIZE
from engine.platform.plain_text import sanitize_for_storage
from webhook_server.intake import actions, ascii_case, field_reasons, numerals, symbols

# Numbers below are seconds since 1970 (up to the year 5138), those above are milliseconds (from 1973).
MIN_MILLISECONDS: Final = 100_000_000_000
_ISO: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?( ?(Z|[+-][0-9]{2}:?[0-9]{2}))?)?",
    re.IGNORECASE,
)

# As validation context, where an order comes from. Without one it is made by us, or stored and not sent to a venue.
# As it came: spellings are understood, and everything is checked.
FROM_SENDER: Final = object()
EXIT_FROM_SENDER: Final = object()
_SENDER_CONTEXTS: Final = (FROM_SENDER, EXIT_FROM_SENDER)
# Stored, and may be at a venue: whether senders may still write this is no question any more.
WAS_SENT: Final = object()


def _parse_action(value: object) -> object:
    return value if isinstance(value, SignalAction) else actions.parse_action(value)


def _parse_symbol(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str) or info.context not in _SENDER_CONTEXTS:
        return _to_upper(value)
    try:
        return symbol_names.read_symbol(value, is_exit=info.context is EXIT_FROM_SENDER)
    except ValueError as error:
        raise ValueError(f"{error}; {symbols.ACCEPTED_FORMS}") from None


def _to_lower(value: object) -> object:
    word = ascii_case.lower(value)
    return value if word is None else word


def _to_upper(value: object) -> object:
    """Letters of other alphabets stay as they are, and are refused."""
    word = ascii_case.upper(value)
    return value if word is None else word


def _parse_number(value: object, info: ValidationInfo) -> object:
    """What is stored may have an exponent in its text."""
    return numerals.parse_decimal(value) if info.context in _SENDER_CONTEXTS else value


def _parse_whole_number(value: object, info: ValidationInfo) -> object:
    return numerals.parse_whole_number(value) if info.context in _SENDER_CONTEXTS else value


def _parse_timestamp(value: object) -> object:
    """Milliseconds or seconds since 1970, as number or text, or ISO 8601."""
    if isinstance(value, str):
        text = value.strip(numerals.BLANKS)
        if _ISO.fullmatch(text):
            return text
        value = numerals.parse_decimal(text, wanted=field_reasons.NOT_A_TIMESTAMP)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return value
    if value < 0:
        raise ValueError("is before 1970")
    try:
        seconds = float(value)
        return datetime.fromtimestamp(seconds if seconds < MIN_MILLISECONDS else seconds / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        raise ValueError("is not a moment in time") from None


def _to_utc(value: datetime) -> datetime:
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:  # the first or last hours of the calendar, with an offset
        raise ValueError("is not a moment in time") from None


def _check_storable(value: str) -> str:
    if sanitize_for_storage(value) != value:
        raise ValueError(field_reasons.NOT_STORABLE)
    return value


def truncated_text(limit: int) -> AfterValidator:
    """Text that can be stored, cut after `limit` characters."""
    return AfterValidator(lambda value: _check_storable(value)[:limit])


def are_equal(values: Iterable[object]) -> bool:
    """Whether all `values`, as read from JSON, say the same: 100 is "100.0", and long is LONG."""
    return len({_normalize(value) for value in values}) < 2


def _normalize(value: object) -> object:
    if isinstance(value, bool):
        return str(value).casefold()
    try:
        number = numerals.parse_decimal(value)
    except ValueError:
        number = None
    return Decimal(str(number)) if isinstance(number, int | float | Decimal) else str(value).strip().casefold()


_NUMBER: Any = BeforeValidator(_parse_number)
Usd = Annotated[Decimal, _NUMBER, Field(ge=0, le=MAX_USD)]
Price = Annotated[Decimal, _NUMBER, Field(ge=decimals.MIN_STEP, le=MAX_USD)]
Percent = Annotated[Decimal, _NUMBER, Field(ge=MIN_SIZE, lt=100)]
TakeProfitPercent = Annotated[Decimal, _NUMBER, Field(ge=MIN_SIZE, le=1000)]
PositionPercent = Annotated[Decimal, _NUMBER, Field(gt=0, le=100)]
Confidence = Annotated[float, _NUMBER, Field(ge=0, le=1)]
Leverage = Annotated[int, BeforeValidator(_parse_whole_number), Field(ge=1, le=125)]
Timestamp = Annotated[datetime, BeforeValidator(_parse_timestamp), AfterValidator(_to_utc)]
Action = Annotated[SignalAction, BeforeValidator(_parse_action)]
Symbol = Annotated[str, BeforeValidator(_parse_symbol), StringConstraints(pattern=symbol_names.PATTERN)]
Exchange = Annotated[str, BeforeValidator(_to_lower), StringConstraints(pattern=r"^[a-z0-9]{2,30}$")]
UPPER = BeforeValidator(_to_upper)
LOWER = BeforeValidator(_to_lower)
