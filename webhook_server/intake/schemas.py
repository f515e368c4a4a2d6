"""The models of a signal: field names and their aliases, types and bounds, and rules across fields."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic.json_schema import SkipJsonSchema

from engine.domain.positions import Side
from engine.domain.signal import SignalAction
from engine.domain.signal_payload import MIN_SIZE
from webhook_server.intake import field_reasons, fields, unknown_fields

REQUEST_ID = re.compile(r"^[A-Za-z0-9._:~-]{1,100}$")
SET_BY_ROUTE = frozenset({"is_ai_signal", "exit_terms"})  # ignored in a sender's body
WHOLE_PERCENT: Final = Decimal(100)
_NOTE: Final = "A note, kept with the signal"
_TRAILING_STOP_NOTE: Final = "Every entry with it is refused: trailing stops are not kept"


class ExitTerms(BaseModel):
    """Price and venue time of an exit by the market on paper; see `engine.risk.liquidation.PaperExit`."""

    model_config = ConfigDict(frozen=True)

    price: Decimal
    at_ms: int
    fee_usd: Decimal | None = None


class WebhookSignal(BaseModel):
    """A validated signal, as the pipeline executes it and `webhook_requests.payload` stores it.

    Sizes are USD of notional, percents 0 to 100, moments in UTC. Every entry has a `position_size_usd`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    user_id: UUID | None = Field(default=None, validation_alias=AliasChoices("user_id", "userId"))
    exchange: fields.Exchange
    symbol: fields.Symbol
    action: fields.Action
    position_size_usd: fields.Usd | None = Field(
        default=None, validate_default=True, validation_alias=AliasChoices("position_size_usd", "size", "size_usd")
    )
    sell_percentage: fields.PositionPercent = WHOLE_PERCENT
    stop_loss_percent: fields.Percent | None = None
    take_profit_percent: fields.TakeProfitPercent | None = None
    use_trailing_stop: bool = Field(
        default=False,
        validation_alias=AliasChoices("useTrailingStop", "use_trailing_stop"),
        description=f"{_TRAILING_STOP_NOTE}; false is the same as none",
    )
    trailing_stop_percent: fields.Percent | None = Field(default=None, description=_TRAILING_STOP_NOTE)
    order_type: Annotated[Literal["MARKET", "LIMIT"], fields.UPPER] = Field(
        default="MARKET", validation_alias=AliasChoices("order_type", "orderType")
    )
    price: fields.Price | None = Field(default=None, validate_default=True)
    leverage: fields.Leverage = 1
    strategy_id: UUID | None = None
    environment: Annotated[Literal["production", "testnet", "paper"], fields.LOWER] | None = None
    timestamp: fields.Timestamp | None = None
    expires_at: fields.Timestamp | None = None
    signal_id: Annotated[str, StringConstraints(strip_whitespace=True, pattern=REQUEST_ID)] | None = None
    strategy: Annotated[str, fields.truncate_text(200)] | None = Field(default=None, description=_NOTE)
    source: Annotated[str, fields.truncate_text(100)] | None = Field(default=None, description=_NOTE)
    ai_confidence: fields.Confidence | None = Field(default=None, description=_NOTE)
    ai_reasoning: Annotated[str, fields.truncate_text(1000)] | None = Field(default=None, description=_NOTE)
    is_ai_signal: SkipJsonSchema[bool] = False  # kept in the payload, so that a resumed request has it too
    exit_terms: SkipJsonSchema[ExitTerms | None] = None  # of the server's own exits on paper; kept likewise

    @property
    def is_entry(self) -> bool:
        return self.action is not SignalAction.CLOSE

    @property
    def is_whole_exit(self) -> bool:
        return not self.is_entry and self.sell_percentage >= WHOLE_PERCENT

    @property
    def side(self) -> Side:
        """The side of the position that an entry makes."""
        return Side.LONG if self.action is SignalAction.BUY else Side.SHORT

    # A rule across fields is a validator of one field: a model validator runs only when every field is valid, and the
    # sender would learn of one fault after the other.

    @field_validator("position_size_usd")
    @classmethod
    def _check_size(cls, size_usd: Any, info: ValidationInfo) -> Any:
        if _is_checked_entry(info) and (size_usd or 0) < MIN_SIZE:
            raise ValueError(
                "is missing; an entry needs it, above 0" if size_usd is None else field_reasons.MUST_BE_ABOVE_ZERO
            )
        return size_usd

    @field_validator("take_profit_percent")
    @classmethod
    def _check_take_profit(cls, percent: Any, info: ValidationInfo) -> Any:
        if _is_checked_entry(info) and info.data["action"] is SignalAction.SELL and (percent or 0) >= 100:
            raise ValueError("must be below 100 for a short, whose price ends at 0")
        return percent

    @field_validator("use_trailing_stop")
    @classmethod
    def _reject_trailing_stop(cls, is_used: Any, info: ValidationInfo) -> Any:
        if is_used and info.context is not fields.MAY_HAVE_BEEN_SENT:
            raise ValueError(unknown_fields.TRAILING)
        return is_used

    @field_validator("trailing_stop_percent")
    @classmethod
    def _reject_trailing_distance(cls, percent: Any, info: ValidationInfo) -> Any:
        # Only from senders: signals that older versions stored may have it.
        if percent is not None and info.context is fields.FROM_SENDER:
            raise ValueError(unknown_fields.TRAILING)
        return percent

    @field_validator("price")
    @classmethod
    def _check_limit_price(cls, price: Any, info: ValidationInfo) -> Any:
        if _is_checked_entry(info) and info.data.get("order_type") == "LIMIT" and price is None:
            raise ValueError("is missing; a LIMIT order needs it")
        return price


class AiSignal(WebhookSignal):
    """The body of POST /webhook/ai-signal: `user_id` is required, and the strategy's entry rules apply."""

    user_id: UUID = Field(validation_alias=AliasChoices("user_id", "userId"))
    is_ai_signal: SkipJsonSchema[Literal[True]] = True


def load_stored_signal(payload: Mapping[str, Any], *, may_have_traded: bool) -> WebhookSignal:
    """The signal in a row's `payload`. Raises ValidationError.

    With `may_have_traded` today's rules for senders do not apply: what an older version sent to a venue must be booked.
    """
    return WebhookSignal.model_validate(payload, context=fields.MAY_HAVE_BEEN_SENT if may_have_traded else None)


def list_accepted_names(field: str) -> list[str]:
    """The names under which senders may write the field of that name; the first is the one to document."""
    alias = WebhookSignal.model_fields[field].validation_alias
    return [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [field]


def _is_checked_entry(info: ValidationInfo) -> bool:
    return info.context is not fields.MAY_HAVE_BEEN_SENT and info.data.get("action") in {
        SignalAction.BUY,
        SignalAction.SELL,
    }
