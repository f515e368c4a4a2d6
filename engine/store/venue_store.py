"""The part of the store that compares books and venues: what is held, what ended there, which differences are open."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from engine.store.rpc import Rpc
from engine.store.values import plain
from engine.store.venue_rows import (
    EndedSymbol,
    Liquidated,
    OutsideExit,
    ReadRecord,
    RecentLiquidation,
    RequestFill,
    VenueFacts,
)
from engine.store.webhook_rows import Difference, LiveAccount


class VenueStore:
    rpc: Rpc

    def live_accounts(self) -> tuple[LiveAccount, ...]:
        return tuple(LiveAccount.model_validate(row) for row in self.rpc.call("live_accounts"))

    def shrink_dust(self, user_id: UUID, exchange: str, symbol: str, change: Decimal) -> bool:
        """What is noted of dust changes by `change`, towards 0; False where less is noted, and nothing changes."""
        change_told = f"{change:f}"
        return bool(
            self.rpc.call("reduce_outside_dust", user_id=user_id, exchange=exchange, symbol=symbol, change=change_told)
        )

    def forget_outside(self, user_id: UUID, exchange: str, symbol: str) -> None:
        """Ends the note of what is held outside Sparky of a symbol that the venue lists no more."""
        self.rpc.call("delete_outside_holding", user_id=user_id, exchange=exchange, symbol=symbol)

    def venue_facts(self, user_id: UUID, exchange: str, symbol: str) -> VenueFacts:
        """All that is needed to compare one symbol of an account with its venue."""
        found = self.rpc.call("symbol_facts", user_id=user_id, exchange=exchange, symbol=symbol)
        return VenueFacts.model_validate(found)

    def book_outside(
        self,
        user_id: UUID,
        exchange: str,
        symbol: str,
        request_id: str | None,
        seen: VenueFacts,
        exits: Sequence[OutsideExit],
        record: ReadRecord,
    ) -> bool:
        """Books `exits` and how far the record was read, in one transaction.

        False, and nothing is done, when the books have changed since they were `seen`, or when a request other than
        `request_id` is under way in the symbol.
        """
        told = [{"request_id": each.request_id, "fill": each.fill.model_dump(mode="json")} for each in exits]
        booked = self.rpc.call(
            "book_outside",
            user_id=user_id,
            exchange=exchange,
            symbol=symbol,
            request_id=request_id,
            seen={
                "positions": {str(each.id): str(each.quantity) for each in seen.positions},
                "last_fill_id": seen.last_fill_id,
                "last_trade_id": seen.last_trade_id,
            },
            exits=told,
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

    def recent_liquidations(self, within_s: float) -> tuple[RecentLiquidation, ...]:
        """Where liquidations were booked within so many seconds."""
        rows = self.rpc.call("recent_liquidations", within_s=within_s)
        return tuple(RecentLiquidation.model_validate(row) for row in rows)

    def liquidated(self, user_id: UUID, exchange: str, symbol: str, first_ms: int) -> Liquidated:
        """Exits by liquidation since `first_ms` of the venue's time."""
        found = self.rpc.call("liquidation_exits", user_id=user_id, exchange=exchange, symbol=symbol, first_ms=first_ms)
        return Liquidated.model_validate(found)

    def book_liquidation_cost(
        self, user_id: UUID, exchange: str, symbol: str, income_id: str, shares: Mapping[int, Decimal]
    ) -> bool:
        """Adds `shares` (USD by fill) of one income to exits that are booked; False when that was done before."""
        told = {str(fill_id): str(share) for fill_id, share in shares.items()}
        return bool(
            self.rpc.call(
                "book_liquidation_cost",
                user_id=user_id,
                exchange=exchange,
                symbol=symbol,
                income_id=income_id,
                shares=told,
            )
        )

    def request_fills(self, request_id: str, user_id: UUID) -> tuple[RequestFill, ...]:
        """What a request has booked so far, in that order."""
        rows = self.rpc.call("request_fills", request_id=request_id, user_id=user_id)
        return tuple(RequestFill.model_validate(row) for row in rows)

    def ended_live_symbols(self, within_s: float) -> tuple[EndedSymbol, ...]:
        """Where a live position, or a part of one, ended within so many seconds; the longest ago first."""
        rows = self.rpc.call("ended_live_symbols", within_s=within_s)
        return tuple(EndedSymbol.model_validate(row) for row in rows)

    def end_booked(self, request_id: str, user_id: UUID, status: int, answer: dict[str, Any]) -> dict[str, Any]:
        """Ends a request whose last fill is in the books; the answer as stored, with the exit's P&L."""
        stored = self.rpc.call(
            "finish_booked_request", request_id=request_id, user_id=user_id, status=status, answer=answer
        )
        return dict(plain(stored or answer))

    def last_exit(
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

    def exit_reasons(self, user_id: UUID, exchange: str, symbol: str, strategy_id: UUID | None) -> tuple[str, ...]:
        """Exit reasons of the live trades of one strategy (or, without one, the person) in a symbol, newest first."""
        found = self.rpc.call(
            "exit_reasons", user_id=user_id, exchange=exchange, symbol=symbol, strategy_id=strategy_id
        )
        return tuple(str(reason) for reason in found)
