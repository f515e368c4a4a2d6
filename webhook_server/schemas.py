"""What a sender may write, and the one `Order` that all of it becomes: bounded, normalised, nothing guessed."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from engine.errors import SparkyError
from engine.types import Side, SignalAction

LARGEST_USD = Decimal(1_000_000_000)
SECONDS_END = 100_000_000_000  # numbers below are seconds since 1970 (year 5138), those above milliseconds (1973)
REQUEST_ID = re.compile(r"^[A-Za-z0-9._:~-]{1,100}$")
_WAS_SENT = object()  # as validation context: whether senders may still write this is no question any more
_ACTIONS = {"LONG": "BUY", "SHORT": "SELL"}
SET_BY_ROUTE = frozenset({"is_ai_signal"})  # no sender's to write: what was sent under such a name means nothing


class FieldError(SparkyError, ValueError):
    """A field that cannot be used; `where` is its name as the sender writes it."""

    def __init__(self, where: str, message: str) -> None:
        super().__init__(message)
        self.where = where
        self.message = message


def _action(value: object) -> object:
    word = _upper(value)
    return _ACTIONS.get(word, word) if isinstance(word, str) else word


def _symbol(value: object) -> object:
    """Charting services write BINANCE:BTCUSDT, and BTCUSDT.P for a perpetual."""
    word = _upper(value)
    return word.rsplit(":", 1)[-1].removesuffix(".P") if isinstance(word, str) else word


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) and value.isascii() else value


def _upper(value: object) -> object:
    """Letters of other alphabets stay as they are, and are refused: some become ASCII when their case changes."""
    return value.strip().upper() if isinstance(value, str) and value.isascii() else value


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic collects ValueErrors only
    return value.strip() if isinstance(value, str) else value


def _moment(value: object) -> object:
    """Milliseconds or seconds since 1970, as number or text, or ISO 8601."""
    if isinstance(value, str):
        text = value.strip()
        if not text.replace(".", "", 1).isdecimal():
            return text
        value = Decimal(text)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return value
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


def _shortened(limit: int) -> AfterValidator:
    return AfterValidator(lambda value: _storable(value)[:limit])


Usd = Annotated[Decimal, BeforeValidator(_number), Field(ge=0, le=LARGEST_USD)]
Price = Annotated[Decimal, BeforeValidator(_number), Field(gt=0, le=LARGEST_USD)]
Percent = Annotated[Decimal, BeforeValidator(_number), Field(gt=0, lt=100)]
Gain = Annotated[Decimal, BeforeValidator(_number), Field(gt=0, le=1000)]
Share = Annotated[Decimal, BeforeValidator(_number), Field(gt=0, le=100)]
Moment = Annotated[datetime, BeforeValidator(_moment), AfterValidator(_in_utc)]
Symbol = Annotated[str, BeforeValidator(_symbol), StringConstraints(pattern=r"^[A-Z0-9_]{2,30}$")]
Exchange = Annotated[str, BeforeValidator(_lower), StringConstraints(pattern=r"^[a-z0-9]{2,30}$")]
RequestId = Annotated[str, StringConstraints(strip_whitespace=True, pattern=REQUEST_ID)]


class Order(BaseModel):
    """A signal as the pipeline works on it; also the shape in which `webhook_requests.payload` keeps it.

    Sizes in USD of notional, percents as 0 to 100, moments in UTC. `position_size_usd` is present for every entry.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    exchange: Exchange
    symbol: Symbol
    action: Annotated[SignalAction, BeforeValidator(_action)]
    user_id: UUID | None = Field(default=None, validation_alias=AliasChoices("user_id", "userId"))
    position_size_usd: Usd | None = Field(
        default=None, validation_alias=AliasChoices("position_size_usd", "size", "size_usd")
    )
    sell_percentage: Share = Decimal(100)
    stop_loss_percent: Percent | None = None
    take_profit_percent: Gain | None = None
    use_trailing_stop: bool = Field(
        default=False, validation_alias=AliasChoices("useTrailingStop", "use_trailing_stop")
    )
    trailing_stop_percent: Percent | None = None
    strategy_id: UUID | None = None
    strategy: Annotated[str, _shortened(200)] | None = None
    order_type: Annotated[Literal["MARKET", "LIMIT"], BeforeValidator(_upper)] = Field(
        default="MARKET", validation_alias=AliasChoices("order_type", "orderType")
    )
    price: Price | None = None
    leverage: Annotated[int, BeforeValidator(_number), Field(ge=1, le=125)] = 1
    environment: Annotated[Literal["production", "testnet", "paper"], BeforeValidator(_lower)] | None = None
    timestamp: Moment | None = None
    expires_at: Moment | None = None
    signal_id: RequestId | None = None
    source: Annotated[str, _shortened(100)] | None = None
    ai_confidence: Annotated[float, BeforeValidator(_number), Field(ge=0, le=1)] | None = None
    ai_reasoning: Annotated[str, _shortened(1000)] | None = None
    is_ai_signal: bool = False  # kept in the payload, so that a resumed request knows it too

    @property
    def is_entry(self) -> bool:
        return self.action is not SignalAction.CLOSE

    @property
    def side(self) -> Side:
        """The side of the position that an entry makes."""
        return Side.LONG if self.action is SignalAction.BUY else Side.SHORT

    @model_validator(mode="after")
    def _whole(self, info: ValidationInfo) -> Self:
        if info.context is _WAS_SENT:
            return self
        if self.is_entry and not self.position_size_usd:
            raise FieldError("position_size_usd", "an entry needs a size above 0")
        if self.is_entry and self.order_type == "LIMIT" and self.price is None:
            raise FieldError("price", "a LIMIT order needs a price")
        if self.action is SignalAction.SELL and (self.take_profit_percent or 0) >= 100:
            raise FieldError("take_profit_percent", "must be below 100 for a short, whose price ends at 0")
        if self.use_trailing_stop:
            raise FieldError("useTrailingStop", "trailing stops are not kept; send stop_loss_percent instead")
        return self


