"""Store methods and values of reconciliation: the books' side of a live account, exits outside Sparky, differences."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from engine.domain.decimals import total
from engine.domain.positions import Position, Side
from engine.platform.values import Frozen, Row, Utc
from engine.store.transport.rpc import Rpc
from engine.store.values import convert_decimals_to_floats
from engine.store.webhook_rows import BookedFill, Difference, Fill, LiveAccount


class BookedOutsideOrder(Row):
    """The booked part of an order that is not ours: `quantity` (base asset), up to `until_ms` of the venue's time."""

    quantity: Decimal
    value_usd: Decimal
    until_ms: int | None


class SymbolFacts(Row):
    """The books' side of one symbol of a live account; see the SQL function `symbol_facts`.

    Quantities are in the base asset, nets negative when short, times the venue's.

    - `positions`: of all strategies and of the person.
    - `order_ids`: our booked orders at the venue. `outside_order_ids`: booked orders of others; `forced_order_ids`:
      those of them whose trades the record did not show. `order_positions`: the positions, open or ended, for which our
      booked orders traded. `booked_outside`: the booked parts of orders of others.
    - `last_trade_id`: the last trade of the account's record that was read (None, 0: never). `read_ms`: the time of
      the newest event that the reading covered. `unbooked_net`: the net of orders of others up to there
      that is not booked. `outside_net`: the net that the person has noted as held outside Sparky.
    - `first_ms`: the first entry since books and venue were both seen empty. `last_fill_ms`, `last_fill_id`: the newest
      fill.
    - `cost_ids`: the booked income rows of liquidations; a person has settled those up to `costs_until_ms`.
    - `unsettled`: requests whose outcome is unknown.
    """

    positions: tuple[Position, ...]
    order_ids: frozenset[str]
    outside_order_ids: frozenset[str]
    forced_order_ids: frozenset[str]
    order_positions: dict[str, UUID]
    booked_outside: dict[str, BookedOutsideOrder]
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
        """The net quantity of the books, negative when short."""
        return sum_net_quantity(self.positions)


class RequestFill(Row):
    """A booked fill of a request, and its effect."""

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
        """The fill as it was booked."""
        row = self.model_dump(include=set(Fill.model_fields) & set(RequestFill.model_fields))
        return Fill.model_validate(row | {"order_ids": self.order_ids or ()})

    @property
    def booked_fill(self) -> BookedFill:
        """The effect of booking it."""
        return BookedFill.model_validate(self.model_dump(include=set(BookedFill.model_fields) - {"answer"}))


class EndedSymbol(Row):
    """A symbol of a live account in which something ended lately; `request_ids` are its newest entries' requests."""

    user_id: UUID
    exchange: str
    symbol: str
    last_exit: Utc
    request_ids: tuple[str, ...]


class OutsideExit(Frozen):
    """An exit of (a part of) one position that happened at the venue outside Sparky, booked under `request_id`."""

    request_id: str
    fill: Fill


class RecordProgress(Frozen):
    """How far the account's record has been read, and its unbooked net; fields as in `SymbolFacts`."""

    last_trade_id: int
    unbooked_net: Decimal
    cost_ids: tuple[str, ...] = ()
    read_ms: int = 0


class RecentLiquidation(Row):
    """A symbol with recently booked liquidations: the venue's time of the first, and the last one's fill id."""

    user_id: UUID
    exchange: str
    symbol: str
    first_ms: int
    last_fill_id: int


class LiquidationExit(Row):
    """A booked exit by liquidation; `order_id` is the venue's."""

    fill_id: int
    order_id: str | None
    quantity: Decimal
    at_ms: int


class LiquidationExits(Row):
    """Exits by liquidation in a symbol, oldest first; `cost_ids` and `costs_until_ms` as in `SymbolFacts`."""

    exits: tuple[LiquidationExit, ...]
    cost_ids: frozenset[str]
    costs_until_ms: int


def sum_net_quantity(positions: Iterable[Position]) -> Decimal:
    """The sum of quantities, short ones negative."""
    return total(
        position.quantity if position.side is Side.LONG else position.quantity.copy_negate() for position in positions
    )


