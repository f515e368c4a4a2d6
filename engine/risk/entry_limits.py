"""May this order go ahead? Every limit of the user and of the strategy, as pure functions of one portfolio snapshot.

Entries only: closing is always allowed and never comes here. A limit that cannot be read refuses (fails closed).
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from engine.domain.positions import Position
from engine.domain.signal import TradeSignal
from engine.domain.strategy import StrategyStatus
from engine.risk.entry_size import AllowedEntry, apply_caps, apply_entry_rules, check_leverage
from engine.risk.limit_breach import (
    CostCheck,
    LimitBreach,
    LimitType,
    no_cost_limit,
    require_known,
    unreadable_limit,
)
from engine.risk.strategy_state import find_drawdown_block, find_status_block
from engine.risk.symbol_pause import pause_ends_at
from engine.store.webhook_rows import Portfolio

FUTURE_TOLERANCE: Final = timedelta(minutes=5)
# How long failures in a row are counted after the last of them, by the SQL function `consecutive_failures`.
FAILURES_COUNT_FOR: Final = timedelta(hours=1)
_SCOPES: Final = {"global": "global", "user": "person's", "strategy": "strategy's"}
SATURDAY: Final = 5


def check_entry(
    signal: TradeSignal, portfolio: Portfolio, held: Position | None, now: datetime, costs: CostCheck = no_cost_limit
) -> LimitBreach | AllowedEntry:
    """The first limit that `signal` (an entry) meets, or how much of it may be executed.

    `held` is what the same strategy (or person) holds in its symbol. `now` is UTC. `costs` says why an entry
    of a size would cost too much at the venue; it is asked for what the caps leave, when no limit before it refuses.
    """
    for check in _CHECKS:
        breach = check(signal, portfolio, held, now)
        if breach is not None:
            return breach
    allowed = apply_entry_rules(signal, portfolio, held)
    asked = signal.position_size_usd or Decimal(0)
    allowance = apply_caps(asked if isinstance(allowed, LimitBreach) else allowed, signal, portfolio, held)
    cost_breach = costs(allowance.size_usd) if allowance.size_usd > 0 else None
    if cost_breach is not None:
        return cost_breach
    if isinstance(allowed, LimitBreach):
        return allowed
    return check_leverage(signal, portfolio, allowance) or allowance


def has_account_limits(portfolio: Portfolio) -> bool:
    """Whether a limit adds up what all strategies of the user do on the exchange."""
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
    """Whatever limit cannot be read, or needs a figure that is not known, refuses before any of them is judged."""
    if portfolio.unreadable is not None:
        return unreadable_limit(portfolio.unreadable)
    missing = next(
        (name for name, is_needed, figure in _required_figures(signal, portfolio) if is_needed and figure is None), None
    )
    return None if missing is None else unreadable_limit(f"{missing} not known")


def _required_figures(signal: TradeSignal, portfolio: Portfolio) -> Iterator[tuple[str, object, object]]:
    """What a limit needs: what it is called, whether there is the limit, and what is known of it."""
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
    found = portfolio.difference
    if found is None:
        return None
    message = (
        f"{signal.symbol} is {found.booked.normalize():f} in the books and {found.at_venue.normalize():f} at "
        f"{signal.exchange} since {_format_moment(found.first_seen_at)}: no entries until `sparky reconcile` settles it"
    )
    return LimitBreach(LimitType.UNSETTLED_DIFFERENCE, message, found.at_venue, found.booked)


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
    """By the database's clock, which told when the last entry was undone."""
    undone = require_known(portfolio.undone_in_symbol)
    until = pause_ends_at(undone, portfolio.last_undone_at)
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
    if not limit or held is not None or current < limit:  # more of one, or its reversal, is no further position
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
