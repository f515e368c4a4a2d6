"""What a strategy's state allows: whether it runs, and whether its drawdown leaves room for entries. Pure.

Each is judged here once, with one sentence, which logs, the reason of a pause, the record of a decision and the webhook
server's answer all have. The SQL function `entry_block_reason` judges the same in the transaction that records a
decision, in the same words; `tests/engine/risk/test_strategy_state.py` holds that both agree.
"""

import math
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final, TypeGuard

from engine.domain.strategy import StrategyStatus

ROW_GONE: Final = "The strategy's row is gone"
_CENT: Final = Decimal("0.01")
_WIDE: Final = Context(prec=400)  # room for every float


def is_running(status: str | None) -> bool:
    """Whether a strategy with this status has a process and may enter; a status that is not known is none."""
    return status == StrategyStatus.RUNNING


def find_status_block(status: str) -> str | None:
    """Why a strategy with this status may not enter: one sentence, None if it may."""
    return None if is_running(status) else f"The strategy is {status}: it may only close"


def find_drawdown_block(drawdown_percent: float | None, max_drawdown_percent: float | None) -> str | None:
    """Why a strategy may not enter that is `drawdown_percent` below its peak equity: one sentence, None if it may.

    It may while the drawdown is less than `max_drawdown_percent`. Of either, None, NaN or infinity is unknown, and not
    knowing is no permission.
    """
    if not (_is_finite(drawdown_percent) and _is_finite(max_drawdown_percent)):
        return "The strategy's drawdown, or its limit, is not known: it may only close"
    if drawdown_percent < max_drawdown_percent:
        return None
    reached, limit = _format_percent(drawdown_percent), _format_percent(max_drawdown_percent)
    return f"The strategy's drawdown of {reached} % has reached its limit of {limit} %: it may only close"


def _is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _format_percent(value: float) -> str:
    """With two decimals, rounded as SQL's `round` does it: never below a limit that is reached, which has two."""
    return f"{Decimal(str(value)).quantize(_CENT, ROUND_HALF_UP, _WIDE):f}"
