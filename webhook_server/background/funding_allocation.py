"""Splits a funding payment over the positions it was paid for, and over their trades where they have ended since.

A payment is for the net position of the account at its due time. The time in the venue's record may be some seconds
after the full hour at which it was due, and a fill within those seconds may count or not (Binance: up to 15 s), so the
full hour is tried first, then the recorded time.
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
MAX_DELAY_MS: Final = 120_000  # of a payment's recorded time after the full hour at which it was due
ALWAYS_MS: Final = 0  # "since ever" for a quantity whose entry is not known


@dataclass(frozen=True)
class PositionHistory:
    """One position over time: `base` is the quantity from `base_since_ms` on that no fill explains (entries from before
    fills were kept), `fills` are in order of time."""

    position_id: UUID
    side: Side
    base: Decimal
    base_since_ms: int
    fills: tuple[PositionFill, ...]
    is_held: bool

    def get_size_at(self, moment_ms: int) -> Decimal:
        """The quantity held after all fills up to and including `moment_ms`."""
        base = self.base if self.base_since_ms <= moment_ms else ZERO
        return max(ZERO, decimals.total((base, *(fill.size_change for fill in self.fills if fill.at_ms <= moment_ms))))

    def get_net_at(self, moment_ms: int) -> Decimal:
        """The signed quantity at `moment_ms`; negative when short."""
        size = self.get_size_at(moment_ms)
        return size if self.side is Side.LONG else size.copy_negate()


@dataclass(frozen=True)
class PaymentSplit:
    """A payment's parts (USD): of positions, and of what others hold on the account. `is_explained` is False when the
    books held nothing at any candidate time."""

    shares: tuple[FundingShare, ...]
    others_usd: Decimal
    is_explained: bool


def build_histories(facts: FundingFacts) -> tuple[PositionHistory, ...]:
    """Every position of `facts`, held or ended, in the order of their ids."""
    held = {position.position_id: position for position in facts.held}
    fills: dict[UUID, list[PositionFill]] = {position_id: [] for position_id in held}
    for fill in facts.fills:
        fills.setdefault(fill.position_id, []).append(fill)
    histories = []
    for position_id in sorted(fills):
        current, own = held.get(position_id), tuple(fills[position_id])
        changes = decimals.total(fill.size_change for fill in own)
        base = decimals.total((current.quantity if current is not None else ZERO, changes.copy_negate()))
        histories.append(
            PositionHistory(
                position_id=position_id,
                side=current.side if current is not None else own[0].side,
                base=max(ZERO, base),
                base_since_ms=current.since_ms if current is not None else ALWAYS_MS,
                fills=own,
                is_held=current is not None,
            )
        )
    return tuple(histories)


def generate_candidate_times(at_ms: int) -> Iterator[int]:
    """Due times (Unix ms) of a payment that the venue records at `at_ms`, the likeliest first. Each comes also less a
    millisecond, since a fill of that very millisecond may count or not."""
    full_ms = at_ms - at_ms % HOUR_MS
    if at_ms - full_ms <= MAX_DELAY_MS:
        yield full_ms
    yield at_ms
    if at_ms - full_ms <= MAX_DELAY_MS:
        yield full_ms - 1
    yield at_ms - 1


def split_payment(usd: Decimal, at_ms: int, facts: FundingFacts) -> PaymentSplit:
    """Splits the payment `usd` of an account by each position's share of the net; the last one takes the rounding
    remainder."""
    histories = build_histories(facts)
    for moment_ms in generate_candidate_times(at_ms):
        nets: dict[UUID | None, Decimal] = {None: facts.others_net} if facts.others_net else {}
        nets |= {history.position_id: net for history in histories if (net := history.get_net_at(moment_ms))}
        net = decimals.total(nets.values())
        if not net:
            continue
        parts = _split_by_net(usd, nets, net)
        shares = (
            allocate_share(parts[history.position_id], history, moment_ms)
            for history in histories
            if history.position_id in nets
        )
        return PaymentSplit(tuple(shares), parts.get(None, ZERO), is_explained=True)
    return PaymentSplit((), usd, is_explained=False)


def allocate_share(usd: Decimal, history: PositionHistory, moment_ms: int) -> FundingShare:
    """Splits a position's share `usd` as if it had been booked at `moment_ms`: exits since then bear their part, as of
    entry fees; the rest belongs to the quantity still held, else to the last exit."""
    remainder, size, trades = usd, history.get_size_at(moment_ms), dict[UUID, Decimal]()
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
        last = next((fill.trade_id for fill in reversed(history.fills) if fill.trade_id is not None), None)
        if last is not None:
            trades[last] = decimals.total((trades.get(last, ZERO), remainder))
            remainder = ZERO
    return FundingShare(position_id=history.position_id, usd=usd, held_usd=remainder, trades=trades)


def _split_by_net(usd: Decimal, nets: Mapping[UUID | None, Decimal], net: Decimal) -> dict[UUID | None, Decimal]:
    remainder, parts = usd, dict[UUID | None, Decimal]()
    *first, last = nets
    for key in first:
        parts[key] = decimals.quotient(decimals.product(usd, nets[key]), net)
        remainder = decimals.total((remainder, parts[key].copy_negate()))
    return parts | {last: remainder}
