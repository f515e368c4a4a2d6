"""What is read and written to keep the books equal to what an account holds at its venue."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Literal
from uuid import UUID

from engine.booked import total
from engine.store.webhook_rows import BookedFill, Fill
from engine.types import Frozen, Position, Row, Side, Utc


class BookedOutside(Row):
    """What is booked of an order of others: `quantity`, up to `until_ms` of the venue's time."""

    quantity: Decimal
    value_usd: Decimal
    until_ms: int | None


class VenueFacts(Row):
    """The books' side of one symbol of a live account; see the SQL function `symbol_facts`.

    `positions` are those of all strategies and of the person. `order_ids` are our booked orders at the venue,
    `outside_order_ids` booked orders of others, `forced_order_ids` those of them whose trades the record did not show.
    `last_trade_id` is how far the account's record was read (None, 0: never),
    `unbooked_net` what others did up to there that is not in the books, `outside_net` what the person has said to hold
    outside Sparky. `read_ms` is the newest moment that the reading knew, `first_ms` when the first entry since books
    and venue were seen empty was made, `last_fill_ms` when the newest fill happened, all in the venue's time.
    `order_positions` are the positions, held still or ended, that our booked orders traded for, `booked_outside` what
    is booked of orders of others. `cost_ids` name the income of liquidations that is booked; up to `costs_until_ms` a
    person has settled it. `unsettled` are requests whose outcome
    is not known.
    """

    positions: tuple[Position, ...]
    order_ids: frozenset[str]
    outside_order_ids: frozenset[str]
    forced_order_ids: frozenset[str]
    order_positions: dict[str, UUID]
    booked_outside: dict[str, BookedOutside]
    first_ms: int | None
    last_trade_id: int | None
    unbooked_net: Decimal
    costs_until_ms: int
    cost_ids: frozenset[str]
    read_ms: int
    last_fill_ms: int
    outside_net: Decimal
    unsettled: tuple[str, ...]
    last_fill_id: int

    @property
    def net(self) -> Decimal:
        """What the books hold: positive when long."""
        return net_of(self.positions)


class RequestFill(Row):
    """A fill of a request as it was booked, and what that did."""

    kind: Literal["open", "close", "rest", "undo", "dust"]
    exchange: str
    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal
    fee_usd: Decimal
    leverage: int
    is_paper: bool
    strategy_id: UUID | None
    order_id: str | None
    order_ids: tuple[str, ...] | None = None
    client_order_id: str | None
    position_id: UUID | None
    trade_id: UUID | None
    pnl_usd: Decimal | None
    pnl_percent: Decimal | None
    market_time_ms: int | None

    @property
    def fill(self) -> Fill:
        """What was booked."""
        row = self.model_dump(include=set(Fill.model_fields) & set(RequestFill.model_fields))
        return Fill.model_validate(row | {"order_ids": self.order_ids or ()})

    @property
    def booked(self) -> BookedFill:
        """What booking it did."""
        return BookedFill.model_validate(self.model_dump(include=set(BookedFill.model_fields) - {"answer"}))


class EndedSymbol(Row):
    """A symbol of a live account in which something ended lately; `request_ids` are its newest entries' requests."""

    user_id: UUID
    exchange: str
    symbol: str
    last_exit: Utc
    request_ids: tuple[str, ...]


class OutsideExit(Frozen):
    """A part of one position that ended at the venue without us, ready to be booked under its own `request_id`."""

    request_id: str
    fill: Fill


class ReadRecord(Frozen):
    """How far an account's record was read, and what of it is not in the books; see `VenueFacts`."""

    last_trade_id: int
    unbooked_net: Decimal
    cost_ids: tuple[str, ...] = ()
    read_ms: int = 0


class RecentLiquidation(Row):
    """A symbol in which liquidations were booked lately: the venue's time of the first, the number of the last fill."""

    user_id: UUID
    exchange: str
    symbol: str
    first_ms: int
    last_fill_id: int


class LiquidatedPart(Row):
    """A booked exit by liquidation; `order_id` is the venue's."""

    fill_id: int
    order_id: str | None
    quantity: Decimal
    at_ms: int


class Liquidated(Row):
    """Exits by liquidation in a symbol, oldest first; `cost_ids` and `costs_until_ms` as in `VenueFacts`."""

    exits: tuple[LiquidatedPart, ...]
    cost_ids: frozenset[str]
    costs_until_ms: int


def net_of(positions: Iterable[Position]) -> Decimal:
    """The sum of quantities, short ones negative."""
    return total(each.quantity if each.side is Side.LONG else each.quantity.copy_negate() for each in positions)
