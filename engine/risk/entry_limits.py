"""Checks an entry against every limit of the user and of the strategy: pure functions of one portfolio snapshot.

Entries only: an exit is always allowed and never checked here. A limit that cannot be read refuses (fails closed).
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from engine.domain.positions import Position
from engine.domain.signal import TradeSignal
from engine.domain.strategy import StrategyStatus
from engine.risk.entry_size import AllowedEntry, apply_caps, apply_strategy_rules, check_leverage
from engine.risk.limit_breach import (
    CostCheck,
    LimitBreach,
    LimitType,
    build_unreadable_breach,
    require_known,
    skip_cost_check,
)
from engine.risk.strategy_state import find_drawdown_block, find_status_block
from engine.risk.symbol_pause import calculate_pause_end
from engine.store.webhook_rows import Portfolio

FUTURE_TOLERANCE: Final = timedelta(minutes=5)  # the sender's clock may be ahead of this host's
# How long failures in a row are counted after the last of them, by the SQL function `consecutive_failures`.
FAILURES_COUNT_FOR: Final = timedelta(hours=1)
_SCOPES: Final = {"global": "global", "user": "person's", "strategy": "strategy's"}
SATURDAY: Final = 5  # as `datetime.weekday` counts


def check_entry(
    signal: TradeSignal, portfolio: Portfolio, held: Position | None, now: datetime, costs: CostCheck = skip_cost_check
) -> LimitBreach | AllowedEntry:
    """The first limit that an entry by `signal` breaches, or the size that may be executed.

    `held` is the position of the same strategy (or person) in the signal's symbol; `now` is UTC. `costs` checks what an
    entry of a size would cost at the venue. It is called last and with the size that the caps leave, because it sends
    requests to the venue, which an entry that is refused anyway need not wait for.
    """
    for check in _CHECKS:
        breach = check(signal, portfolio, held, now)
        if breach is not None:
            return breach
    allowed = apply_strategy_rules(signal, portfolio, held)
    # The documented order has the costs before the entry rules, so a broken rule is returned only after the costs.
    asked = signal.position_size_usd or Decimal(0)
    allowance = apply_caps(asked if isinstance(allowed, LimitBreach) else allowed, signal, portfolio, held)
    cost_breach = costs(allowance.size_usd) if allowance.size_usd > 0 else None
    if cost_breach is not None:
        return cost_breach
    if isinstance(allowed, LimitBreach):
        return allowed
    return check_leverage(signal, portfolio, allowance) or allowance


def has_account_limits(portfolio: Portfolio) -> bool:
    """Whether a limit counts what all strategies of the user do on the venue together."""
    settings = portfolio.settings
    return settings is not None and any(
        (
            settings.max_daily_loss_usd,
            settings.max_loss_per_week_usd,
            settings.max_trades_per_week,
            settings.max_consecutive_failures,
            settings.max_concurrent_positions,
        )
    )


def _check_kill_switch(
    _signal: TradeSignal, portfolio: Portfolio, _held: Position | None, _now: datetime
) -> LimitBreach | None:
    settings = portfolio.settings
    if portfolio.killed_by is not None:
        return LimitBreach(LimitType.KILL_SWITCH, f"The {_SCOPES[portfolio.killed_by]} kill switch is on", "on", "off")
    if settings is not None and settings.kill_switch:
        return LimitBreach(LimitType.KILL_SWITCH, "The kill switch of this exchange is on", "on", "off")
    return None


def _check_status(
    _signal: TradeSignal, portfolio: Portfolio, _held: Position | None, _now: datetime
) -> LimitBreach | None:
    strategy = portfolio.strategy
    block = None if strategy is None else find_status_block(strategy.status)
    if strategy is None or block is None:
        return None
    return LimitBreach(LimitType.STRATEGY_STATUS, block, strategy.status.value, StrategyStatus.RUNNING.value)


def _check_age(signal: TradeSignal, portfolio: Portfolio, _held: Position | None, now: datetime) -> LimitBreach | None:
    if signal.expires_at is not None and now >= signal.expires_at:
        late_s = round((now - signal.expires_at).total_seconds(), 3)
        return LimitBreach(LimitType.STALE_SIGNAL, f"The signal expired {late_s} s ago", late_s, 0)
    limit_s = portfolio.settings.max_signal_age_sec if portfolio.settings else None
    if signal.timestamp is None or not limit_s:
        return None
    age_s = round((now - signal.timestamp).total_seconds(), 3)
    if age_s > limit_s or signal.timestamp - now > FUTURE_TOLERANCE:
        return LimitBreach(LimitType.STALE_SIGNAL, f"The signal is {age_s} s old", age_s, limit_s)
    return None


def _check_readable(
    signal: TradeSignal, portfolio: Portfolio, _held: Position | None, _now: datetime
) -> LimitBreach | None:
    """Refuses for a limit that cannot be read, or whose figure is unknown; before any limit that compares figures."""
    if portfolio.unreadable is not None:
        return build_unreadable_breach(portfolio.unreadable)
    missing = next(
        (name for name, is_needed, figure in _iter_required_figures(signal, portfolio) if is_needed and figure is None),
        None,
    )
    return None if missing is None else build_unreadable_breach(f"{missing} not known")


def _iter_required_figures(signal: TradeSignal, portfolio: Portfolio) -> Iterator[tuple[str, object, object]]:
    """For each limit the words for its figure, whether the limit is set, and the figure (None: unknown)."""
    settings, strategy = portfolio.settings, portfolio.strategy
    if settings is not None:
        yield "the P&L of today is", settings.max_daily_loss_usd, portfolio.realized_pnl_today_usd
        yield "the P&L of this week is", settings.max_loss_per_week_usd, portfolio.realized_pnl_week_usd
        yield "the trades of this week are", settings.max_trades_per_week, portfolio.trades_this_week
        yield "the failures at the venue are", settings.max_consecutive_failures, portfolio.consecutive_failures
    yield "the entries that could not be protected are", True, portfolio.undone_in_symbol
    yield "the last entry that could not be protected is", portfolio.undone_in_symbol, portfolio.last_undone_at
    if strategy is not None:
        yield "the strategy's entry rules are", signal.is_ai_signal, strategy.rules


def _check_difference(
    signal: TradeSignal, portfolio: Portfolio, _held: Position | None, _now: datetime
) -> LimitBreach | None:
    difference = portfolio.difference
    if difference is None:
        return None
    booked, at_venue = difference.booked.normalize(), difference.at_venue.normalize()
    message = (
        f"{signal.symbol} is {booked:f} in the books and {at_venue:f} at {signal.exchange} "
        f"since {_format_moment(difference.first_seen_at)}: no entries until `sparky reconcile` settles it"
    )
    return LimitBreach(LimitType.UNSETTLED_DIFFERENCE, message, difference.at_venue, difference.booked)


def _check_weekend(
    _signal: TradeSignal, portfolio: Portfolio, _held: Position | None, now: datetime
) -> LimitBreach | None:
    settings = portfolio.settings
    if settings is None or settings.allow_weekends or now.weekday() < SATURDAY:
        return None
    return LimitBreach(
        LimitType.WEEKEND, "No entries on Saturday and Sunday (UTC)", now.strftime("%A"), "Monday to Friday"
    )


def _check_daily_loss(
    _signal: TradeSignal, portfolio: Portfolio, _held: Position | None, _now: datetime
) -> LimitBreach | None:
    limit = portfolio.settings.max_daily_loss_usd if portfolio.settings else None
    return _check_loss(LimitType.DAILY_LOSS, "today", portfolio.realized_pnl_today_usd, limit)


def _check_weekly_loss(
    _signal: TradeSignal, portfolio: Portfolio, _held: Position | None, _now: datetime
) -> LimitBreach | None:
    limit = portfolio.settings.max_loss_per_week_usd if portfolio.settings else None
    return _check_loss(LimitType.WEEKLY_LOSS, "this week", portfolio.realized_pnl_week_usd, limit)


def _check_loss(limit_type: LimitType, when: str, pnl: Decimal | None, limit: Decimal | None) -> LimitBreach | None:
    if not limit:
        return None
    loss = -require_known(pnl)
    if loss < limit:
        return None
    return LimitBreach(limit_type, f"The loss {when} is {loss:.2f} USD of at most {limit:.2f}", loss, limit)


def _check_weekly_trades(
    _signal: TradeSignal, portfolio: Portfolio, _held: Position | None, _now: datetime
) -> LimitBreach | None:
    limit = portfolio.settings.max_trades_per_week if portfolio.settings else None
    if not limit:
        return None
    current = require_known(portfolio.trades_this_week)
    if current < limit:
        return None
    return LimitBreach(LimitType.WEEKLY_TRADES, f"{current} trades this week of at most {limit}", current, limit)


def _check_failures(
    _signal: TradeSignal, portfolio: Portfolio, _held: Position | None, _now: datetime
) -> LimitBreach | None:
    limit = portfolio.settings.max_consecutive_failures if portfolio.settings else None
    if not limit:
        return None
    current = require_known(portfolio.consecutive_failures)
    if current < limit:
        return None
    message = (
        f"{current} orders in a row failed at the venue or could not be protected there; "
        f"entries are open again {FAILURES_COUNT_FOR / timedelta(minutes=1):g} minutes after the last"
    )
    return LimitBreach(LimitType.CONSECUTIVE_FAILURES, message, current, limit)


def _check_symbol_pause(
    signal: TradeSignal, portfolio: Portfolio, _held: Position | None, _now: datetime
) -> LimitBreach | None:
    """Compares with the database's clock, by which the time of the last undone entry was recorded."""
    undone = require_known(portfolio.undone_in_symbol)
    until = calculate_pause_end(undone, portfolio.last_undone_at)
    if until is None or portfolio.now >= until:
        return None
    entries = "The last entry" if undone == 1 else f"The last {undone} entries"
    message = f"{entries} into {signal.symbol} could not be protected; it rests until {_format_moment(until)}"
    return LimitBreach(LimitType.RESTING_SYMBOL, message, portfolio.now, until)


