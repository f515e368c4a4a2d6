"""The cadence grid: every instant served once or counted as missed, and no drift."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.deciding.schedule import build_cadence, count_missed_ticks, find_next_tick

ids = st.uuids()
periods = st.floats(min_value=1, max_value=86_400)
times = st.floats(min_value=0, max_value=10**8)


@given(ids, periods, times)
def test_the_next_tick_is_the_first_instant_after_now(strategy_id: UUID, period_s: float, now: float) -> None:
    cadence = build_cadence(strategy_id, period_s)
    due = find_next_tick(cadence, now)
    assert now < due <= now + period_s * (1 + 1e-9) + 1e-6
    turns = (due - cadence.phase_s) / period_s
    assert turns == pytest.approx(round(turns), abs=1e-6)


@given(ids, periods, times, st.integers(min_value=0, max_value=500), st.floats(min_value=0.01, max_value=0.99))
def test_missed_ticks_are_exactly_those_that_passed_while_a_cycle_ran(
    strategy_id: UUID, period_s: float, start: float, turns: int, part: float
) -> None:
    cadence = build_cadence(strategy_id, period_s)
    ticked = find_next_tick(cadence, start)
    assert count_missed_ticks(cadence, ticked, ticked + (turns + part) * period_s) == turns


@given(ids, st.sampled_from([1.0, 10.0, 45.0, 60.0]))
def test_ticks_do_not_drift(strategy_id: UUID, period_s: float) -> None:
    cadence = build_cadence(strategy_id, period_s)
    now = first = find_next_tick(cadence, 1_000.0)
    for _ in range(200):
        now = find_next_tick(cadence, now)
    assert now == pytest.approx(first + 200 * period_s, abs=1e-6)


def test_the_phase_depends_on_the_id_alone_and_spreads_strategies_over_the_period() -> None:
    some = uuid4()
    assert build_cadence(some, 45.0) == build_cadence(UUID(str(some)), 45.0)
    phases = [build_cadence(UUID(int=number), 45.0).phase_s for number in range(1_000)]
    assert all(0 <= phase < 45 for phase in phases)
    per_tenth = [sum(1 for phase in phases if int(phase / 4.5) == tenth) for tenth in range(10)]
    assert min(per_tenth) > 60


@pytest.mark.parametrize("period_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_period_that_is_no_period_is_refused(period_s: float) -> None:
    with pytest.raises(ValueError, match="cadence"):
        build_cadence(uuid4(), period_s)
