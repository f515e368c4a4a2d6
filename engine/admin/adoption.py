"""What adopting a venue's state books: exits of what the venue does not hold, an opening of what it holds beyond. Pure.

Quantities are in the base asset; a net is negative when short.
"""

from collections.abc import Mapping, Sequence
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum
from typing import Final
from uuid import UUID

from engine.domain.positions import Position, Side
from engine.domain.pro_rata import find_unit, split_pro_rata
from engine.platform.values import Frozen
from engine.store.adoption import BookedOrder
from engine.store.venue_record import sum_net_quantity
from engine.venues.account_record import AccountTrade

ADOPTED: Final = "adopted"
ZERO: Final = Decimal(0)
_FEE_PLACES: Final = Decimal("0.00000001")


class Source(StrEnum):
    """Where the price of a line comes from."""

    RECORD = "record"
    ENTRY_PRICE = "entry price"  # the venue's, of the position
    LAST_PRICE = "last price"
    GIVEN = "given"  # by a person
    ORDER = "protective order"


class Pricing(Frozen):
    """A price and the whole fee of what it is for; `fee_usd` is None where nothing tells it."""

    source: Source
    price: Decimal
    fee_usd: Decimal | None = None
    order_id: str | None = None
    at_ms: int | None = None


class Exit(Frozen):
    """A part of a position, or all of it, that ends. None stands for a price or fee that nothing tells."""

    position: Position
    quantity: Decimal
    price: Decimal | None
    fee_usd: Decimal | None
    source: Source | None
    exit_reason: str = ADOPTED
    order_id: str | None = None
    client_order_id: str | None = None
    at_ms: int | None = None

    @property
    def ends(self) -> bool:
        """Whether nothing of the position stays."""
        return self.quantity == self.position.quantity


class Opening(Frozen):
    """What the venue holds beyond the books: a strategy's, or (None) the person's own. Prices as in `Exit`."""

    side: Side
    quantity: Decimal
    strategy_id: UUID | None
    leverage: int
    price: Decimal | None
    fee_usd: Decimal | None
    source: Source | None
    order_id: str | None = None
    at_ms: int | None = None


class Change(Frozen):
    """How the books come to a net: parts of positions that end, and a rest that opens."""

    exits: tuple[tuple[Position, Decimal], ...] = ()
    opened: Decimal = ZERO  # positive: long

    @property
    def quantity(self) -> Decimal:
        """All that changes hands."""
        return sum((part for _, part in self.exits), abs(self.opened))


def plan_change(held: Sequence[Position], net: Decimal, lot: Decimal | None, holder: UUID | None) -> Change:
    """How `held` comes to `net`, by the rule by which the webhook server books what ended at a venue.

    Where the books' net shrinks or turns, positions on its side end in part, each in proportion to its quantity, and no
    more in all than the net; positions on the other side stay. The rest is opened by `holder`, whose own opposite
    position ends first, since a strategy holds one side only.
    """
    booked = sum_net_quantity(held)
    change = net - booked
    if change == 0:
        return Change()
    reduced = Side.SHORT if change > 0 else Side.LONG
    of_side = [each for each in held if each.side is reduced]
    shrinks = booked != 0 and (booked > 0) is (reduced is Side.LONG)
    shared = min(abs(change), abs(booked)) if shrinks else ZERO
    quantities = [each.quantity for each in of_side]
    parts = split_pro_rata(shared, quantities, find_unit([shared, *quantities], lot))
    rest = abs(change) - shared
    for index, each in enumerate(of_side):
        if each.strategy_id == holder:
            own = min(rest, each.quantity - parts[index])
            parts[index] += own
            rest -= own
    exits = tuple((each, part) for each, part in zip(of_side, parts, strict=True) if part > 0)
    return Change(exits=exits, opened=rest if change > 0 else -rest)


def note_beside(booked: Decimal, at_venue: Decimal, noted: Decimal) -> Decimal:
    """What stays of a note of `noted` (held outside Sparky) where books and venue differ: it shrinks towards 0 first.

    A difference on the note's own side leaves it as it is.
    """
    difference = at_venue - noted - booked
    if noted == 0 or difference == 0 or (noted > 0) is (difference > 0):
        return noted
    return noted + difference if abs(difference) < abs(noted) else ZERO


