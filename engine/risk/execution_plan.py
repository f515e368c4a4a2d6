"""Plans the execution of a signal by the position held and the limits: close, open, both or neither. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from engine.domain.positions import Position
from engine.domain.signal import TradeSignal
from engine.risk import entry_limits
from engine.risk.limit_breach import CostCheck, LimitBreach, LimitType, skip_cost_check
from engine.risk.sizing import ReducedBy
from engine.store.webhook_rows import Portfolio


@dataclass(frozen=True)
class ExecutionPlan:
    """The legs of one signal: first close the position (if `close`), then open `open_usd` of notional (if above 0).

    `breach` is the limit that refused an open leg, `reason` a sentence why there is nothing to do, `reduced_by` the
    limits that made `open_usd` less than requested.
    """

    close: bool = False
    open_usd: Decimal = Decimal(0)
    breach: LimitBreach | None = None
    reason: str | None = None
    reduced_by: tuple[ReducedBy, ...] = ()


def plan_entry(
    signal: TradeSignal,
    portfolio: Portfolio,
    held: Position | None,
    now: datetime,
    costs: CostCheck = skip_cost_check,
) -> ExecutionPlan:
    """The legs of an entry. On the side opposite to `held` it is a reversal: close, then open.

    When a limit refuses the entry of a reversal, its exit is still planned (exits are never blocked), unless the signal
    is stale: the market it was decided for has passed. The costs of a reversal's entry are checked after its exit,
    because the exit must not wait for a venue that quotes late or not at all.
    """
    is_reversal = held is not None and held.side is not signal.side
    verdict = entry_limits.check_entry(signal, portfolio, held, now, skip_cost_check if is_reversal else costs)
    if isinstance(verdict, LimitBreach):
        return ExecutionPlan(close=is_reversal and verdict.limit_type is not LimitType.STALE_SIGNAL, breach=verdict)
    if verdict.size_usd <= 0:
        return ExecutionPlan(close=is_reversal, reason=f"the position in {signal.symbol} has its largest size")
    return ExecutionPlan(close=is_reversal, open_usd=verdict.size_usd, reduced_by=verdict.reduced_by)


def without_position(portfolio: Portfolio, position: Position | None) -> Portfolio:
    """`portfolio` once `position` is closed."""
    left = tuple(other for other in portfolio.open_positions if other != position)
    closed = len(portfolio.open_positions) - len(left)
    count = portfolio.open_position_count - closed
    return portfolio.model_copy(update={"open_positions": left, "open_position_count": count})


def find_held_position(signal: TradeSignal, positions: Sequence[Position], *, is_paper: bool) -> Position | None:
    """The position of the signal's strategy (or, without one, of the person) in its symbol: on paper, or live."""
    matching = [position for position in _select_matching(signal, positions) if position.is_paper is is_paper]
    return matching[0] if matching else None


def find_position_to_close(
    signal: TradeSignal, positions: Sequence[Position], asked_at: datetime | None
) -> Position | None:
    """The position that a CLOSE refers to, on paper or live; the newest if there are both.

    Only a person's ``environment`` selects paper or live, so that a strategy that was switched between them can always
    close what it holds. Positions opened after `asked_at` are excluded, because a delayed CLOSE does not mean them.
    """
    candidates = list(_select_matching(signal, positions))
    if signal.strategy_id is None and signal.environment is not None:
        is_paper = signal.environment != "production"
        candidates = [position for position in candidates if position.is_paper is is_paper]
    if asked_at is not None:
        candidates = [position for position in candidates if position.entry_time <= asked_at]
    return max(candidates, key=lambda position: position.entry_time, default=None)


def _select_matching(signal: TradeSignal, positions: Sequence[Position]) -> Iterator[Position]:
    return (
        position
        for position in positions
        if position.symbol == signal.symbol and position.strategy_id == signal.strategy_id
    )
