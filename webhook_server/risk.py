"""May this order go ahead? Every limit of the user and of the strategy, as pure functions of one portfolio snapshot.

Entries only: closing is always allowed and never comes here. A limit that cannot be read refuses (fails closed).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from engine.entry_rules import BrokenRule, Entry, allowed_size
from engine.store.webhook_rows import Portfolio
from engine.types import Position, StrategyStatus
from webhook_server.schemas import Order
from webhook_server.sizing import ReducedBy

FUTURE_TOLERANCE: Final = timedelta(minutes=5)
_SCOPES: Final = {"global": "global", "user": "person's", "strategy": "strategy's"}
SATURDAY: Final = 5


class LimitType(StrEnum):
    """`data.limitType` of a 429, in the order in which the limits are looked at."""

    KILL_SWITCH = "kill_switch"
    STRATEGY_STATUS = "strategy_status"
    STALE_SIGNAL = "stale_signal"
    WEEKEND = "weekend"
    DAILY_LOSS = "daily_loss"
    WEEKLY_LOSS = "weekly_loss"
    WEEKLY_TRADES = "weekly_trades"
    CONSECUTIVE_FAILURES = "consecutive_failures"
    CONCURRENT_POSITIONS = "concurrent_positions"
    DRAWDOWN = "drawdown"
    ENTRY_RULES = "entry_rules"
    LEVERAGE = "leverage"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Refusal:
    """One limit that is reached: `current` against `limit`, in the unit that `message` names."""

    limit_type: LimitType
    message: str
    current: Any
    limit: Any


@dataclass(frozen=True)
class Allowance:
    """An entry may go ahead with up to `size_usd` of notional; 0 when the position has no room left.

    `reduced_by` names the limits that made it less than was asked, the last of them the smallest.
    """

    size_usd: Decimal
    reduced_by: tuple[ReducedBy, ...] = ()


def judge(order: Order, portfolio: Portfolio, held: Position | None, now: datetime) -> Refusal | Allowance:
    """The first limit that `order` (an entry) meets, or how much of it may be executed.

    `held` is what the same strategy (or person) holds in the order's symbol. `now` is UTC.
    """
    for check in _CHECKS:
        refusal = check(order, portfolio, held, now)
        if refusal is not None:
            return refusal
    allowed = _allowed_by_rules(order, portfolio, held)
    if isinstance(allowed, Refusal):
        return allowed
    allowance = _within_caps(allowed, order, portfolio, held)
    return _leverage(order, portfolio, allowance) or allowance


def counts_all(portfolio: Portfolio) -> bool:
    """Whether a limit adds up what all strategies of the user do on the exchange."""
    settings = portfolio.settings
    return settings is not None and any(
        (
            settings.max_daily_loss_usd,
            settings.max_loss_per_week_usd,
            settings.max_trades_per_week,
            settings.max_concurrent_positions,
        )
    )


def unreadable(reason: str) -> Refusal:
    """A limit that is absent or makes no sense where one is needed: not knowing is no permission."""
    return Refusal(LimitType.UNREADABLE, f"A limit cannot be read, so no entry is made: {reason}", None, None)


def _kill_switch(_order: Order, portfolio: Portfolio, _held: Position | None, _now: datetime) -> Refusal | None:
    settings = portfolio.settings
    if portfolio.killed_by is not None:
        return Refusal(LimitType.KILL_SWITCH, f"The {_SCOPES[portfolio.killed_by]} kill switch is on", "on", "off")
    if settings is not None and settings.kill_switch:
        return Refusal(LimitType.KILL_SWITCH, "The kill switch of this exchange is on", "on", "off")
    return None


def _status(_order: Order, portfolio: Portfolio, _held: Position | None, _now: datetime) -> Refusal | None:
    strategy = portfolio.strategy
    if strategy is None or strategy.status is StrategyStatus.RUNNING:
        return None
    message = f"The strategy is {strategy.status.value}; it may only close"
    return Refusal(LimitType.STRATEGY_STATUS, message, strategy.status.value, StrategyStatus.RUNNING.value)


def _stale(order: Order, portfolio: Portfolio, _held: Position | None, now: datetime) -> Refusal | None:
    if order.expires_at is not None and now >= order.expires_at:
        late_s = round((now - order.expires_at).total_seconds(), 3)
        return Refusal(LimitType.STALE_SIGNAL, f"The signal expired {late_s} s ago", late_s, 0)
    limit_s = portfolio.settings.max_signal_age_sec if portfolio.settings else None
    if order.timestamp is None or not limit_s:
        return None
    age_s = round((now - order.timestamp).total_seconds(), 3)
    if age_s > limit_s or order.timestamp - now > FUTURE_TOLERANCE:
        return Refusal(LimitType.STALE_SIGNAL, f"The signal is {age_s} s old", age_s, limit_s)
    return None


def _weekend(_order: Order, portfolio: Portfolio, _held: Position | None, now: datetime) -> Refusal | None:
    settings = portfolio.settings
    if settings is None or settings.allow_weekends or now.weekday() < SATURDAY:
        return None
    return Refusal(LimitType.WEEKEND, "No entries on Saturday and Sunday (UTC)", now.strftime("%A"), "Monday to Friday")


def _daily_loss(_order: Order, portfolio: Portfolio, _held: Position | None, _now: datetime) -> Refusal | None:
    limit = portfolio.settings.max_daily_loss_usd if portfolio.settings else None
    return _loss(LimitType.DAILY_LOSS, "today", portfolio.realized_pnl_today_usd, limit)


def _weekly_loss(_order: Order, portfolio: Portfolio, _held: Position | None, _now: datetime) -> Refusal | None:
    limit = portfolio.settings.max_loss_per_week_usd if portfolio.settings else None
    return _loss(LimitType.WEEKLY_LOSS, "this week", portfolio.realized_pnl_week_usd, limit)


def _loss(limit_type: LimitType, when: str, pnl: Decimal | None, limit: Decimal | None) -> Refusal | None:
    if not limit:
        return None
    if pnl is None:
        return unreadable(f"the P&L of {when} is not known")
    loss = -pnl
    if loss < limit:
        return None
    return Refusal(limit_type, f"The loss {when} is {loss:.2f} USD of at most {limit:.2f}", loss, limit)


def _weekly_trades(_order: Order, portfolio: Portfolio, _held: Position | None, _now: datetime) -> Refusal | None:
    limit = portfolio.settings.max_trades_per_week if portfolio.settings else None
    if not limit:
        return None
    current = portfolio.trades_this_week
    if current is None:
        return unreadable("the trades of this week are not known")
    if current < limit:
        return None
    return Refusal(LimitType.WEEKLY_TRADES, f"{current} trades this week of at most {limit}", current, limit)


def _failures(_order: Order, portfolio: Portfolio, _held: Position | None, _now: datetime) -> Refusal | None:
    limit = portfolio.settings.max_consecutive_failures if portfolio.settings else None
    if not limit:
        return None
    current = portfolio.consecutive_failures
    if current is None:
        return unreadable("the failures at the venue are not known")
    if current < limit:
        return None
    message = f"{current} orders in a row failed at the venue; entries are open again an hour after the last"
    return Refusal(LimitType.CONSECUTIVE_FAILURES, message, current, limit)


def _concurrent(_order: Order, portfolio: Portfolio, held: Position | None, _now: datetime) -> Refusal | None:
    limit = portfolio.settings.max_concurrent_positions if portfolio.settings else None
    current = portfolio.open_position_count
    if not limit or held is not None or current < limit:  # more of one, or its reversal, is no further position
        return None
    return Refusal(LimitType.CONCURRENT_POSITIONS, f"{current} open positions of at most {limit}", current, limit)


def _drawdown(_order: Order, portfolio: Portfolio, _held: Position | None, _now: datetime) -> Refusal | None:
    strategy = portfolio.strategy
    if strategy is None or strategy.drawdown_percent < strategy.max_drawdown_percent:
        return None
    current, limit = strategy.drawdown_percent, strategy.max_drawdown_percent
    message = f"The strategy is {current:.2f} % below its peak, its limit is {limit:.2f} %; it may only close"
    return Refusal(LimitType.DRAWDOWN, message, current, limit)


def _allowed_by_rules(order: Order, portfolio: Portfolio, held: Position | None) -> Decimal | Refusal:
    """The size in USD that the entry rules leave of an AI signal. Orders of people are not bound by them."""
    asked = order.position_size_usd or Decimal(0)
    strategy = portfolio.strategy
    if strategy is None or not order.is_ai_signal:
        return asked
    if strategy.rules is None:
        return unreadable("the strategy's entry rules are not known")
    entry = Entry(order.side, asked, order.stop_loss_percent)
    allowed = allowed_size(entry, strategy.rules, strategy.max_position_usd, held)
    if isinstance(allowed, BrokenRule):
        message = f"The strategy's rules allow no such entry: {allowed.reason}"
        return Refusal(LimitType.ENTRY_RULES, message, allowed.current, allowed.limit)
    return allowed


def _leverage(order: Order, portfolio: Portfolio, allowance: Allowance) -> Refusal | None:
    """Both the leverage asked for and what all the strategy's positions would be of its equity."""
    strategy = portfolio.strategy
    if strategy is None:
        return None
    limit = strategy.leverage_max
    if order.leverage > limit:
        return Refusal(LimitType.LEVERAGE, f"Leverage {order.leverage} of at most {limit}", order.leverage, limit)
    others = [each for each in portfolio.open_positions if each.strategy_id == order.strategy_id]
    kept = sum((each.position_size_usd for each in others if not _reverses(order, each)), Decimal(0))
    exposure = kept + allowance.size_usd
    if strategy.equity_usd > 0 and exposure <= limit * strategy.equity_usd:
        return None
    message = f"{exposure:.2f} USD of positions on {strategy.equity_usd:.2f} USD of equity exceed leverage {limit}"
    current = round(exposure / strategy.equity_usd, 2) if strategy.equity_usd > 0 else None
    return Refusal(LimitType.LEVERAGE, message, current, limit)


