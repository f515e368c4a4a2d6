"""The body of a signal on its way to the webhook server: one model for everything in Sparky that sends one.

The webhook server reads it by `webhook_server/intake/schemas.py`, which understands other senders too;
tests/webhook_server/intake/test_signal_payload.py holds the two together.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, ValidationInfo, field_validator

from engine.domain import symbol_names
from engine.domain.decimals import format_plain
from engine.domain.decision import Decision
from engine.domain.positions import MAX_USD, Position
from engine.domain.signal import SIGNAL_ACTIONS, SignalAction
from engine.domain.strategy import Strategy
from engine.platform.plain_text import sanitize_for_storage
from engine.platform.validation_errors import fault_message
from engine.platform.values import Frozen, Utc

# Less of a size or of a percentage is a mistake; prices may be as small as any tick.
MIN_SIZE: Final = Decimal("0.00000001")
MAX_REASONING: Final = 1000
_EXCHANGE: Final = re.compile(r"[A-Za-z0-9]{2,30}")
_MAX_PLACES: Final = 20  # with the digits before the point fewer than the webhook server reads of one number


class UnsendableSignal(ValueError):
    """The webhook server would refuse the signal; one sentence names each field that is wrong."""


class SignalSource(StrEnum):
    """Which part of Sparky sends the signal."""

    AI_ENGINE = "ai_engine_v1"
    KILL_SWITCH = "kill_switch"


def _check_exchange(name: str) -> str:
    name = name.strip()
    if not _EXCHANGE.fullmatch(name):
        raise ValueError("must be 2 to 30 letters and digits")
    return name


def _drop_blank(text: object) -> object:
    """Text as it can be stored; None for a blank one, which the webhook server takes for absent."""
    if not isinstance(text, str):
        return text
    return sanitize_for_storage(text) if text.strip() else None


_Size = Annotated[Decimal, Field(ge=MIN_SIZE, le=MAX_USD, decimal_places=_MAX_PLACES)]
_StopPercent = Annotated[Decimal, Field(ge=MIN_SIZE, lt=100, decimal_places=_MAX_PLACES)]
_TakeProfitPercent = Annotated[Decimal, Field(ge=MIN_SIZE, le=1000, decimal_places=_MAX_PLACES)]
_Reasoning = Annotated[Annotated[str, Field(max_length=MAX_REASONING)] | None, BeforeValidator(_drop_blank)]


class SignalPayload(Frozen):
    """One signal. Sizes are USD of notional, percents 0 to 100, moments UTC; no secret is ever in it.

    An entry needs a size; an exit (CLOSE) has neither size nor protection. `symbol` is in any spelling that the webhook
    server understands. Of a decision, `signal_id` is the decision's id, and `expires_at` is added by the SQL function
    `add_expiry`: only the database knows the moment.
    """

    user_id: UUID
    signal_id: UUID
    source: SignalSource
    action: SignalAction
    exchange: Annotated[str, AfterValidator(_check_exchange)]
    symbol: str
    strategy_id: UUID | None = None
    environment: Literal["production", "paper"] | None = None
    position_size_usd: _Size | None = Field(default=None, validate_default=True)
    stop_loss_percent: _StopPercent | None = None
    take_profit_percent: _TakeProfitPercent | None = None
    ai_confidence: float | None = Field(default=None, ge=0, le=1)
    ai_reasoning: _Reasoning = None
    expires_at: Utc | None = None

    def to_json(self) -> str:
        """The text that is stored and sent; fields without a value are left out."""
        return write_json(self.model_dump(exclude_none=True))

    @field_validator("symbol")
    @classmethod
    def _check_symbol(cls, symbol: str, info: ValidationInfo) -> str:
        symbol_names.read_symbol(symbol, is_exit=_is_exit(info))
        return symbol

    @field_validator("position_size_usd")
    @classmethod
    def _check_size(cls, size_usd: Decimal | None, info: ValidationInfo) -> Decimal | None:
        if size_usd is None and not _is_exit(info):
            raise ValueError("is missing; an entry needs it")
        return size_usd

    @field_validator("take_profit_percent")
    @classmethod
    def _check_take_profit(cls, percent: Decimal | None, info: ValidationInfo) -> Decimal | None:
        if percent is not None and percent >= 100 and info.data.get("action") is SignalAction.SELL:
            raise ValueError("must be below 100 for a short, whose price ends at 0")
        return percent

    @field_validator("position_size_usd", "stop_loss_percent", "take_profit_percent")
    @classmethod
    def _check_absent_in_exit(cls, value: Decimal | None, info: ValidationInfo) -> Decimal | None:
        if value is not None and _is_exit(info):
            raise ValueError("is of entries")
        return value


def _is_exit(info: ValidationInfo) -> bool:
    return info.data.get("action") is SignalAction.CLOSE


def build_decision_payload(decision: Decision, strategy: Strategy, decision_id: UUID) -> SignalPayload | None:
    """The signal of a decision, None of a HOLD. Raises UnsendableSignal."""
    action = SIGNAL_ACTIONS.get(decision.action)
    if action is None or decision.symbol is None:
        return None
    fields: dict[str, Any] = {
        "user_id": strategy.user_id,
        "signal_id": decision_id,
        "source": SignalSource.AI_ENGINE,
        "action": action,
        "exchange": strategy.exchange,
        "symbol": decision.symbol,
        "strategy_id": strategy.id,
        "ai_confidence": decision.confidence,
        "ai_reasoning": decision.reasoning,
    }
    if action is not SignalAction.CLOSE:
        fields |= {
            "position_size_usd": decision.size_usd,
            "stop_loss_percent": _to_decimal(decision.stop_loss_percent),
            "take_profit_percent": _to_decimal(decision.take_profit_percent),
        }
    return _build(fields)


def build_exit_payload(position: Position, signal_id: UUID, source: SignalSource) -> SignalPayload:
    """The signal that closes all of `position`, in its own book. Raises UnsendableSignal."""
    return _build(
        {
            "user_id": position.user_id,
            "signal_id": signal_id,
            "source": source,
            "action": SignalAction.CLOSE,
            "exchange": position.exchange,
            "symbol": position.symbol,
            "strategy_id": position.strategy_id,
            "environment": "paper" if position.is_paper else "production",
        }
    )


def write_json(value: object) -> str:
    """`value` as JSON without blanks, every number exact. Raises TypeError or ValueError for what JSON cannot hold."""
    if isinstance(value, Decimal):
        return _write_number(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(str(name))}:{write_json(each)}" for name, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(write_json, value)) + "]"
    return _ENCODER.encode(value)


def _write_number(value: Decimal) -> str:
    """As a float where that is exact, and otherwise in plain digits.

    Versions before this one sent every number as a float. A signal of theirs that is sent again must have the same
    body, or the webhook server takes it for another one under the same id.
    """
    shortest = repr(float(value))
    return shortest if Decimal(shortest) == value else format_plain(value)


def _write_text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"JSON has no form of {type(value).__name__}")


_ENCODER: Final = json.JSONEncoder(default=_write_text, allow_nan=False)


def _to_decimal(percent: float | None) -> Decimal | None:
    return None if percent is None else Decimal(repr(percent))


def _build(fields: Mapping[str, Any]) -> SignalPayload:
    try:
        return SignalPayload.model_validate(fields)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise UnsendableSignal("; ".join(f"{fault['loc'][0]} {fault_message(fault)}" for fault in faults)) from None
