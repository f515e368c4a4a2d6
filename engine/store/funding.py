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
    """A symbol of one person with an open position, or with an ended one whose funding may be incomplete.

    See the SQL function `funding_places`. `first_ms` is when the first position was entered, `last_ms` when the last
    one ended (0: none has), `read_ms` until when funding has been read (0: never), all in the venue's time.
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
    """The booked share of one position in a payment."""

    symbol: str
    income_id: str
    position_id: UUID


class CurrentPosition(Row):
    """An open position; `since_ms` is its entry in the venue's time."""

    position_id: UUID
    side: Side
    quantity: Decimal
    since_ms: int


class PositionFill(Row):
    """A fill of an open or ended position; `trade_id` is the trade that an exit made."""

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
    """The books' side of payments in one symbol; see the SQL function `funding_facts`. `fills` are oldest first.

    `others_net` is the net quantity (base asset, negative when short) that others hold on the account.
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
        """Symbols with a position, paper or live, that is open or ended within `within_s` seconds or since payments
        were last read."""
        return tuple(FundingSymbol.model_validate(row) for row in self.rpc.call("funding_places", within_s=within_s))

    def set_funding_read_until(self, user_id: UUID, exchange: str, read_ms: int) -> None:
        """Records that the funding of a live account is booked up to `read_ms` of the venue's time."""
        self.rpc.call("note_funding_read", user_id=user_id, exchange=exchange, read_ms=read_ms)

    def set_paper_funding_read_until(self, symbol: FundingSymbol, read_ms: int) -> None:
        """Records that payments of ended paper positions in `symbol` are booked up to `read_ms` of the venue's time."""
        self.rpc.call(
            "note_paper_funding_read",
            user_id=symbol.user_id,
            exchange=symbol.exchange,
            symbol=symbol.symbol,
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
        row = self.rpc.call(
            "funding_facts", user_id=user_id, exchange=exchange, symbol=symbol, is_paper=is_paper, since_ms=since_ms
        )
        return FundingFacts.model_validate(row)

    def book_funding(
        self,
        symbol: FundingSymbol,
        income_id: str,
        at_ms: int,
        shares: Sequence[FundingShare],
        others_usd: Decimal,
        reason: str | None,
        last_fill_id: int,
    ) -> FundingOutcome:
        """Books one payment in one transaction: `shares`, and `others_usd` that belongs to no position, with `reason`.

        Returns "known", with nothing booked, for a payment that was booked before; "changed", with nothing booked, when
        something was booked in the symbol after the fill `last_fill_id`: the caller computes the shares again.
        """
        outcome = self.rpc.call(
            "book_funding",
            user_id=symbol.user_id,
            exchange=symbol.exchange,
            symbol=symbol.symbol,
            is_paper=symbol.is_paper,
            income_id=income_id,
            at_ms=at_ms,
            shares=[share.model_dump(mode="json") for share in shares],
            others_usd=str(others_usd),
            reason=reason,
            last_fill_id=last_fill_id,
        )
        return cast("FundingOutcome", outcome)