def can_be_noted(quantity: Decimal, at_venue: Decimal, noted: Decimal) -> bool:
    """Whether `quantity` can be held outside Sparky by an account that holds `at_venue` in all, `noted` of it so far.

    It is on the account's side and no more than its net, or less of what was noted. 0 ends a note.
    """
    within = at_venue if quantity * at_venue > 0 and abs(quantity) <= abs(at_venue) else noted
    return quantity == 0 or (quantity * within > 0 and abs(quantity) <= abs(within))


def find_unbooked_trades(trades: Sequence[AccountTrade], booked: Mapping[str, BookedOrder]) -> list[AccountTrade]:
    """What of `trades` (oldest first) is not in the books, of orders that are booked in part the rest with its fee.

    Nothing of those up to the newest that a person has adopted: all before is settled.
    """
    adopted = {each.order_id for each in booked.values() if each.is_adopted}
    settled = max((index for index, each in enumerate(trades) if each.order_id in adopted), default=-1)
    left: list[AccountTrade] = []
    for order_id, of_order in _by_order(trades[settled + 1 :]).items():
        known = booked.get(order_id)
        left += of_order if known is None else _rest(of_order, known)
    return sorted(left, key=lambda each: each.trade_id)


def _by_order(trades: Sequence[AccountTrade]) -> dict[str, list[AccountTrade]]:
    found: dict[str, list[AccountTrade]] = {}
    for each in trades:
        found.setdefault(each.order_id, []).append(each)
    return found


def _rest(trades: Sequence[AccountTrade], known: BookedOrder) -> list[AccountTrade]:
    """The newest of one order's `trades` beyond the quantity that is booked, which share the fee that is not."""
    gone, left = known.quantity, list[AccountTrade]()
    for each in trades:
        part = min(gone, each.quantity)
        gone -= part
        if part < each.quantity:
            left.append(each.model_copy(update={"quantity": each.quantity - part}))
    fees = [each.fee_usd for each in trades if each.fee_usd is not None]
    fee = sum(fees, ZERO) - known.fee_usd if len(fees) == len(trades) else None
    parts = split_fee(fee, [each.quantity for each in left])
    return [each.model_copy(update={"fee_usd": part}) for each, part in zip(left, parts, strict=True)]


def find_explaining_trades(trades: Sequence[AccountTrade], change: Decimal) -> tuple[AccountTrade, ...]:
    """The fewest newest of `trades` (oldest first) that come to `change` together; () where none do."""
    total = ZERO
    for index in range(len(trades) - 1, -1, -1):
        total += trades[index].signed_quantity
        if total == change:
            return tuple(trades[index:])
    return ()


def price_trades(trades: Sequence[AccountTrade]) -> Pricing | None:
    """The price at which all of `trades` together moved their net, which keeps the cash exact, and their fees.

    None where trades in both directions come to no price.
    """
    change = sum((trade.signed_quantity for trade in trades), ZERO)
    if change == 0:
        return None
    price = sum((trade.signed_quantity * trade.price for trade in trades), ZERO) / change
    if price <= 0:
        return None
    fees = [trade.fee_usd for trade in trades]
    known = [fee for fee in fees if fee is not None]
    fee = sum(known, ZERO) if len(known) == len(fees) else None
    newest = trades[-1]
    return Pricing(source=Source.RECORD, price=price, fee_usd=fee, order_id=newest.order_id, at_ms=newest.at_ms)


def split_fee(fee_usd: Decimal | None, quantities: Sequence[Decimal]) -> list[Decimal | None]:
    """`fee_usd` shared in proportion to `quantities`, to 8 places; the last one takes what is left of it."""
    if fee_usd is None or not quantities:
        return [None for _ in quantities]
    total = sum(quantities, ZERO)
    parts = [(fee_usd * each / total).quantize(_FEE_PLACES, ROUND_DOWN) for each in quantities[:-1]]
    return [*parts, fee_usd - sum(parts, ZERO)]
