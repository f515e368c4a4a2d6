"""May this order go ahead? Every limit of the user and of the strategy, as pure functions of one portfolio snapshot.

Entries only: closing is always allowed and never comes here. A limit that cannot be read refuses (fails closed).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, TypeVar

from engine.domain.positions import Position
from engine.domain.strategy import StrategyStatus
from engine.risk.entry_rules import BrokenRule, Entry, allowed_size
from engine.risk.limit_breach import Costs, LimitType, Refusal, unreadable, without_costs
from engine.risk.sizing import ReducedBy
from engine.risk.symbol_pause import rests_until
from engine.store.webhook_rows import Portfolio
from webhook_server.intake.schemas import Order

FUTURE_TOLERANCE: Final = timedelta(minutes=5)
_SCOPES: Final = {"global": "global", "user": "person's", "strategy": "strategy's"}
SATURDAY: Final = 5
_Figure = TypeVar("_Figure")


@dataclass(frozen=True)
class Allowance:
    """An entry may go ahead with up to `size_usd` of notional; 0 when the position has no room left.

    `reduced_by` names the limits that made it less than was asked, the last of them the smallest.
    """

    size_usd: Decimal
    reduced_by: tuple[ReducedBy, ...] = ()


def judge(
    order: Order, portfolio: Portfolio, held: Position | None, now: datetime, costs: Costs = without_costs
) -> Refusal | Allowance:
    """The first limit that `order` (an entry) meets, or how much of it may be executed.

    `held` is what the same strategy (or person) holds in the order's symbol. `now` is UTC. `costs` says why an entry
    of a size would cost too much at the venue; it is asked for what the caps leave, when no limit before it refuses.
    """
    for check in _CHECKS:
        refusal = check(order, portfolio, held, now)
        if refusal is not None:
            return refusal
    allowed = _allowed_by_rules(order, portfolio, held)
    asked = order.position_size_usd or Decimal(0)
    allowance = _within_caps(asked if isinstance(allowed, Refusal) else allowed, order, portfolio, held)
    costly = costs(allowance.size_usd) if allowance.size_usd > 0 else None
    if costly is not None:
        return costly
    if isinstance(allowed, Refusal):
        return allowed
    return _leverage(order, portfolio, allowance) or allowance


def counts_all(portfolio: Portfolio) -> bool:
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


def _known(figure: _Figure | None) -> _Figure:
    """What a limit needs, once `_unreadable` has refused an entry for which it is not known."""
    if figure is None:
        raise AssertionError("a figure that is not known is refused before a limit looks at it")
    return figure


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


def _unreadable(order: Order, portfolio: Portfolio, _held: Position | None, _now: datetime) -> Refusal | None:
    """Whatever limit cannot be read, or needs a figure that is not known, refuses before any of them is judged."""
    if portfolio.unreadable is not None:
        return unreadable(portfolio.unreadable)
    missing = next(
        (name for name, is_needed, figure in _needed(order, portfolio) if is_needed and figure is None), None
    )
    return None if missing is None else unreadable(f"{missing} not known")


def _needed(order: Order, portfolio: Portfolio) -> Iterator[tuple[str, object, object]]:
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
        yield "the strategy's entry rules are", order.is_ai_signal, strategy.rules


def _difference(order: Order, portfolio: Portfolio, _held: Position | None, _now: datetime) -> Refusal | None:
    found = portfolio.difference
    if found is None:
        return None
    message = (
        f"{order.symbol} is {found.booked.normalize():f} in the books and {found.at_venue.normalize():f} at "
        f"{order.exchange} since {_moment(found.first_seen_at)}: no entries until `sparky reconcile` settles it"
    )
    return Refusal(LimitType.UNSETTLED_DIFFERENCE, message, found.at_venue, found.booked)


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
    loss = -_known(pnl)
    if loss < limit:
        return None
    return Refusal(limit_type, f"The loss {when} is {loss:.2f} USD of at most {limit:.2f}", loss, limit)


def _weekly_trades(_order: Order, portfolio: Portfolio, _held: Position | None, _now: datetime) -> Refusal | None:
    limit = portfolio.settings.max_trades_per_week if portfolio.settings else None
    if not limit:
        return None
    current = _known(portfolio.trades_this_week)
    if current < limit:
        return None
    return Refusal(LimitType.WEEKLY_TRADES, f"{current} trades this week of at most {limit}", current, limit)


def _failures(_order: Order, portfolio: Portfolio, _held: Position | None, _now: datetime) -> Refusal | None:
    limit = portfolio.settings.max_consecutive_failures if portfolio.settings else None
    if not limit:
        return None
    current = _known(portfolio.consecutive_failures)
    if current < limit:
        return None
    message = (
        f"{current} orders in a row failed at the venue or could not be protected there; "
        "entries are open again an hour after the last"
    )
    return Refusal(LimitType.CONSECUTIVE_FAILURES, message, current, limit)


def _resting(order: Order, portfolio: Portfolio, _held: Position | None, _now: datetime) -> Refusal | None:
    """By the database's clock, which told when the last entry was undone."""
    undone = _known(portfolio.undone_in_symbol)
    until = rests_until(undone, portfolio.last_undone_at)
    if until is None or portfolio.now >= until:
        return None
    entries = "The last entry" if undone == 1 else f"The last {undone} entries"
    message = f"{entries} into {order.symbol} could not be protected; it rests until {_moment(until)}"
    return Refusal(LimitType.RESTING_SYMBOL, message, portfolio.now, until)


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


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
    entry = Entry(order.side, asked, order.stop_loss_percent)
    allowed = allowed_size(entry, _known(strategy.rules), strategy.max_position_usd, held)
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
    _unreadable,
    _difference,
    _weekend,
    _daily_loss,
    _weekly_loss,
    _weekly_trades,
    _failures,
    _resting,
    _concurrent,
    _drawdown,
)
