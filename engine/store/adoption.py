"""Store methods and values by which people settle differences between books and venue."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from engine.platform.values import Row
from engine.store.admin_rows import HeldPosition
from engine.store.transport.rpc import Rpc
from engine.store.values import Moment, ShownRow


class NamedPosition(HeldPosition):
    """An open position with the name of its strategy; None where it has none, or its row is gone."""

    strategy_name: str | None = None


class OpenDifference(ShownRow):
    """Books and venue disagree about a net quantity (base asset, negative when short), and nothing has settled it.

    `outside` is what the person holds outside Sparky; `at_venue` is without it. `reason` is why no rule explained it.
    """

    user_id: UUID
    email: str | None = None
    exchange: str
    symbol: str
    booked: Decimal
    at_venue: Decimal
    outside: Decimal = Decimal(0)
    first_seen_at: Moment
    last_seen_at: Moment
    reason: str | None = None
    held: tuple[NamedPosition, ...] = ()


class OutsideHolding(ShownRow):
    """A holding outside Sparky that a person has noted, net (base asset, negative when short)."""

    user_id: UUID
    email: str | None = None
    exchange: str
    symbol: str
    quantity: Decimal
    noted_at: Moment


class BookedOrder(Row):
    """The part of one of the venue's orders that is in the live books (base asset), and its fees (USD)."""

    order_id: str
    quantity: Decimal
    fee_usd: Decimal
    is_adopted: bool


class SymbolAccount(ShownRow):
    """An account that holds a symbol, or has an open difference in it (`is_open`)."""

    user_id: UUID
    exchange: str
    email: str | None
    is_open: bool


class SymbolBooks(ShownRow):
    """The live books of one account in one symbol, read in one transaction.

    `is_under_way` is true while a signal is executed there that may have effects that are not booked; `first_ms` is
    when the oldest position was entered, in the venue's time.
    """

    held: tuple[NamedPosition, ...]
    outside: Decimal
    is_under_way: bool
    first_ms: int | None
    difference: OpenDifference | None


class AdoptionStore:
    rpc: Rpc

    def list_open_differences(self) -> tuple[OpenDifference, ...]:
        """Open differences of all users, oldest first, with the positions booked in their symbols."""
        return tuple(OpenDifference.model_validate(row) for row in self.rpc.call("open_differences"))

    def list_outside_holdings(self) -> tuple[OutsideHolding, ...]:
        """The holdings outside Sparky that people have noted, oldest first."""
        return tuple(OutsideHolding.model_validate(row) for row in self.rpc.call("list_outside_holdings"))

    def get_last_difference_time(self) -> str | None:
        """When a difference was last seen or resolved, in ISO 8601; None when there never was one."""
        at = self.rpc.call("last_difference_at")
        return None if at is None else str(at)

    def list_symbol_accounts(self, symbol: str) -> tuple[SymbolAccount, ...]:
        """The accounts in which `symbol` is held live, noted as held outside Sparky, or has a difference."""
        return tuple(SymbolAccount.model_validate(row) for row in self.rpc.call("accounts_in_symbol", symbol=symbol))

    def get_symbol_books(self, user_id: UUID, exchange: str, symbol: str) -> SymbolBooks:
        row = self.rpc.call("symbol_books", user_id=user_id, exchange=exchange, symbol=symbol)
        return SymbolBooks.model_validate(row)

    def find_booked_orders(
        self, user_id: UUID, exchange: str, symbol: str, order_ids: Sequence[str]
    ) -> Mapping[str, BookedOrder]:
        """Those of the venue's orders that are in the live books, wholly or in part, by their ids."""
        rows = self.rpc.call(
            "booked_orders", user_id=user_id, exchange=exchange, symbol=symbol, order_ids=list(order_ids)
        )
        orders = [BookedOrder.model_validate(row) for row in rows]
        return {order.order_id: order for order in orders}

    def adopt_difference(
        self,
        user_id: UUID,
        exchange: str,
        symbol: str,
        expected_quantities: Mapping[str, Decimal],
        exits: Sequence[Mapping[str, Any]],
        opening: Mapping[str, Any] | None,
        record_position: Mapping[str, int | None] | None = None,
        outside_change: tuple[Decimal, Decimal] | None = None,
    ) -> int:
        """Books a plan in one transaction and resolves the difference; returns the number of fills.

        `expected_quantities` are the quantities of the plan's positions by their ids, `record_position` its newest
        trade (``last_trade_id``) and time (``at_ms``): nothing up to there explains a later difference.
        `outside_change` is what was noted as held outside Sparky, and what is from now on (None: it stays).

        Raises ConfigurationError, with nothing booked, when books or note have changed, or a signal is under way in the
        symbol.
        """
        arguments: dict[str, Any] = {
            "user_id": user_id,
            "exchange": exchange,
            "symbol": symbol,
            "seen": {position: str(quantity) for position, quantity in expected_quantities.items()},
            "exits": [dict(planned) for planned in exits],
            "open": None if opening is None else dict(opening),
            "record": dict(record_position or {}),
        }
        if outside_change is None:
            return len(self.rpc.call("adopt_difference", **arguments))
        noted, outside = (f"{quantity:f}" for quantity in outside_change)
        return len(self.rpc.call("adopt_difference_and_holding", **arguments, noted=noted, outside=outside))

    def set_outside_holding(
        self,
        user_id: UUID,
        exchange: str,
        symbol: str,
        expected_quantities: Mapping[str, Decimal],
        quantity: Decimal,
        record_position: Mapping[str, int | None] | None = None,
    ) -> None:
        """Notes `quantity` (0: nothing) as the person's own outside Sparky. Raises as `adopt_difference` does."""
        self.rpc.call(
            "set_outside_holding",
            user_id=user_id,
            exchange=exchange,
            symbol=symbol,
            seen={position: str(held) for position, held in expected_quantities.items()},
            quantity=f"{quantity:f}",
            record=dict(record_position or {}),
        )
