"""When a strategy ticks: on a fixed monotonic grid, so that cadence neither drifts with load nor bunches at a start.

Each strategy's grid is shifted by a phase hashed from its id. The clock is CLOCK_MONOTONIC, the same in every process
of one host, so a restarted strategy keeps the grid it had before.
"""

import hashlib
import math
from typing import NamedTuple
from uuid import UUID


class Cadence(NamedTuple):
    """The grid ``phase_s + k * period_s`` for every integer `k`, in seconds of the monotonic clock."""

    period_s: float
    phase_s: float


def build_cadence(strategy_id: UUID, period_s: float) -> Cadence:
    """The grid of one strategy. Raises ValueError unless the period is positive and finite."""
    if not 0 < period_s < math.inf:
        raise ValueError(f"a cadence must be positive and finite, not {period_s}")
    digest = hashlib.sha256(strategy_id.bytes).digest()
    share = int.from_bytes(digest[:4], "big") / 2**32  # 32 bits: the phase stays below the period when rounded
    return Cadence(period_s, share * period_s)


def find_next_tick(cadence: Cadence, now: float) -> float:
    """The first instant of the grid that is later than `now`."""
    index = math.floor((now - cadence.phase_s) / cadence.period_s) + 1
    # The division rounds, so that the index may be one too low or too high.
    while _compute_tick_time(cadence, index) <= now:
        index += 1
    while _compute_tick_time(cadence, index - 1) > now:
        index -= 1
    return _compute_tick_time(cadence, index)


def count_missed_ticks(cadence: Cadence, ticked: float, now: float) -> int:
    """How many instants of the grid lie after `ticked`, which was served, up to `now`. They are dropped: catching up
    would trade several times on one market state."""
    return max(0, round((find_next_tick(cadence, now) - find_next_tick(cadence, ticked)) / cadence.period_s))


def _compute_tick_time(cadence: Cadence, index: int) -> float:
    return cadence.phase_s + index * cadence.period_s
