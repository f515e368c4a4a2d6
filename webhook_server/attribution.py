"""Which positions ended by trades that were not ours: pure arithmetic over the books and the account's record.

The rule, as docs/venues.md states it. In the venue's order, each outside trade
1. first takes back what outside trades before it had added and the books do not know;
2. then, where it reduces the net of the books as it was at that moment, ends what is held on the side of that net: of
   every position there its share by quantity, in whole lots, and no more in all than the net, since the venue held no
   more;
3. what is left of it is the business of whoever made it, and in nobody's books.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from engine import booked
from engine.exchanges.account_record import AccountTrade
from engine.shares import shares, unit_of
from engine.types import Position, Side

ZERO = Decimal(0)


@dataclass(frozen=True)
class OutsideTrade:
    """A trade of the account that no order of ours made; `reason` is the exit reason of what it ends.

    `own_since` is what booked orders have done to the account's net after it, which the books of now include.
    """

    trade: AccountTrade
    reason: str
    fee_usd: Decimal
    own_since: Decimal = ZERO


@dataclass(frozen=True)
class Part:
    """What one outside order ended of one position: `price` is the average, `fee_usd` its share of the fees."""

    position: Position
    reason: str
    order_id: str
    last_trade_id: int
    quantity: Decimal
    price: Decimal
    fee_usd: Decimal
    at_ms: int


@dataclass(frozen=True)
class Attribution:
    """The parts that ended, what is `left` of each position, and what outside trades did beyond the books."""

    parts: tuple[Part, ...]
    left: Mapping[UUID, Decimal]
    unbooked_net: Decimal

    @property
    def net(self) -> Decimal:
        """What the books would hold after the parts are booked; positive when long."""
        return booked.total(self.left.values())


def attribute(
    positions: Sequence[Position], trades: Iterable[OutsideTrade], unbooked_net: Decimal, lot: Decimal
) -> Attribution:
    """Applies the rule to `trades`, oldest first. `unbooked_net` is what outside trades before these left beside the
    books; `lot` is the step of the instrument."""
    left = {each.id: each.quantity if each.side is Side.LONG else each.quantity.copy_negate() for each in positions}
    taken: list[tuple[UUID, OutsideTrade, Decimal, Decimal]] = []
    for outside in trades:
        change = outside.trade.change
        back = _opposite(unbooked_net, change)
        unbooked_net, change = booked.total((unbooked_net, back)), booked.total((change, back.copy_negate()))
        ended = _held(left, _opposite(booked.total((*left.values(), outside.own_since.copy_negate())), change))
        for position_id, quantity in _shares(left, ended, lot).items():
            left[position_id] = booked.total((left[position_id], quantity))
            taken.append((position_id, outside, quantity, _fee_share(outside, quantity)))
        unbooked_net = booked.total((unbooked_net, change, ended.copy_negate()))
    by_id = {each.id: each for each in positions}
    return Attribution(_parts(by_id, taken), left, unbooked_net)


def _opposite(net: Decimal, change: Decimal) -> Decimal:
    """The part of `change` that reduces `net`; 0 where it adds to it."""
    if net * change >= 0:
        return ZERO
    return change if change.copy_abs() <= net.copy_abs() else net.copy_negate()


def _held(left: Mapping[UUID, Decimal], ended: Decimal) -> Decimal:
    """As much of `ended` as is held still on the side that it reduces."""
    on_side = booked.total(quantity.copy_abs() for quantity in left.values() if quantity * ended < 0)
    return min(ended.copy_abs(), on_side).copy_sign(ended)


def _shares(left: Mapping[UUID, Decimal], ended: Decimal, lot: Decimal) -> dict[UUID, Decimal]:
    """`ended` (signed) over the positions on the side that it reduces, of which it is at most the whole."""
    on_side = {name: quantity.copy_abs() for name, quantity in left.items() if quantity * ended < 0}
    quantities = list(on_side.values())
    whole = ended.copy_abs()
    parts = shares(whole, quantities, unit_of([whole, *quantities], lot)) if quantities else []
    return {name: part.copy_sign(ended) for name, part in zip(on_side, parts, strict=True) if part > 0}


def _fee_share(outside: OutsideTrade, quantity: Decimal) -> Decimal:
    return booked.quotient(booked.product(outside.fee_usd, quantity.copy_abs()), outside.trade.quantity)


def _parts(
    positions: Mapping[UUID, Position], taken: Sequence[tuple[UUID, OutsideTrade, Decimal, Decimal]]
) -> tuple[Part, ...]:
    """Trades of one order are one exit of a position."""
    grouped: dict[tuple[UUID, str, str], list[tuple[OutsideTrade, Decimal, Decimal]]] = {}
    for position_id, outside, quantity, fee_usd in taken:
        key = (position_id, outside.trade.order_id, outside.reason)
        grouped.setdefault(key, []).append((outside, quantity.copy_abs(), fee_usd))
    return tuple(_part(positions[key[0]], group) for key, group in grouped.items())


def _part(position: Position, group: Sequence[tuple[OutsideTrade, Decimal, Decimal]]) -> Part:
    last = group[-1][0]
    quantity = booked.total(each for _, each, _ in group)
    value = booked.total(booked.product(outside.trade.price, each) for outside, each, _ in group)
    return Part(
        position=position,
        reason=last.reason,
        order_id=last.trade.order_id,
        last_trade_id=last.trade.trade_id,
        quantity=quantity,
        price=last.trade.price if len(group) == 1 else booked.quotient(value, quantity),
        fee_usd=booked.total(fee for _, _, fee in group),
        at_ms=last.trade.at_ms,
    )
