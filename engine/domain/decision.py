"""What the model may propose, and the bounded decision that code makes of it."""

from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from pydantic import Field

from engine.platform.values import Frozen


class Action(StrEnum):
    """What the model may propose."""

    LONG = "LONG"
    SHORT = "SHORT"
    CLOSE = "CLOSE"
    HOLD = "HOLD"


class Decision(Frozen):
    """A decision whose every field has passed the code's checks; `reason` is why the code made it a HOLD."""

    action: Action
    symbol: str | None = None
    size_usd: Decimal = Decimal(0)
    confidence: float = 0.0
    reasoning: str = Field(default="", max_length=100)
    stop_loss_percent: float | None = None
    take_profit_percent: float | None = None
    reason: str | None = None
    size_reason: str | None = None  # why an entry is smaller than the model proposed
    is_fault: bool = False  # True when the answer was unusable: it counts as a StrategyFault


_FIELDS: Final = ("action", "symbol", "size_usd", "confidence", "reasoning", "stop_loss_percent", "take_profit_percent")

# Strict structured outputs demand that every field is required, so an optional one is nullable. Bounds are
# checked by the decision parser instead, which must not depend on the provider.
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "action": {"type": "string", "enum": [action.value for action in Action]},
        "symbol": {"type": ["string", "null"]},
        "size_usd": {"type": "number"},
        "confidence": {"type": "number"},
        "reasoning": {"type": "string"},
        "stop_loss_percent": {"type": ["number", "null"]},
        "take_profit_percent": {"type": ["number", "null"]},
    },
    "required": list(_FIELDS),
    "additionalProperties": False,
}