def _within_caps(allowed: Decimal, order: Order, portfolio: Portfolio, held: Position | None) -> Allowance:
    """`allowed` USD, cut to what the caps leave above what is held on the same side."""
    asked = order.position_size_usd or Decimal(0)
    reduced_by = [ReducedBy.MAX_ENTRY_PERCENT] if allowed < asked else []
    has = held.position_size_usd if held is not None and not _reverses(order, held) else Decimal(0)
    for name, cap in _caps(portfolio):
        if cap - has < allowed:
            allowed = cap - has
            reduced_by.append(name)
    return Allowance(max(Decimal(0), allowed), tuple(reduced_by))


def _caps(portfolio: Portfolio) -> Iterator[tuple[ReducedBy, Decimal]]:
    if portfolio.strategy is not None:
        yield ReducedBy.MAX_POSITION_USD, portfolio.strategy.max_position_usd
    if portfolio.settings is not None and portfolio.settings.max_position_size_usd:
        yield ReducedBy.MAX_POSITION_SIZE_USD, portfolio.settings.max_position_size_usd


def _reverses(order: Order, position: Position) -> bool:
    return position.symbol == order.symbol and position.side is not order.side


_Check = Callable[[Order, Portfolio, Position | None, datetime], Refusal | None]
_CHECKS: Final[tuple[_Check, ...]] = (
    _kill_switch,
    _status,
    _stale,
    _weekend,
    _daily_loss,
    _weekly_loss,
    _weekly_trades,
    _failures,
    _concurrent,
    _drawdown,
)
