"""What is read and written to book funding: what was held at the moment of a payment, and who bears which part."""

from decimal import Decimal
from typing import Literal
from uuid import UUID

from engine.types import Frozen, Row, Side

Outcome = Literal["booked", "known", "changed"]


class FundingPlace(Row):
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


class KnownPayment(Row):
    """A part of a payment that is booked."""

    symbol: str
    income_id: str
    position_id: UUID


class HeldNow(Row):
    """A position as it is; `since_ms` is its entry in the venue's time."""

    position_id: UUID
    side: Side
    quantity: Decimal
    since_ms: int


class OwnFill(Row):
    """A fill of a position that is held or has ended; `trade_id` is the trade of an exit."""

    fill_id: int
    position_id: UUID
    trade_id: UUID | None
    is_entry: bool
    side: Side
    quantity: Decimal
    at_ms: int

    @property
    def change(self) -> Decimal:
        """What it did to the size of its position."""
        return self.quantity if self.is_entry else self.quantity.copy_negate()


class FundingFacts(Row):
    """The books' side of payments in one symbol; see the SQL function of that name. `fills` come in the order of time.

    `others_net` is what others hold on the account, negative when short.
    """

    held: tuple[HeldNow, ...]
    fills: tuple[OwnFill, ...]
    others_net: Decimal
    is_unsettled: bool
    last_fill_id: int


class FundingShare(Frozen):
    """What one position bears of a payment: `held_usd` by what is held still, and `trades` by what has ended since."""

    position_id: UUID
    usd: Decimal
    held_usd: Decimal
    trades: dict[UUID, Decimal]
