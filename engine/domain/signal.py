"""What a decision asks the webhook server to do, and the outbox row that carries it."""

from enum import StrEnum
from uuid import UUID

from engine.domain.decision import Action
from engine.platform.values import Row, Utc


class SignalAction(StrEnum):
    """What the webhook server is asked to do."""

    BUY = "BUY"
    SELL = "SELL"
    CLOSE = "CLOSE"


class SignalOutcome(StrEnum):
    """Where a signal ends; `retry` is the one that is not an end."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    EXPIRED = "expired"
    DEAD = "dead"
    RETRY = "retry"


SIGNAL_OF_ACTION = {
    Action.LONG: SignalAction.BUY,
    Action.SHORT: SignalAction.SELL,
    Action.CLOSE: SignalAction.CLOSE,
}


class Signal(Row):
    """A row of the outbox that the dispatcher has leased. `payload` is the body's JSON without any secret."""

    id: UUID
    user_id: UUID
    strategy_id: UUID | None
    symbol: str
    payload: dict[str, object]
    attempts: int
    created_at: Utc
    expires_at: Utc
