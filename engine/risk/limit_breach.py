"""The result of a risk check that refuses an entry."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar

_Figure = TypeVar("_Figure")


class LimitType(StrEnum):
    """`data.limitType` of a 429, in the order in which the limits are checked; docs/webhooks.md has it as a table."""

    KILL_SWITCH = "kill_switch"
    STRATEGY_STATUS = "strategy_status"
    STALE_SIGNAL = "stale_signal"
    UNREADABLE = "unreadable"
    UNSETTLED_DIFFERENCE = "unsettled_difference"
    WEEKEND = "weekend"
    DAILY_LOSS = "daily_loss"
    WEEKLY_LOSS = "weekly_loss"
    WEEKLY_TRADES = "weekly_trades"
    CONSECUTIVE_FAILURES = "consecutive_failures"
    RESTING_SYMBOL = "resting_symbol"
    CONCURRENT_POSITIONS = "concurrent_positions"
    DRAWDOWN = "drawdown"
    STALE_QUOTE = "stale_quote"
    MAX_SPREAD = "max_spread"
    MARK_DISTANCE = "mark_distance"
    MAX_SLIPPAGE = "max_slippage"
    ENTRY_RULES = "entry_rules"
    LEVERAGE = "leverage"


@dataclass(frozen=True)
class LimitBreach:
    """One limit that is reached: `current` against `limit`, in the unit that `message` names."""

    limit_type: LimitType
    message: str
    current: Any
    limit: Any


def build_unreadable_breach(reason: str) -> LimitBreach:
    """The breach for a missing or invalid limit or figure, without which no entry is allowed."""
    return LimitBreach(LimitType.UNREADABLE, f"A limit cannot be read, so no entry is made: {reason}", None, None)


def require_known(figure: _Figure | None) -> _Figure:
    """`figure` without None. Raises AssertionError for None, which `check_entry` refuses before a limit uses it."""
    if figure is None:
        raise AssertionError("a figure that is not known is refused before a limit looks at it")
    return figure


def skip_cost_check(_size_usd: Decimal) -> LimitBreach | None:
    """A `CostCheck` that allows everything, for entries whose costs are checked later."""
    return None


CostCheck = Callable[[Decimal], LimitBreach | None]  # the cost limit that an entry of this notional (USD) breaches
