"""Which positions ended by trades that were not ours: pure arithmetic over the books and the account's record.

The rule, as docs/venues.md states it. In the venue's order, each outside trade
1. first takes back what outside trades before it had added and the books do not know;
2. then, where it reduces the net of the books as it was at that moment, ends what was held on the side of that net: of
   every position there its share by what it held then, in whole lots, and no more in all than the net, since the venue
   held no more. What has ended since cannot end again: its share falls to the others on that side;
3. what is left of it is the business of whoever made it, and in nobody's books.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

from engine.domain import decimals
from engine.domain.positions import Position, Side
from engine.domain.pro_rata import find_unit, split_pro_rata
from engine.venues.account_record import AccountTrade

ZERO = Decimal(0)


@dataclass(frozen=True)
class OutsideTrade:
    """A trade of the account that no order of ours made; `reason` is the exit reason of what it ends.

    `own_since` is what booked orders have done after it for each position (None: for several), signed; the books of now
    include that.
    """

    trade: AccountTrade
    reason: str
    fee_usd: Decimal
    own_since: Mapping[UUID | None, Decimal] = field(default_factory=dict)


@dataclass(frozen=True)
class AttributedExit:
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
    """The parts that ended, what is `remaining` of each position, and what outside trades did beyond the books."""

    exits: tuple[AttributedExit, ...]
    remaining: Mapping[UUID, Decimal]
    unbooked_net: Decimal

    @property
    def net(self) -> Decimal:
        """What the books would hold after the parts are booked; positive when long."""
        return decimals.total(self.remaining.values())


def attribute_trades(
    positions: Sequence[Position], trades: Iterable[OutsideTrade], unbooked_net: Decimal, lot: Decimal
) -> Attribution:
    """Applies the rule to `trades`, oldest first. `unbooked_net` is what outside trades before these left beside the
    books; `lot` is the step of the instrument."""
    remaining = {
        each.id: each.quantity if each.side is Side.LONG else each.quantity.copy_negate() for each in positions
    }
    taken: list[tuple[UUID, OutsideTrade, Decimal, Decimal]] = []
    for outside in trades:
        change = outside.trade.signed_quantity
        offset = _reducing_part(unbooked_net, change)
        unbooked_net, change = decimals.total((unbooked_net, offset)), decimals.total((change, offset.copy_negate()))
        held_before = _held_before(remaining, outside.own_since)
        reduction = _cap_at_held(remaining, _reducing_part(decimals.total(held_before.values()), change))
        for position_id, quantity in _distribute(remaining, held_before, reduction, lot).items():
            remaining[position_id] = decimals.total((remaining[position_id], quantity))
            taken.append((position_id, outside, quantity, _split_fee(outside, quantity)))
        unbooked_net = decimals.total((unbooked_net, change, reduction.copy_negate()))
    by_id = {each.id: each for each in positions}
    return Attribution(_build_exits(by_id, taken), remaining, unbooked_net)


def _held_before(
    remaining: Mapping[UUID, Decimal], own_since: Mapping[UUID | None, Decimal]
) -> dict[UUID | None, Decimal]:
    """What was held before `own_since`, also of positions that have ended."""
    names: list[UUID | None] = [*remaining, *(name for name in own_since if name not in remaining)]
    return {
        name: decimals.total((_get_quantity(remaining, name), _get_quantity(own_since, name).copy_negate()))
        for name in names
    }


def _get_quantity(quantities: Mapping[UUID, Decimal] | Mapping[UUID | None, Decimal], name: UUID | None) -> Decimal:
    return next((quantity for each, quantity in quantities.items() if each == name), ZERO)


def _reducing_part(net: Decimal, change: Decimal) -> Decimal:
    """The part of `change` that reduces `net`; 0 where it adds to it."""
    if net * change >= 0:
        return ZERO
    return change if change.copy_abs() <= net.copy_abs() else net.copy_negate()


def _cap_at_held(remaining: Mapping[UUID, Decimal], reduction: Decimal) -> Decimal:
    """As much of `reduction` as is held still on the side that it reduces."""
    on_side = decimals.total(quantity.copy_abs() for quantity in remaining.values() if quantity * reduction < 0)
    return min(reduction.copy_abs(), on_side).copy_sign(reduction)


def _distribute(
    remaining: Mapping[UUID, Decimal], held_before: Mapping[UUID | None, Decimal], reduction: Decimal, lot: Decimal
) -> dict[UUID, Decimal]:
    """`reduction` (signed) over the positions on the side that it reduces, by what each had in `held_before`; what
    those do not hold any more, over the others. It is at most the whole that is `remaining` there."""
    room = {name: quantity.copy_abs() for name, quantity in remaining.items() if quantity * reduction < 0}
    taken, whole = dict.fromkeys(room, ZERO), reduction.copy_abs()
    unit = find_unit([whole, *room.values()], lot) if whole else lot
    while whole > 0:
        open_room = {name: quantity for name, quantity in room.items() if quantity > 0}
        weights = {
            name: held_before[name].copy_abs() for name in open_room if held_before[name] * reduction < 0
        } or open_room
        for name, share in zip(weights, split_pro_rata(whole, list(weights.values()), unit), strict=True):
            part = min(share, room[name])
            room[name], taken[name] = (
                decimals.total((room[name], part.copy_negate())),
                decimals.total((taken[name], part)),
            )
        whole = decimals.total((reduction.copy_abs(), *(each.copy_negate() for each in taken.values())))
    return {name: part.copy_sign(reduction) for name, part in taken.items() if part > 0}


def _split_fee(outside: OutsideTrade, quantity: Decimal) -> Decimal:
    return decimals.quotient(decimals.product(outside.fee_usd, quantity.copy_abs()), outside.trade.quantity)


def _build_exits(
    positions: Mapping[UUID, Position], taken: Sequence[tuple[UUID, OutsideTrade, Decimal, Decimal]]
) -> tuple[AttributedExit, ...]:
    """Trades of one order are one exit of a position."""
    grouped: dict[tuple[UUID, str, str], list[tuple[OutsideTrade, Decimal, Decimal]]] = {}
    for position_id, outside, quantity, fee_usd in taken:
        key = (position_id, outside.trade.order_id, outside.reason)
        grouped.setdefault(key, []).append((outside, quantity.copy_abs(), fee_usd))
    return tuple(_build_exit(positions[key[0]], group) for key, group in grouped.items())


def _build_exit(position: Position, group: Sequence[tuple[OutsideTrade, Decimal, Decimal]]) -> AttributedExit:
    last = group[-1][0]
    quantity = decimals.total(each for _, each, _ in group)
    value = decimals.total(decimals.product(outside.trade.price, each) for outside, each, _ in group)
    return AttributedExit(
        position=position,
        reason=last.reason,
        order_id=last.trade.order_id,
        last_trade_id=last.trade.trade_id,
        quantity=quantity,
        price=last.trade.price if len(group) == 1 else decimals.quotient(value, quantity),
        fee_usd=decimals.total(fee for _, _, fee in group),
        at_ms=last.trade.at_ms,
    )
