"""Attributes trades that were not ours to the positions they ended: pure arithmetic over books and account record.

The rule, as docs/venues.md states it. In the venue's order, each outside trade
1. first offsets what earlier outside trades had added and the books do not know (`unbooked_net`);
2. then, where it reduces the net of the books as it was at that moment, ends positions on the side of that net, each by
   its share of what was held then, in whole lots, and no more in all than the net, since the venue held no more. A
   position that has ended since cannot end again: its share falls to the others on that side;
3. the remainder stays outside the books, with the person who traded it.
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
    """A trade of the account that no order of ours made; `reason` is the exit reason of the positions it ends.

    `own_since` is what booked orders have done after it for each position (None: for several), signed; the books of now
    include that.
    """

    trade: AccountTrade
    reason: str
    fee_usd: Decimal
    own_since: Mapping[UUID | None, Decimal] = field(default_factory=dict)


@dataclass(frozen=True)
class AttributedExit:
    """The part of one position that one outside order ended: `price` is the average, `fee_usd` its share of the fees.
    `at_ms` is Unix time."""

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
    """The `exits`, the signed quantity `remaining` of each position, and the net of outside trades beyond the books."""

    exits: tuple[AttributedExit, ...]
    remaining: Mapping[UUID, Decimal]
    unbooked_net: Decimal

    @property
    def net(self) -> Decimal:
        """The signed quantity in the books after `exits` are booked; positive when long."""
        return decimals.total(self.remaining.values())


def attribute_trades(
    positions: Sequence[Position], trades: Iterable[OutsideTrade], unbooked_net: Decimal, lot: Decimal
) -> Attribution:
    """Applies the rule to `trades`, oldest first. `unbooked_net` is the net that earlier outside trades left beside the
    books; `lot` is the instrument's quantity step."""
    remaining = {
        position.id: position.quantity if position.side is Side.LONG else position.quantity.copy_negate()
        for position in positions
    }
    taken: list[tuple[UUID, OutsideTrade, Decimal, Decimal]] = []
    for outside in trades:
        change = outside.trade.signed_quantity
        # Step 1 of the rule: what earlier outside trades had added comes off first, since no position holds it.
        offset = _compute_reducing_part(unbooked_net, change)
        unbooked_net, change = decimals.total((unbooked_net, offset)), decimals.total((change, offset.copy_negate()))
        # Step 2: shares are those of the trade's own moment, so our later trades are taken back for it.
        held_before = _compute_held_before(remaining, outside.own_since)
        reduction = _cap_at_held(remaining, _compute_reducing_part(decimals.total(held_before.values()), change))
        for position_id, quantity in _distribute(remaining, held_before, reduction, lot).items():
            remaining[position_id] = decimals.total((remaining[position_id], quantity))
            taken.append((position_id, outside, quantity, _split_fee(outside, quantity)))
        # Step 3: the remainder stays outside the books.
        unbooked_net = decimals.total((unbooked_net, change, reduction.copy_negate()))
    by_id = {position.id: position for position in positions}
    return Attribution(_build_exits(by_id, taken), remaining, unbooked_net)


def _compute_held_before(
    remaining: Mapping[UUID, Decimal], own_since: Mapping[UUID | None, Decimal]
) -> dict[UUID | None, Decimal]:
    """Signed quantities before our own trades `own_since`, also of positions that have ended since."""
    position_ids: list[UUID | None] = [*remaining, *(key for key in own_since if key not in remaining)]
    return {
        key: decimals.total((_get_quantity(remaining, key), _get_quantity(own_since, key).copy_negate()))
        for key in position_ids
    }


def _get_quantity(quantities: Mapping[UUID, Decimal] | Mapping[UUID | None, Decimal], key: UUID | None) -> Decimal:
    return next((quantity for position_id, quantity in quantities.items() if position_id == key), ZERO)


def _compute_reducing_part(net: Decimal, change: Decimal) -> Decimal:
    """The part of `change` that reduces `net`; 0 where it adds to it."""
    if net * change >= 0:
        return ZERO
    return change if change.copy_abs() <= net.copy_abs() else net.copy_negate()


def _cap_at_held(remaining: Mapping[UUID, Decimal], reduction: Decimal) -> Decimal:
    """`reduction`, at most by the quantity that is still held on the side that it reduces."""
    on_side = decimals.total(quantity.copy_abs() for quantity in remaining.values() if quantity * reduction < 0)
    return min(reduction.copy_abs(), on_side).copy_sign(reduction)


def _distribute(
    remaining: Mapping[UUID, Decimal], held_before: Mapping[UUID | None, Decimal], reduction: Decimal, lot: Decimal
) -> dict[UUID, Decimal]:
    """Splits `reduction` (signed) over the positions on the side that it reduces, in proportion to `held_before`. What
    exceeds a position's `remaining` falls to the others; `reduction` must not exceed the sum of `remaining` there."""
    open_quantities = {key: quantity.copy_abs() for key, quantity in remaining.items() if quantity * reduction < 0}
    taken, undistributed = dict.fromkeys(open_quantities, ZERO), reduction.copy_abs()
    unit = find_unit([undistributed, *open_quantities.values()], lot) if undistributed else lot
    while undistributed > 0:
        candidates = {key: quantity for key, quantity in open_quantities.items() if quantity > 0}
        weights = {
            key: held_before[key].copy_abs() for key in candidates if held_before[key] * reduction < 0
        } or candidates
        shares = split_pro_rata(undistributed, list(weights.values()), unit)
        for key, share in zip(weights, shares, strict=True):
            part = min(share, open_quantities[key])
            open_quantities[key] = decimals.total((open_quantities[key], part.copy_negate()))
            taken[key] = decimals.total((taken[key], part))
        undistributed = decimals.total((reduction.copy_abs(), *(part.copy_negate() for part in taken.values())))
    return {key: part.copy_sign(reduction) for key, part in taken.items() if part > 0}


def _split_fee(outside: OutsideTrade, quantity: Decimal) -> Decimal:
    return decimals.quotient(decimals.product(outside.fee_usd, quantity.copy_abs()), outside.trade.quantity)


def _build_exits(
    positions: Mapping[UUID, Position], taken: Sequence[tuple[UUID, OutsideTrade, Decimal, Decimal]]
) -> tuple[AttributedExit, ...]:
    """Groups the trades of one order into one exit of a position."""
    grouped: dict[tuple[UUID, str, str], list[tuple[OutsideTrade, Decimal, Decimal]]] = {}
    for position_id, outside, quantity, fee_usd in taken:
        key = (position_id, outside.trade.order_id, outside.reason)
        grouped.setdefault(key, []).append((outside, quantity.copy_abs(), fee_usd))
    return tuple(_build_exit(positions[key[0]], group) for key, group in grouped.items())


def _build_exit(position: Position, group: Sequence[tuple[OutsideTrade, Decimal, Decimal]]) -> AttributedExit:
    last = group[-1][0]
    quantity = decimals.total(part for _, part, _ in group)
    value = decimals.total(decimals.product(outside.trade.price, part) for outside, part, _ in group)
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