class VenueStore:
    rpc: Rpc

    def list_live_accounts(self) -> tuple[LiveAccount, ...]:
        return tuple(LiveAccount.model_validate(row) for row in self.rpc.call("live_accounts"))

    def reduce_outside_dust(self, user_id: UUID, exchange: str, symbol: str, change: Decimal) -> bool:
        """Changes the noted holding outside Sparky by `change`, towards 0; False, unchanged, if less is noted."""
        change_text = f"{change:f}"
        return bool(
            self.rpc.call("reduce_outside_dust", user_id=user_id, exchange=exchange, symbol=symbol, change=change_text)
        )

    def delete_outside_holding(self, user_id: UUID, exchange: str, symbol: str) -> None:
        """Deletes the note of a holding outside Sparky in a symbol that is no longer listed."""
        self.rpc.call("delete_outside_holding", user_id=user_id, exchange=exchange, symbol=symbol)

    def get_symbol_facts(self, user_id: UUID, exchange: str, symbol: str) -> SymbolFacts:
        """The books' side of one symbol of an account, to compare it with the venue."""
        row = self.rpc.call("symbol_facts", user_id=user_id, exchange=exchange, symbol=symbol)
        return SymbolFacts.model_validate(row)

    def book_outside_exits(
        self,
        user_id: UUID,
        exchange: str,
        symbol: str,
        request_id: str | None,
        facts: SymbolFacts,
        exits: Sequence[OutsideExit],
        record: RecordProgress,
    ) -> bool:
        """Books `exits` and the progress of the record in one transaction.

        False, with nothing booked, when the books have changed since `facts` was read, or when a request other than
        `request_id` is being executed in the symbol: the caller compares again.
        """
        rows = [{"request_id": booked.request_id, "fill": booked.fill.model_dump(mode="json")} for booked in exits]
        is_booked = self.rpc.call(
            "book_outside",
            user_id=user_id,
            exchange=exchange,
            symbol=symbol,
            request_id=request_id,
            seen={
                "positions": {str(position.id): str(position.quantity) for position in facts.positions},
                "last_fill_id": facts.last_fill_id,
                "last_trade_id": facts.last_trade_id,
            },
            exits=rows,
            record=record.model_dump(mode="json"),
        )
        return bool(is_booked)

    def report_reconciliation(
        self,
        user_id: UUID,
        exchange: str,
        nets: Mapping[str, Decimal],
        reasons: Mapping[str, str] | None = None,
        checked: Mapping[str, int] | None = None,
        age_s: float = 0.0,
    ) -> tuple[Difference, ...]:
        """Compares the live books with the venue's net quantities, by symbol; returns all differences that are open.

        `nets` were fetched `age_s` seconds ago. Symbols that were traded later than 10 s before that are skipped,
        because books and venue may not be at the same state. `checked` maps symbols to the number of the last fill with
        which they were compared; they are skipped when a fill was booked after it. `reasons` say, by symbol, why no
        rule explained a difference.
        """
        rows = self.rpc.call(
            "report_reconciliation",
            user_id=user_id,
            exchange=exchange,
            nets={symbol: str(net) for symbol, net in nets.items()},
            reasons=dict(reasons or {}),
            checked=dict(checked or {}),
            age_s=age_s,
        )
        return tuple(Difference.model_validate(row) for row in rows)

    def list_recent_liquidations(self, within_s: float) -> tuple[RecentLiquidation, ...]:
        """Symbols in which liquidations were booked within `within_s` seconds."""
        rows = self.rpc.call("recent_liquidations", within_s=within_s)
        return tuple(RecentLiquidation.model_validate(row) for row in rows)

    def get_liquidation_exits(self, user_id: UUID, exchange: str, symbol: str, first_ms: int) -> LiquidationExits:
        """Exits by liquidation since `first_ms` of the venue's time."""
        row = self.rpc.call("liquidation_exits", user_id=user_id, exchange=exchange, symbol=symbol, first_ms=first_ms)
        return LiquidationExits.model_validate(row)

    def book_liquidation_cost(
        self, user_id: UUID, exchange: str, symbol: str, income_id: str, shares: Mapping[int, Decimal]
    ) -> bool:
        """Adds `shares` (USD by fill id) of one income row to booked exits; False if it was booked before."""
        share_texts = {str(fill_id): str(share) for fill_id, share in shares.items()}
        return bool(
            self.rpc.call(
                "book_liquidation_cost",
                user_id=user_id,
                exchange=exchange,
                symbol=symbol,
                income_id=income_id,
                shares=share_texts,
            )
        )

    def list_request_fills(self, request_id: str, user_id: UUID) -> tuple[RequestFill, ...]:
        """The booked fills of a request, in the order of booking."""
        rows = self.rpc.call("request_fills", request_id=request_id, user_id=user_id)
        return tuple(RequestFill.model_validate(row) for row in rows)

    def list_ended_live_symbols(self, within_s: float) -> tuple[EndedSymbol, ...]:
        """Symbols in which a live position, or a part of one, ended within `within_s` seconds; oldest exit first."""
        rows = self.rpc.call("ended_live_symbols", within_s=within_s)
        return tuple(EndedSymbol.model_validate(row) for row in rows)

    def finish_booked_request(
        self, request_id: str, user_id: UUID, status: int, answer: dict[str, Any]
    ) -> dict[str, Any]:
        """Ends a request whose last fill is booked; returns the stored answer, with the exit's P&L."""
        stored = self.rpc.call(
            "finish_booked_request", request_id=request_id, user_id=user_id, status=status, answer=answer
        )
        return dict(convert_decimals_to_floats(stored or answer))

    def get_last_exit_reason(
        self,
        user_id: UUID,
        exchange: str,
        symbol: str,
        strategy_id: UUID | None,
        within_s: float,
        *,
        is_paper: bool | None = None,
    ) -> str | None:
        """The exit reason of the last trade of one strategy (or, without one, of the person) in a symbol.

        None if it ended more than `within_s` seconds ago. `is_paper` None means paper and live; of paper trades only
        liquidations and exits from delisted symbols are returned.
        """
        reason = self.rpc.call(
            "last_exit_reason",
            user_id=user_id,
            exchange=exchange,
            symbol=symbol,
            strategy_id=strategy_id,
            within_s=within_s,
            is_paper=is_paper,
        )
        return None if reason is None else str(reason)

    def list_exit_reasons(self, user_id: UUID, exchange: str, symbol: str, strategy_id: UUID | None) -> tuple[str, ...]:
        """Exit reasons of the live trades of one strategy (or, without one, the person) in a symbol, newest first."""
        reasons = self.rpc.call(
            "exit_reasons", user_id=user_id, exchange=exchange, symbol=symbol, strategy_id=strategy_id
        )
        return tuple(str(reason) for reason in reasons)
