"""What a decision asks the webhook server to do, and the outbox row that carries it."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from engine.domain.decision import Action
from engine.domain.positions import Side
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
    """A row of the outbox that the dispatcher has leased.

    `payload` is the body to be sent, as JSON with exact numbers (int and Decimal): see `engine.domain.signal_payload`.
    """

    id: UUID
    user_id: UUID
    strategy_id: UUID | None
    symbol: str
    payload: dict[str, object]
    attempts: int
    created_at: Utc
    expires_at: Utc


class TradeSignal(Protocol):
    """What the rules of `engine.risk` read of a signal, whoever made it.

    Sizes are USD of notional, percents 0 to 100, moments UTC. `side` is that of the position that an entry makes.
    """

    @property
    def exchange(self) -> str: ...
    @property
    def symbol(self) -> str: ...
    @property
    def side(self) -> Side: ...
    @property
    def position_size_usd(self) -> Decimal | None: ...
    @property
    def stop_loss_percent(self) -> Decimal | None: ...
    @property
    def take_profit_percent(self) -> Decimal | None: ...
    @property
    def leverage(self) -> int: ...
    @property
    def strategy_id(self) -> UUID | None: ...
    @property
    def environment(self) -> str | None: ...
    @property
    def is_ai_signal(self) -> bool: ...
    @property
    def timestamp(self) -> datetime | None: ...
    @property
    def expires_at(self) -> datetime | None: ...
