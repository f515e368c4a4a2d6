"""What people are shown of a difference between books and venue, and what they have settled."""

from decimal import Decimal
from uuid import UUID

from engine.store.people_rows import HeldPosition
from engine.store.values import Moment, ShownRow
from engine.types import Row


class NamedPosition(HeldPosition):
    """An open position with the name of its strategy; None where it has none, or its row is gone."""

    strategy_name: str | None = None


class OpenDifference(ShownRow):
    """Books and venue disagree about a net quantity (base asset, negative when short), and nothing has settled it.

    `outside` is what the person holds outside Sparky; `at_venue` is without it. `reason` says why no rule explained it.
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


class OutsideNote(ShownRow):
    """What a person has noted as held outside Sparky, net (base asset, negative when short)."""

    user_id: UUID
    email: str | None = None
    exchange: str
    symbol: str
    quantity: Decimal
    noted_at: Moment


class BookedOrder(Row):
    """How much of one of the venue's orders is in the live books, and for which fees."""

    order_id: str
    quantity: Decimal
    fee_usd: Decimal
    is_adopted: bool


class AccountInSymbol(ShownRow):
    """An account that has to do with a symbol; `is_open` says whether an open difference is known there."""

    user_id: UUID
    exchange: str
    email: str | None
    is_open: bool


class SymbolBooks(ShownRow):
    """The live books of one account in one symbol, in one view.

    `is_under_way` says whether what a signal did there is not in the books yet, `first_ms` when the oldest position
    was entered, in the venue's time.
    """

    held: tuple[NamedPosition, ...]
    outside: Decimal
    is_under_way: bool
    first_ms: int | None
    difference: OpenDifference | None
