"""The types of a signal's fields: what is accepted, what it becomes, and its JSON Schema."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from engine.domain import decimals, symbol_names
from engine.domain.positions import MAX_LEVERAGE, MAX_USD
from engine.domain.signal import SignalAction
from engine.domain.signal_payload import MIN_SIZE
from engine.platform.plain_text import sanitize_for_storage
from engine.platform.settings.setting_types import VENUE_NAME_PATTERN
from webhook_server.intake import actions, field_reasons, sent_values

# Smaller numbers are seconds since 1970 (up to the year 5138), larger ones milliseconds (from 1973).
MIN_MILLISECONDS: Final = 100_000_000_000
_ISO: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?( ?(Z|[+-][0-9]{2}:?[0-9]{2}))?)?",
    re.IGNORECASE,
)

# Validation contexts: where a signal comes from. None: made by this server, or stored and not sent to a venue yet.
# From a sender: spellings are normalized and every rule is checked.
FROM_SENDER: Final = object()
EXIT_FROM_SENDER: Final = object()
_SENDER_CONTEXTS: Final = (FROM_SENDER, EXIT_FROM_SENDER)
# Stored, and possibly executed by a venue: today's rules do not apply, since a fill has to be booked anyway.
MAY_HAVE_BEEN_SENT: Final = object()


def _parse_action(value: object) -> object:
    return value if isinstance(value, SignalAction) else actions.parse_action(value)


def _parse_symbol(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str) or info.context not in _SENDER_CONTEXTS:
        return _to_upper(value)
    try:
        return symbol_names.read_symbol(value, is_exit=info.context is EXIT_FROM_SENDER)
    except ValueError as error:
        raise ValueError(f"{error}; {symbol_names.ACCEPTED_FORMS}") from None


def _to_lower(value: object) -> object:
    word = sent_values.to_lower(value)
    return value if word is None else word


def _to_upper(value: object) -> object:
    # Text with letters of other alphabets stays as it is, and is refused by the pattern.
    word = sent_values.to_upper(value)
    return value if word is None else word


def _parse_number(value: object, info: ValidationInfo) -> object:
    # A stored Decimal may have an exponent in its text, which is refused from senders.
    return sent_values.parse_decimal(value) if info.context in _SENDER_CONTEXTS else value


def _parse_whole_number(value: object, info: ValidationInfo) -> object:
    return sent_values.parse_whole_number(value) if info.context in _SENDER_CONTEXTS else value


def _parse_timestamp(value: object) -> object:
    """Seconds or milliseconds since 1970 as number or text, or ISO 8601; raises ValueError that continues the name."""
    if isinstance(value, str):
        text = value.strip(sent_values.BLANKS)
        if _ISO.fullmatch(text):
            return text
        value = sent_values.parse_decimal(text, wanted=field_reasons.NOT_A_TIMESTAMP)
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


def truncate_text(limit: int) -> AfterValidator:
    """A validator for text that can be stored; it cuts the text after `limit` characters."""
    return AfterValidator(lambda value: _check_storable(value)[:limit])


def are_equal(values: Iterable[object]) -> bool:
    """Whether all `values`, as parsed from JSON, mean the same: 100 equals "100.0", and long equals LONG."""
    return len({_normalize(value) for value in values}) < 2


def _normalize(value: object) -> object:
    if isinstance(value, bool):
        return str(value).casefold()
    try:
        number = sent_values.parse_decimal(value)
    except ValueError:
        number = None
    return Decimal(str(number)) if isinstance(number, int | float | Decimal) else str(value).strip().casefold()


class AlsoAsText:
    """Adds to a number's JSON Schema that it may be sent as text, which a validator before pydantic's own parses."""

    def __init__(self, text_schema: JsonSchemaValue) -> None:
        self._text_schema = text_schema

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        number = schema["anyOf"][0] if "anyOf" in schema else schema  # of a Decimal pydantic says number or any text
        return {"anyOf": [number, self._text_schema]}


# Bounds stand before the validator that reads text: after it, pydantic would not put them into the JSON Schema.
DECIMAL_TEXT: Final = {"type": "string", "pattern": r"^ *[0-9]{1,15}(\.[0-9]{1,15})? *$"}
WHOLE_TEXT: Final = {"type": "string", "pattern": "^ *[0-9]{1,30} *$"}
_DECIMAL: Any = BeforeValidator(_parse_number)
_AS_TEXT: Any = AlsoAsText(DECIMAL_TEXT)
Usd = Annotated[Decimal, Field(ge=0, le=MAX_USD), _DECIMAL, _AS_TEXT]
Price = Annotated[Decimal, Field(ge=decimals.MIN_STEP, le=MAX_USD), _DECIMAL, _AS_TEXT]
Percent = Annotated[Decimal, Field(ge=MIN_SIZE, lt=100), _DECIMAL, _AS_TEXT]
TakeProfitPercent = Annotated[Decimal, Field(ge=MIN_SIZE, le=1000), _DECIMAL, _AS_TEXT]
PositionPercent = Annotated[Decimal, Field(gt=0, le=100), _DECIMAL, _AS_TEXT]
Confidence = Annotated[float, Field(ge=0, le=1), _DECIMAL, _AS_TEXT]
Leverage = Annotated[int, Field(ge=1, le=MAX_LEVERAGE), BeforeValidator(_parse_whole_number), AlsoAsText(WHOLE_TEXT)]
Timestamp = Annotated[
    datetime, BeforeValidator(_parse_timestamp, json_schema_input_type=datetime | float), AfterValidator(_to_utc)
]
Action = Annotated[
    SignalAction,
    BeforeValidator(_parse_action),
    WithJsonSchema({"type": "string", "enum": list(actions.ACTION_WORDS), "description": "In any case"}),
]
Symbol = Annotated[
    str,
    BeforeValidator(_parse_symbol),
    StringConstraints(pattern=symbol_names.PATTERN),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^ *[A-Za-z0-9_.:/\u0620-\uffdc-]{2,50} *$",
            "examples": ["BTCUSDT", "BINANCE:BTCUSDT.P", "BTC/USDT:USDT"],
            "description": f"A linear perpetual; {symbol_names.ACCEPTED_FORMS}",
        }
    ),
]
Exchange = Annotated[
    str,
    BeforeValidator(_to_lower),
    StringConstraints(pattern=VENUE_NAME_PATTERN),
    WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9]{2,30}$", "examples": ["aster"]}),
]
UPPER = BeforeValidator(_to_upper)
LOWER = BeforeValidator(_to_lower)