def _format_moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _check_concurrent_positions(
    _signal: TradeSignal, portfolio: Portfolio, held: Position | None, _now: datetime
) -> LimitBreach | None:
    limit = portfolio.settings.max_concurrent_positions if portfolio.settings else None
    current = portfolio.open_position_count
    # Adding to a position, or reversing it, does not increase their number.
    if not limit or held is not None or current < limit:
        return None
    return LimitBreach(LimitType.CONCURRENT_POSITIONS, f"{current} open positions of at most {limit}", current, limit)


def _check_drawdown(
    _signal: TradeSignal, portfolio: Portfolio, _held: Position | None, _now: datetime
) -> LimitBreach | None:
    strategy = portfolio.strategy
    if strategy is None:
        return None
    current, limit = strategy.drawdown_percent, strategy.max_drawdown_percent
    block = find_drawdown_block(current, limit)
    return None if block is None else LimitBreach(LimitType.DRAWDOWN, block, current, limit)


_Check = Callable[[TradeSignal, Portfolio, Position | None, datetime], LimitBreach | None]
# In the order of `LimitType`, which docs/webhooks.md documents: the first breach is the one that is returned.
_CHECKS: Final[tuple[_Check, ...]] = (
    _check_kill_switch,
    _check_status,
    _check_age,
    _check_readable,
    _check_difference,
    _check_weekend,
    _check_daily_loss,
    _check_weekly_loss,
    _check_weekly_trades,
    _check_failures,
    _check_symbol_pause,
    _check_concurrent_positions,
    _check_drawdown,
)
