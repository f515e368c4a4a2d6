"""Freshness by the venue's clock, whatever its speed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.deciding.freshness import (
    HALTED_S,
    MIN_S,
    UNKNOWN_SPEED_S,
    VenueClock,
    compute_fresh_until,
    count_candles_behind,
    get_interval_ms,
    is_old_price,
    is_too_old,
)
from engine.domain.market import MarketSnapshot
from tests.engine.deciding.examples import START_MS, a_snapshot, some_candles

LAST_CLOSE_MS = START_MS + 100 * 60_000


def snapshot_at(as_of_ms: int) -> MarketSnapshot:
    return a_snapshot(candles=tuple(some_candles(100)[-10:]), as_of_ms=as_of_ms)


@given(st.floats(1.3, 5_000), st.floats(0.25, 30), st.integers(2, 20))
def test_any_speed_is_learnt_from_two_readings(speed: float, apart_s: float, readings: int) -> None:
    clock = VenueClock()
    for number in range(readings):
        clock.add_sample(START_MS + round(number * apart_s * speed * 1_000), 100.0 + number * apart_s)
    assert clock.speed == pytest.approx(speed, rel=0.01)
    now = 100.0 + readings * apart_s
    assert clock.estimate_ms(now) == pytest.approx(
        START_MS + readings * apart_s * speed * 1_000, abs=2 + apart_s * speed * 20
    )


def test_a_real_clock_read_over_a_jittery_network_runs_at_speed_one() -> None:
    clock = VenueClock()
    for number, jitter in enumerate([0.0, 0.2, -0.15, 0.1]):
        clock.add_sample(START_MS + number * 1_000, 100.0 + number + jitter)
    assert clock.speed == 1.0


def test_readings_close_together_do_not_spoil_the_speed() -> None:
    clock = VenueClock()
    for number in range(100):
        clock.add_sample(START_MS + number * 600, 100.0 + number * 0.01)
    assert clock.speed == pytest.approx(60.0, rel=0.01)


def test_a_reading_that_arrives_late_is_ignored_and_a_simulation_begun_anew_is_noticed() -> None:
    clock = VenueClock()
    clock.add_sample(START_MS, 100.0)
    clock.add_sample(START_MS + 60_000, 101.0)
    clock.add_sample(START_MS + 30_000, 100.5)
    assert (clock.speed, clock.estimate_ms(101.0)) == (60.0, START_MS + 60_000)
    clock.add_sample(START_MS - 5_000, 102.0)
    assert clock.speed is None


@pytest.mark.parametrize(
    ("as_of_ms", "speed", "seconds"),
    [
        (LAST_CLOSE_MS + 500, 1.0, 59.5),
        (LAST_CLOSE_MS + 500, 60.0, 59.5 / 60),
        (LAST_CLOSE_MS + 59_999, 1.0, MIN_S),
        (LAST_CLOSE_MS + 500, 10_000.0, MIN_S),
        (LAST_CLOSE_MS + 500, None, UNKNOWN_SPEED_S),
        (LAST_CLOSE_MS + 600_000, 1.0, HALTED_S),
    ],
)
def test_data_is_fresh_until_the_next_candle_closes(as_of_ms: int, speed: float | None, seconds: float) -> None:
    assert compute_fresh_until(snapshot_at(as_of_ms), 1_000.0, speed) == pytest.approx(1_000.0 + seconds)


def test_data_of_more_than_three_candles_ago_is_too_old() -> None:
    snapshot = snapshot_at(LAST_CLOSE_MS)
    assert count_candles_behind(snapshot, LAST_CLOSE_MS) == 0
    assert not is_too_old(snapshot, LAST_CLOSE_MS + 180_000)
    assert is_too_old(snapshot, LAST_CLOSE_MS + 180_001)


def test_intervals_that_are_not_offered_are_refused() -> None:
    assert get_interval_ms("15m") == 900_000
    with pytest.raises(ValueError, match="no candles of '7m'"):
        get_interval_ms("7m")


def test_a_last_price_is_old_when_candles_of_its_time_would_be() -> None:
    assert not is_old_price(0, "1m", 3 * 60_000)
    assert is_old_price(0, "1m", 3 * 60_000 + 1)
    assert not is_old_price(0, "1h", 3 * 60_000 + 1)
