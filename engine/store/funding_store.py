"""The part of the store that books funding."""

from collections.abc import Sequence
from decimal import Decimal
from typing import cast
from uuid import UUID

from engine.store.funding_rows import FundingFacts, FundingPlace, FundingShare, KnownPayment, Outcome
from engine.store.rpc import Rpc


class FundingStore:
    rpc: Rpc

    def funding_places(self, within_s: float) -> tuple[FundingPlace, ...]:
        """Symbols in which anybody holds something, on paper or live, or did within so many seconds or
        since payments were read."""
        return tuple(FundingPlace.model_validate(row) for row in self.rpc.call("funding_places", within_s=within_s))

    def note_funding_read(self, user_id: UUID, exchange: str, read_ms: int) -> None:
        """The income of a live account is booked up to `read_ms` of the venue's time."""
        self.rpc.call("note_funding_read", user_id=user_id, exchange=exchange, read_ms=read_ms)

    def note_paper_funding_read(self, place: FundingPlace, read_ms: int) -> None:
        """Payments of what has ended in a symbol on paper are booked up to `read_ms` of the venue's time."""
        self.rpc.call(
            "note_paper_funding_read",
            user_id=place.user_id,
            exchange=place.exchange,
            symbol=place.symbol,
            read_ms=read_ms,
        )

    def funding_known(self, user_id: UUID, exchange: str, *, is_paper: bool, since_ms: int) -> tuple[KnownPayment, ...]:
        """What is booked of payments since `since_ms`."""
        rows = self.rpc.call("funding_known", user_id=user_id, exchange=exchange, is_paper=is_paper, since_ms=since_ms)
        return tuple(KnownPayment.model_validate(row) for row in rows)

    def funding_facts(
        self, user_id: UUID, exchange: str, symbol: str, *, is_paper: bool, since_ms: int
    ) -> FundingFacts:
        """What says which positions a payment since `since_ms` belongs to."""
        found = self.rpc.call(
            "funding_facts", user_id=user_id, exchange=exchange, symbol=symbol, is_paper=is_paper, since_ms=since_ms
        )
        return FundingFacts.model_validate(found)

    def book_funding(
        self,
        place: FundingPlace,
        income_id: str,
        at_ms: int,
        shares: Sequence[FundingShare],
        others_usd: Decimal,
        reason: str | None,
        last_fill_id: int,
    ) -> Outcome:
        """Books one payment in one transaction: `shares`, and `others_usd` of no position, perhaps for a `reason`.

        "known", and nothing is done, when it was booked before; "changed" when anything was booked in the symbol after
        the fill `last_fill_id`: then the shares are to be computed anew.
        """
        outcome = self.rpc.call(
            "book_funding",
            user_id=place.user_id,
            exchange=place.exchange,
            symbol=place.symbol,
            is_paper=place.is_paper,
            income_id=income_id,
            at_ms=at_ms,
            shares=[each.model_dump(mode="json") for each in shares],
            others_usd=str(others_usd),
            reason=reason,
            last_fill_id=last_fill_id,
        )
        return cast("Outcome", outcome)
