"""The simulated market: the price follows its candles exactly, whatever is asked and in whatever order."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.market import Candle
from simulator.market.candles import DAY_MINUTES, MINUTE_MS, FileSeries, SyntheticSeries, create_synthetic_series
from simulator.market.market import (
    Market,
    MarketClock,
    build_partial_candle,
    find_start_ms,
    interpolate_price,
    list_corners,
    merge_candles,
)

NOW = 1_700_000_040_000


@st.composite
def candles(draw: st.DrawFn) -> Candle:
    cents = st.integers(min_value=1, max_value=10_000_000)
    one, two, three, four = (draw(cents) / 100 for _ in range(4))
    return Candle(NOW, one, max(one, two, three, four), min(one, two, three, four), two, float(draw(cents)))


fractions = st.floats(min_value=0, max_value=1)


@given(candles(), fractions)
def test_a_price_within_a_candle_never_leaves_it(candle: Candle, fraction: float) -> None:
    assert candle.low <= interpolate_price(candle, fraction) <= candle.high


@given(candles())
def test_a_candle_starts_at_its_open_ends_at_its_close_and_touches_both_extremes(candle: Candle) -> None:
    assert interpolate_price(candle, 0) == candle.open
    assert interpolate_price(candle, 1) == pytest.approx(candle.close)
    assert set(list_corners(candle)[1:3]) == {candle.high, candle.low}
    assert [interpolate_price(candle, third / 3) for third in (1, 2)] == pytest.approx(list(list_corners(candle)[1:3]))
    whole = build_partial_candle(candle, 1)
    assert (whole.open, whole.high, whole.low) == (candle.open, candle.high, candle.low)


@given(candles(), fractions, fractions)
def test_a_forming_candle_only_grows(candle: Candle, one: float, other: float) -> None:
    early, late = build_partial_candle(candle, min(one, other)), build_partial_candle(candle, max(one, other))
    assert candle.low <= late.low <= early.low
    assert early.high <= late.high <= candle.high
    assert early.volume <= late.volume <= candle.volume
    assert late.low <= late.close <= late.high


def rising(minutes: int) -> FileSeries:
    return FileSeries(
        [Candle(NOW + i * MINUTE_MS, 100.0 + i, 101.0 + i, 100.0 + i, 101.0 + i, 2.0) for i in range(minutes)], 1
    )


def test_time_runs_at_its_speed_and_stops_at_the_end_of_the_file() -> None:
    seconds = 10.0
    clock = MarketClock(NOW, 60.0, NOW + 5 * MINUTE_MS, lambda: seconds)
    assert clock.now_ms() == NOW
    seconds = 12.5
    assert clock.now_ms() == NOW + 150_000
    seconds = 1e6
    assert clock.now_ms() == NOW + 5 * MINUTE_MS


def test_the_last_kline_is_the_forming_one_until_the_file_ends() -> None:
    market = Market(rising(200))
    half = NOW + 150 * MINUTE_MS + 30_000
    shown = market.list_candles(half, 1, 3)
    assert [candle.open_time_ms for candle in shown] == [NOW + index * MINUTE_MS for index in (148, 149, 150)]
    assert (shown[-1].open, shown[-1].close, shown[-1].volume) == (250.0, 250.5, 1.0)
    end = NOW + 200 * MINUTE_MS
    assert market.list_candles(end, 1, 1) == [Candle(NOW + 199 * MINUTE_MS, 299.0, 300.0, 299.0, 300.0, 2.0)]
    assert market.get_price(end) == 300.0


def test_longer_candles_are_the_minutes_put_together_and_start_on_their_own_boundaries() -> None:
    market = Market(rising(200))
    now_ms = NOW + 150 * MINUTE_MS
    for minutes in (3, 5, 15, 60):
        *closed, forming = market.list_candles(now_ms, minutes, 50)
        assert closed
        assert all(candle.open_time_ms % (minutes * MINUTE_MS) == 0 for candle in closed)
        ones = {candle.open_time_ms: candle for candle in market.list_candles(now_ms, 1, 200)}
        for candle in closed:
            assert candle == merge_candles([ones[candle.open_time_ms + i * MINUTE_MS] for i in range(minutes)])
        assert forming.open_time_ms + minutes * MINUTE_MS > now_ms


def test_the_day_is_the_last_24_hours_or_as_many_as_there_are() -> None:
    market = Market(rising(3 * DAY_MINUTES))
    late = NOW + 2 * DAY_MINUTES * MINUTE_MS + 30_000
    day = market.merge_last_24h(late)
    assert day.open_time_ms == NOW + (DAY_MINUTES + 1) * MINUTE_MS
    assert (day.open, day.close) == (100.0 + DAY_MINUTES + 1, 100.5 + 2 * DAY_MINUTES)
    assert day.volume == pytest.approx(2.0 * (DAY_MINUTES - 1) + 1.0)
    assert market.merge_last_24h(NOW + 30_000).open == 100.0


def test_the_clock_of_a_file_starts_after_a_day_or_after_a_hundred_candles_of_a_short_one() -> None:
    assert find_start_ms(rising(2 * DAY_MINUTES), 0) == NOW + DAY_MINUTES * MINUTE_MS
    assert find_start_ms(rising(150), 0) == NOW + 100 * MINUTE_MS
    assert find_start_ms(SyntheticSeries(1, "X", 10.0, 0.001, 2), NOW) == NOW


SHARED = create_synthetic_series(7)


@given(st.sampled_from(sorted(SHARED)), st.integers(min_value=0, max_value=10**13))
def test_a_synthetic_market_is_a_function_of_seed_and_time(symbol: str, now_ms: int) -> None:
    now_ms += 2 * MINUTE_MS
    one, other = Market(SHARED[symbol]), Market(SHARED[symbol])
    other.get_price(now_ms - MINUTE_MS)
    assert one.get_price(now_ms) == other.get_price(now_ms)
    bid, ask = one.get_bid_ask(now_ms)
    assert 0 < bid < one.get_price(now_ms) < ask


def test_synthetic_candles_follow_each_other_without_a_jump_also_over_midnight() -> None:
    series = create_synthetic_series(3)["BTCUSDT"]
    midnight = 19_000 * DAY_MINUTES * MINUTE_MS
    run = [series.get_candle(midnight + minute * MINUTE_MS) for minute in range(-200, 200)]
    for before, candle in itertools.pairwise(run):
        assert candle.open == before.close
        assert candle.low <= min(candle.open, candle.close) <= max(candle.open, candle.close) <= candle.high


def test_synthetic_markets_move_as_much_as_real_ones() -> None:
    market = Market(create_synthetic_series(1)["BTCUSDT"])
    closes = [candle.close for candle in market.list_candles(NOW, 1, DAY_MINUTES)]
    returns = [math.log(after / before) for before, after in itertools.pairwise(closes)]
    deviation = math.sqrt(sum(value * value for value in returns) / len(returns))
    assert 0.0003 < deviation < 0.0012


def test_two_seeds_are_two_markets_and_one_seed_is_one() -> None:
    def prices(seed: int) -> list[float]:
        return [candle.close for candle in Market(create_synthetic_series(seed)["ETHUSDT"]).list_candles(NOW, 1, 50)]

    assert prices(1) == prices(1)
    assert prices(1) != prices(2)
