"""Which positions a payment of funding belongs to, and which of their trades when they have ended since.

A payment is about the net that the account held at its moment. What the venue tells as its time may be some seconds
after the full hour at which it was due, and who trades within those seconds may be counted in or out (Binance: up to
15 s); so the full hour is tried first, then the time that is told.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final
from uuid import UUID

from engine.domain import decimals
from engine.domain.positions import Side
from engine.store.funding import FundingFacts, FundingShare, PositionFill

ZERO: Final = Decimal(0)
HOUR_MS: Final = 3_600_000
MAX_DELAY_MS: Final = 120_000  # how long after the full hour a payment may say that it was made
ALWAYS_MS: Final = 0


@dataclass(frozen=True)
class PositionHistory:
    """One position over time: what it began with beside its fills (of before fills were kept) and the fills."""

    position_id: UUID
    side: Side
    base: Decimal
    base_since_ms: int
    fills: tuple[PositionFill, ...]
    is_held: bool

    def size_at(self, moment_ms: int) -> Decimal:
        """What was held after all fills of that moment and before."""
        base = self.base if self.base_since_ms <= moment_ms else ZERO
        return max(ZERO, decimals.total((base, *(each.size_change for each in self.fills if each.at_ms <= moment_ms))))

    def net_at(self, moment_ms: int) -> Decimal:
        """The same, negative when short."""
        size = self.size_at(moment_ms)
        return size if self.side is Side.LONG else size.copy_negate()


@dataclass(frozen=True)
class PaymentSplit:
    """A payment's parts: of positions and of others on the account. `is_explained` is False when nothing was held."""

    shares: tuple[FundingShare, ...]
    others_usd: Decimal
    is_explained: bool


def build_histories(facts: FundingFacts) -> tuple[PositionHistory, ...]:
    """Every position of the facts, in the order of their ids."""
    held = {each.position_id: each for each in facts.held}
    fills: dict[UUID, list[PositionFill]] = {position_id: [] for position_id in held}
    for fill in facts.fills:
        fills.setdefault(fill.position_id, []).append(fill)
    histories = []
    for position_id in sorted(fills):
        now, own = held.get(position_id), tuple(fills[position_id])
        changes = decimals.total(each.size_change for each in own)
        base = decimals.total((now.quantity if now is not None else ZERO, changes.copy_negate()))
        histories.append(
            PositionHistory(
                position_id=position_id,
                side=now.side if now is not None else own[0].side,
                base=max(ZERO, base),
                base_since_ms=now.since_ms if now is not None else ALWAYS_MS,
                fills=own,
                is_held=now is not None,
            )
        )
    return tuple(histories)


def candidate_times(at_ms: int) -> Iterator[int]:
    """When a payment that is told for `at_ms` may have been due, the likeliest first. A trade of the very millisecond
    may count or not."""
    full_ms = at_ms - at_ms % HOUR_MS
    if at_ms - full_ms <= MAX_DELAY_MS:
        yield full_ms
    yield at_ms
    if at_ms - full_ms <= MAX_DELAY_MS:
        yield full_ms - 1
    yield at_ms - 1


def split_payment(usd: Decimal, at_ms: int, facts: FundingFacts) -> PaymentSplit:
    """The parts of one payment to an account: each position's by its share of the net, the rest to the last."""
    histories = build_histories(facts)
    for moment_ms in candidate_times(at_ms):
        nets: dict[UUID | None, Decimal] = {None: facts.others_net} if facts.others_net else {}
        nets |= {each.position_id: net for each in histories if (net := each.net_at(moment_ms))}
        net = decimals.total(nets.values())
        if not net:
            continue
        parts = _split_by_net(usd, nets, net)
        shares = (
            allocate_share(parts[each.position_id], each, moment_ms) for each in histories if each.position_id in nets
        )
        return PaymentSplit(tuple(shares), parts.get(None, ZERO), is_explained=True)
    return PaymentSplit((), usd, is_explained=False)


def allocate_share(usd: Decimal, history: PositionHistory, moment_ms: int) -> FundingShare:
    """`usd` as it would be had it been booked at its moment: what was closed since has its part, as with fees, and the
    rest is of what is held still, or of the last trade."""
    remainder, size, trades = usd, history.size_at(moment_ms), dict[UUID, Decimal]()
    for fill in history.fills:
        if fill.at_ms <= moment_ms:
            continue
        if fill.trade_id is not None and size > 0:
            is_all = fill.quantity >= size
            part = remainder if is_all else decimals.quotient(decimals.product(remainder, fill.quantity), size)
            trades[fill.trade_id] = part
            remainder = decimals.total((remainder, part.copy_negate()))
        size = decimals.total((size, fill.size_change))
    if remainder and not history.is_held:
        last = next((each.trade_id for each in reversed(history.fills) if each.trade_id is not None), None)
        if last is not None:
            trades[last] = decimals.total((trades.get(last, ZERO), remainder))
            remainder = ZERO
    return FundingShare(position_id=history.position_id, usd=usd, held_usd=remainder, trades=trades)


def _split_by_net(usd: Decimal, nets: Mapping[UUID | None, Decimal], net: Decimal) -> dict[UUID | None, Decimal]:
    remainder, found = usd, dict[UUID | None, Decimal]()
    *first, last = nets
    for key in first:
        found[key] = decimals.quotient(decimals.product(usd, nets[key]), net)
        remainder = decimals.total((remainder, found[key].copy_negate()))
    return found | {last: remainder}
