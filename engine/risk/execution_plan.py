"""What an order comes to, given what is held and what the limits say: close, open, both or neither. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from engine.domain.positions import Position
from engine.domain.signal import TradeSignal
from engine.risk import entry_limits
from engine.risk.limit_breach import CostCheck, LimitBreach, LimitType, no_cost_limit
from engine.store.webhook_rows import Portfolio


@dataclass(frozen=True)
class ExecutionPlan:
    """The legs of one order: first close what is held (if `close`), then open `open_usd` of notional (if above 0).

    `breach` says why an entry has no open leg, `reason` why there is nothing to do, `reduced_by` which limits made
    `open_usd` less than was asked.
    """

    close: bool = False
    open_usd: Decimal = Decimal(0)
    breach: LimitBreach | None = None
    reason: str | None = None
    reduced_by: tuple[str, ...] = ()


def plan_entry(
    signal: TradeSignal,
    portfolio: Portfolio,
    held: Position | None,
    now: datetime,
    costs: CostCheck = no_cost_limit,
) -> ExecutionPlan:
    """The legs of an entry. Against what is held it is a reversal: close, then open.

    When a limit refuses the entry of a reversal, its exit is still made (exits are never blocked), unless the signal
    is stale: then nothing in it is to be believed. What the entry of a reversal costs is judged after its exit, which
    does not wait for a venue that quotes late or not at all.
    """
    is_reversal = held is not None and held.side is not signal.side
    verdict = entry_limits.check_entry(signal, portfolio, held, now, no_cost_limit if is_reversal else costs)
    if isinstance(verdict, LimitBreach):
        return ExecutionPlan(close=is_reversal and verdict.limit_type is not LimitType.STALE_SIGNAL, breach=verdict)
    if verdict.size_usd <= 0:
        return ExecutionPlan(close=is_reversal, reason=f"the position in {signal.symbol} has its largest size")
    return ExecutionPlan(close=is_reversal, open_usd=verdict.size_usd, reduced_by=verdict.reduced_by)


def without_position(portfolio: Portfolio, position: Position | None) -> Portfolio:
    """`portfolio` once `position` is closed."""
    left = tuple(each for each in portfolio.open_positions if each != position)
    closed = len(portfolio.open_positions) - len(left)
    count = portfolio.open_position_count - closed
    return portfolio.model_copy(update={"open_positions": left, "open_position_count": count})


def find_held_position(signal: TradeSignal, positions: Sequence[Position], *, is_paper: bool) -> Position | None:
    """What the order's strategy (or, without one, the person) holds in its symbol in one book."""
    matching = [each for each in _select_matching(signal, positions) if each.is_paper is is_paper]
    return matching[0] if matching else None


def find_position_to_close(
    signal: TradeSignal, positions: Sequence[Position], asked_at: datetime | None
) -> Position | None:
    """The position that a CLOSE means, in whichever book it is; the newest when both books have one.

    Only a person's ``environment`` narrows it to one book: what is at stake can always be closed. With `asked_at`
    positions opened after that are left alone: a CLOSE that was held up never closes what came later.
    """
    candidates = list(_select_matching(signal, positions))
    if signal.strategy_id is None and signal.environment is not None:
        candidates = [each for each in candidates if each.is_paper is (signal.environment != "production")]
    if asked_at is not None:
        candidates = [each for each in candidates if each.entry_time <= asked_at]
    return max(candidates, key=lambda each: each.entry_time, default=None)


def _select_matching(signal: TradeSignal, positions: Sequence[Position]) -> Iterator[Position]:
    return (each for each in positions if each.symbol == signal.symbol and each.strategy_id == signal.strategy_id)
