"""When a strategy ticks: on a fixed monotonic grid, so that cadence neither drifts with load nor bunches after a start.

Each strategy's grid is shifted by a phase hashed from its id. The clock is CLOCK_MONOTONIC, the same in every process
of one host, so a restarted strategy keeps the grid it had before.
"""

import hashlib
import math
from typing import NamedTuple
from uuid import UUID


class Cadence(NamedTuple):
    """The grid ``phase_s + k * period_s`` for every whole `k`; seconds of the monotonic clock."""

    period_s: float
    phase_s: float


def schedule_for(strategy_id: UUID, period_s: float) -> Cadence:
    """The grid of one strategy. Raises ValueError unless the period is positive and finite."""
    if not 0 < period_s < math.inf:
        raise ValueError(f"a cadence must be positive and finite, not {period_s}")
    digest = hashlib.sha256(strategy_id.bytes).digest()
    share = int.from_bytes(digest[:4], "big") / 2**32  # 32 bits: the phase stays below the period when rounded
    return Cadence(period_s, share * period_s)


def next_tick(cadence: Cadence, now: float) -> float:
    """The first instant of the grid that is later than `now`."""
    turn = math.floor((now - cadence.phase_s) / cadence.period_s) + 1
    while _tick_time(cadence, turn) <= now:
        turn += 1
    while _tick_time(cadence, turn - 1) > now:
        turn -= 1
    return _tick_time(cadence, turn)


def missed_ticks(cadence: Cadence, ticked: float, now: float) -> int:
    """How many instants of the grid lie after `ticked`, which was served, up to `now`: dropped, never caught up."""
    return max(0, round((next_tick(cadence, now) - next_tick(cadence, ticked)) / cadence.period_s))


def _tick_time(cadence: Cadence, turn: int) -> float:
    return cadence.phase_s + turn * cadence.period_s
