"""Positions: side, margin mode, and the position of one strategy in one symbol."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID

from pydantic import AfterValidator, Field

from engine.platform.values import Row, Utc

MAX_LEVERAGE: Final = 125  # that any venue allows
MAX_USD: Final = Decimal(1_000_000_000)  # that a person may name, as a size or as capital


class Side(StrEnum):
    LONG = "LONG"
    SHORT = "SHORT"


def get_sign(side: Side) -> int:
    """+1 or -1: the sign of a quantity on that side in a net position."""
    return 1 if side is Side.LONG else -1


def get_opposite_side(side: Side) -> Side:
    return Side.SHORT if side is Side.LONG else Side.LONG


class MarginMode(StrEnum):
    """The margin that a position may lose: its own (isolated), or the whole account's (cross).

    For a strategy without a margin mode the live account's setting is not changed, and paper positions are isolated.
    """

    ISOLATED = "isolated"
    CROSS = "cross"


def _raise_to_one(leverage: int) -> int:
    """Rows of the original system may hold less, which no fill can have: an exit must not fail once its order is
    made."""
    return max(1, leverage)


class Position(Row):
    """The position of one strategy (or, without one, of a person) in one symbol.

    `quantity` is in the base asset, always positive; `position_size_usd` is its cost at the entry prices.
    """

    id: UUID
    user_id: UUID
    strategy_id: UUID | None
    exchange: str
    symbol: str
    side: Side
    quantity: Decimal
    entry_price: Decimal
    entry_time: Utc
    position_size_usd: Decimal
    fees_usd: Decimal = Decimal(0)
    funding_usd: Decimal = Decimal(0)  # since it was opened, positive when received
    leverage: Annotated[int, AfterValidator(_raise_to_one)] = 1
    margin_mode: MarginMode | None = None
    current_price: Decimal | None = None
    unrealized_pnl_usd: Decimal | None = None
    liquidation_price: Decimal | None = None  # computed on paper; live, the venue's last report
    watched_until_ms: int | None = Field(default=None, exclude=True)  # paper: until when candles were checked
    stop_loss_price: Decimal | None = None
    take_profit_price: Decimal | None = None
    stop_loss_client_order_id: str | None = None  # of the protective orders open at a live venue
    take_profit_client_order_id: str | None = None
    exit_order_ids: frozenset[str] = Field(default=frozenset(), exclude=True)  # the venue's order ids of booked exits
    is_paper: bool
