"""Signals: the actions that the webhook server executes, and their rows in the outbox."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from engine.domain.decision import Action
from engine.domain.positions import Side
from engine.platform.values import Row, Utc


class SignalAction(StrEnum):
    """The action that a signal requests: BUY opens or adds to a long, SELL to a short, CLOSE ends the position."""

    BUY = "BUY"
    SELL = "SELL"
    CLOSE = "CLOSE"


class SignalOutcome(StrEnum):
    """The outcome of a delivery; after `retry` the signal stays pending, all others end it."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    EXPIRED = "expired"
    DEAD = "dead"
    RETRY = "retry"


SIGNAL_ACTIONS = {
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
    """The fields of a signal that `engine.risk` needs, whether a strategy, a person or a charting service sent it.

    Sizes are USD of notional, percents 0 to 100, times UTC. `side` is the side of the position that an entry opens.
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
