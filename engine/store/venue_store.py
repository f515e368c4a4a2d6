"""The part of the store that compares books and venues: what is held, what ended there, which differences are open."""

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from engine.store.rpc import Rpc
from engine.store.values import plain
from engine.store.venue_rows import EndedSymbol, OutsideExit, ReadRecord, RequestFill, VenueFacts
from engine.store.webhook_rows import Difference, LiveAccount


class VenueStore:
    rpc: Rpc

    def live_accounts(self) -> tuple[LiveAccount, ...]:
        return tuple(LiveAccount.model_validate(row) for row in self.rpc.call("live_accounts"))

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
        checked: Collection[str] = (),
    ) -> tuple[Difference, ...]:
        """Compares the live book with what the venue holds, by symbol; all differences that are open now.

        `reasons` tell, by symbol, why no rule explained a difference. Symbols that were traded in the last 10 s are
        left out unless they were `checked`: books and venue belong together.
        """
        rows = self.rpc.call(
            "report_reconciliation",
            user_id=user_id,
            exchange=exchange,
            nets={symbol: str(net) for symbol, net in nets.items()},
            reasons=dict(reasons or {}),
            checked=sorted(checked),
        )
        return tuple(Difference.model_validate(row) for row in rows)

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
        stored = self.rpc.call("end_booked", request_id=request_id, user_id=user_id, status=status, answer=answer)
        return dict(plain(stored or answer))

    def exits_of(self, user_id: UUID, exchange: str, symbol: str, strategy_id: UUID | None) -> tuple[str, ...]:
        """Exit reasons of the live trades of one strategy (or, without one, the person) in a symbol, newest first."""
        found = self.rpc.call(
            "exit_reasons", user_id=user_id, exchange=exchange, symbol=symbol, strategy_id=strategy_id
        )
        return tuple(str(reason) for reason in found)
