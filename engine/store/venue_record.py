"""Store methods and values of reconciliation: the books' side of a live account, exits outside Sparky, differences."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from engine.domain.decimals import total
from engine.domain.positions import Position, Side
from engine.platform.values import Frozen, Row, Utc
from engine.store.transport.rpc import Rpc
from engine.store.values import decimals_to_floats
from engine.store.webhook_rows import BookedFill, Difference, Fill, LiveAccount


class BookedOutsideOrder(Row):
    """The booked part of an order that is not ours: `quantity` (base asset), up to `until_ms` of the venue's time."""

    quantity: Decimal
    value_usd: Decimal
    until_ms: int | None


class SymbolFacts(Row):
    """The books' side of one symbol of a live account; see the SQL function `symbol_facts`.

    `positions` are those of all strategies and of the person. `order_ids` are our booked orders at the venue,
    `outside_order_ids` booked orders of others, `forced_order_ids` those of them whose trades the record did not show.
    `last_trade_id` is how far the account's record was read (None, 0: never),
    `unbooked_net` the unbooked net of orders of others up to there, `outside_net` what the person has noted as held
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
        """What the books hold: positive when long."""
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
    """A part of one position that ended at the venue without us, ready to be booked under its own `request_id`."""

    request_id: str
    fill: Fill


class RecordProgress(Frozen):
    """How far an account's record was read, and its unbooked part; see `SymbolFacts`."""

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
    return total(each.quantity if each.side is Side.LONG else each.quantity.copy_negate() for each in positions)


class VenueStore:
    rpc: Rpc

    def list_live_accounts(self) -> tuple[LiveAccount, ...]:
        return tuple(LiveAccount.model_validate(row) for row in self.rpc.call("live_accounts"))

    def reduce_outside_dust(self, user_id: UUID, exchange: str, symbol: str, change: Decimal) -> bool:
        """Changes the noted dust by `change`, towards 0; False, with nothing changed, where less is noted."""
        change_text = f"{change:f}"
        return bool(
            self.rpc.call("reduce_outside_dust", user_id=user_id, exchange=exchange, symbol=symbol, change=change_text)
        )

    def delete_outside_holding(self, user_id: UUID, exchange: str, symbol: str) -> None:
        """Deletes the note of a holding outside Sparky in a symbol that is no longer listed."""
        self.rpc.call("delete_outside_holding", user_id=user_id, exchange=exchange, symbol=symbol)

    def get_symbol_facts(self, user_id: UUID, exchange: str, symbol: str) -> SymbolFacts:
        """The books' side of one symbol of an account, to compare it with the venue."""
        found = self.rpc.call("symbol_facts", user_id=user_id, exchange=exchange, symbol=symbol)
        return SymbolFacts.model_validate(found)

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
        """Books `exits` and how far the record was read, in one transaction.

        False, and nothing is done, when the books have changed since they were as in `facts`, or when a request other
        than `request_id` is under way in the symbol.
        """
        rows = [{"request_id": each.request_id, "fill": each.fill.model_dump(mode="json")} for each in exits]
        booked = self.rpc.call(
            "book_outside",
            user_id=user_id,
            exchange=exchange,
            symbol=symbol,
            request_id=request_id,
            seen={
                "positions": {str(each.id): str(each.quantity) for each in facts.positions},
                "last_fill_id": facts.last_fill_id,
                "last_trade_id": facts.last_trade_id,
            },
            exits=rows,
            record=record.model_dump(mode="json"),
        )
        return bool(booked)

    def report_reconciliation(
        self,
        user_id: UUID,
        exchange: str,
        nets: Mapping[str, Decimal],
        reasons: Mapping[str, str] | None = None,
        checked: Mapping[str, int] | None = None,
        age_s: float = 0.0,
    ) -> tuple[Difference, ...]:
        """Compares the live book with what the venue holds, by symbol; all differences that are open now.

        `reasons` tell, by symbol, why no rule explained a difference. Symbols that were traded since 10 s before the
        venue was asked, `age_s` ago, are left out; those `checked` when anything was booked after the fill of that
        number, up to which books and venue were compared.
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
        """Where liquidations were booked within so many seconds."""
        rows = self.rpc.call("recent_liquidations", within_s=within_s)
        return tuple(RecentLiquidation.model_validate(row) for row in rows)

    def get_liquidation_exits(self, user_id: UUID, exchange: str, symbol: str, first_ms: int) -> LiquidationExits:
        """Exits by liquidation since `first_ms` of the venue's time."""
        found = self.rpc.call("liquidation_exits", user_id=user_id, exchange=exchange, symbol=symbol, first_ms=first_ms)
        return LiquidationExits.model_validate(found)

    def book_liquidation_cost(
        self, user_id: UUID, exchange: str, symbol: str, income_id: str, shares: Mapping[int, Decimal]
    ) -> bool:
        """Adds `shares` (USD by fill) of one income to exits that are booked; False when that was done before."""
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
        """What a request has booked so far, in that order."""
        rows = self.rpc.call("request_fills", request_id=request_id, user_id=user_id)
        return tuple(RequestFill.model_validate(row) for row in rows)

    def list_ended_live_symbols(self, within_s: float) -> tuple[EndedSymbol, ...]:
        """Where a live position, or a part of one, ended within so many seconds; the longest ago first."""
        rows = self.rpc.call("ended_live_symbols", within_s=within_s)
        return tuple(EndedSymbol.model_validate(row) for row in rows)

    def finish_booked_request(
        self, request_id: str, user_id: UUID, status: int, answer: dict[str, Any]
    ) -> dict[str, Any]:
        """Ends a request whose last fill is in the books; the answer as stored, with the exit's P&L."""
        stored = self.rpc.call(
            "finish_booked_request", request_id=request_id, user_id=user_id, status=status, answer=answer
        )
        return dict(decimals_to_floats(stored or answer))

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
        """Why the last trade of one strategy (or, without one, the person) in a symbol ended, if it ended within so
        many seconds: in one book, or (None) in both. On paper liquidations and symbols that ended are told alone."""
        found = self.rpc.call(
            "last_exit_reason",
            user_id=user_id,
            exchange=exchange,
            symbol=symbol,
            strategy_id=strategy_id,
            within_s=within_s,
            is_paper=is_paper,
        )
        return None if found is None else str(found)

    def list_exit_reasons(self, user_id: UUID, exchange: str, symbol: str, strategy_id: UUID | None) -> tuple[str, ...]:
        """Exit reasons of the live trades of one strategy (or, without one, the person) in a symbol, newest first."""
        found = self.rpc.call(
            "exit_reasons", user_id=user_id, exchange=exchange, symbol=symbol, strategy_id=strategy_id
        )
        return tuple(str(reason) for reason in found)
