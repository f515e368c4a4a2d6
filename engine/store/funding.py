"""Store methods and values of funding: positions at the time of a payment, and the booking of its shares."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal, cast
from uuid import UUID

from engine.domain.positions import Side
from engine.platform.values import Frozen, Row
from engine.store.transport.rpc import Rpc

FundingOutcome = Literal["booked", "known", "changed"]


class FundingSymbol(Row):
    """A symbol of one person in which something is held, or has ended and may have payments that are not known; see the
    SQL function `funding_places`.

    `first_ms` is when the first of it was entered, `last_ms` when the last of it ended (0: nothing has) and `read_ms`
    until when funding is known (0: never), all in the venue's time.
    """

    user_id: UUID
    exchange: str
    symbol: str
    is_paper: bool
    is_held: bool
    first_ms: int
    read_ms: int
    last_ms: int = 0


class BookedPayment(Row):
    """A part of a payment that is booked."""

    symbol: str
    income_id: str
    position_id: UUID


class CurrentPosition(Row):
    """A position as it is; `since_ms` is its entry in the venue's time."""

    position_id: UUID
    side: Side
    quantity: Decimal
    since_ms: int


class PositionFill(Row):
    """A fill of a position that is held or has ended; `trade_id` is the trade of an exit."""

    fill_id: int
    position_id: UUID
    trade_id: UUID | None
    is_entry: bool
    side: Side
    quantity: Decimal
    at_ms: int

    @property
    def size_change(self) -> Decimal:
        """Its change of the position's size (base asset)."""
        return self.quantity if self.is_entry else self.quantity.copy_negate()


class FundingFacts(Row):
    """The books' side of payments in one symbol; see the SQL function of that name. `fills` come in the order of time.

    `others_net` is what others hold on the account, negative when short.
    """

    held: tuple[CurrentPosition, ...]
    fills: tuple[PositionFill, ...]
    others_net: Decimal
    is_unsettled: bool
    last_fill_id: int


class FundingShare(Frozen):
    """One position's share of a payment (USD): `held_usd` for the part still held, `trades` for parts that have
    ended."""

    position_id: UUID
    usd: Decimal
    held_usd: Decimal
    trades: dict[UUID, Decimal]


class FundingStore:
    rpc: Rpc

    def list_funding_symbols(self, within_s: float) -> tuple[FundingSymbol, ...]:
        """Symbols in which anybody holds something, on paper or live, or did within so many seconds or
        since payments were read."""
        return tuple(FundingSymbol.model_validate(row) for row in self.rpc.call("funding_places", within_s=within_s))

    def set_funding_read_until(self, user_id: UUID, exchange: str, read_ms: int) -> None:
        """The income of a live account is booked up to `read_ms` of the venue's time."""
        self.rpc.call("note_funding_read", user_id=user_id, exchange=exchange, read_ms=read_ms)

    def set_paper_funding_read_until(self, place: FundingSymbol, read_ms: int) -> None:
        """Payments of what has ended in a symbol on paper are booked up to `read_ms` of the venue's time."""
        self.rpc.call(
            "note_paper_funding_read",
            user_id=place.user_id,
            exchange=place.exchange,
            symbol=place.symbol,
            read_ms=read_ms,
        )

    def list_booked_payments(
        self, user_id: UUID, exchange: str, *, is_paper: bool, since_ms: int
    ) -> tuple[BookedPayment, ...]:
        """Booked parts of payments since `since_ms`."""
        rows = self.rpc.call("funding_known", user_id=user_id, exchange=exchange, is_paper=is_paper, since_ms=since_ms)
        return tuple(BookedPayment.model_validate(row) for row in rows)

    def get_funding_facts(
        self, user_id: UUID, exchange: str, symbol: str, *, is_paper: bool, since_ms: int
    ) -> FundingFacts:
        """The positions and fills to which payments since `since_ms` belong."""
        found = self.rpc.call(
            "funding_facts", user_id=user_id, exchange=exchange, symbol=symbol, is_paper=is_paper, since_ms=since_ms
        )
        return FundingFacts.model_validate(found)

    def book_funding(
        self,
        place: FundingSymbol,
        income_id: str,
        at_ms: int,
        shares: Sequence[FundingShare],
        others_usd: Decimal,
        reason: str | None,
        last_fill_id: int,
    ) -> FundingOutcome:
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
        return cast("FundingOutcome", outcome)