class AiSignal(Order):
    """Body of POST /webhook/ai-signal: who sends is always named, and the entry rules of its strategy bind it."""

    user_id: UUID = Field(validation_alias=AliasChoices("user_id", "userId"))
    is_ai_signal: Literal[True] = True


def parse(body: Mapping[str, Any], schema: type[Order]) -> Order:
    """The order in `body` (no secret in it). Raises FieldError with the name of the first field that is wrong."""
    try:
        return schema.model_validate(_of_one_mind(_without_blanks(body)))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        cause = fault.get("ctx", {}).get("error")
        if isinstance(cause, FieldError):
            raise cause from None
        where = str(fault["loc"][0]) if fault["loc"] else "body"
        raise FieldError(where, str(fault["msg"]).removeprefix("Value error, ")) from None


def restored(payload: Mapping[str, Any], *, may_have_traded: bool) -> Order:
    """The order that `webhook_requests` keeps. Raises ValidationError.

    What an older version accepted and sent is read whatever is asked of senders by now: it has to be booked.
    """
    return Order.model_validate(payload, context=_WAS_SENT if may_have_traded else None)


def unknown_fields(body: Mapping[str, Any]) -> list[str]:
    """Names in `body` that mean nothing to us, shortened for the log."""
    return sorted(repr(name[:60]) for name in body if name not in _KNOWN)


def _without_blanks(body: Mapping[str, Any]) -> dict[str, Any]:
    """Alert templates leave fields that they cannot fill empty: that is absence, as null is."""
    return {
        name: value for name, value in body.items() if value is not None and value != "" and name not in SET_BY_ROUTE
    }


def _of_one_mind(body: dict[str, Any]) -> dict[str, Any]:
    """`body`, unless it says two things under two names of one field."""
    for choices in _CHOICES:
        given = [name for name in choices if name in body]
        if len({str(body[name]) for name in given}) > 1:
            raise FieldError(given[-1], f"differs from {given[0]}, which means the same")
    return body


_CHOICES = [
    [str(choice) for choice in field.validation_alias.choices]
    for field in Order.model_fields.values()
    if isinstance(field.validation_alias, AliasChoices)
]
_KNOWN = set(Order.model_fields).union(*_CHOICES) - SET_BY_ROUTE
