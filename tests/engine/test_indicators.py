"""The indicators against plain-Python formulas written from their definitions, on generated and seeded series."""

import itertools
import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.indicators import compute
from engine.types import Candle, Indicators


def sma(values: Sequence[float], period: int) -> float | None:
    return math.fsum(values[-period:]) / period if len(values) >= period else None


def ema_series(values: Sequence[float], period: int) -> list[float]:
    """EMA at index period-1 and after, seeded with the mean of the first `period` values."""
    if len(values) < period:
        return []
    series = [math.fsum(values[:period]) / period]
    for value in values[period:]:
        series.append(series[-1] + (value - series[-1]) * 2 / (period + 1))
    return series


def last(values: Sequence[float]) -> float | None:
    return values[-1] if values else None


def macd(closes: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Both EMAs start on the 26th close; the signal is an EMA 9 of their difference; nothing before the 34th."""
    slow, fast = ema_series(closes, 26), ema_series(closes[14:], 12)
    lines = [one - other for one, other in zip(fast, slow, strict=True)] if slow else []
    signal = ema_series(lines, 9)
    if not signal:
        return None, None, None
    return lines[-1], signal[-1], lines[-1] - signal[-1]


def wilder(values: Sequence[float], period: int) -> float | None:
    if len(values) < period:
        return None
    average = math.fsum(values[:period]) / period
    for value in values[period:]:
        average = (average * (period - 1) + value) / period
    return average


def rsi(closes: Sequence[float], period: int = 14) -> float | None:
    changes = [after - before for before, after in itertools.pairwise(closes)]
    gain = wilder([max(change, 0.0) for change in changes], period)
    loss = wilder([max(-change, 0.0) for change in changes], period)
    if gain is None or loss is None or gain + loss == 0:
        return None
    return 100 * gain / (gain + loss)


def atr(candles: Sequence[Candle], period: int = 14) -> float | None:
    ranges = [
        max(candle.high, before.close) - min(candle.low, before.close) for before, candle in itertools.pairwise(candles)
    ]
    return wilder(ranges, period)


def bollinger(closes: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    middle = sma(closes, 20)
    if middle is None:
        return None, None, None
    deviation = math.sqrt(math.fsum((close - middle) ** 2 for close in closes[-20:]) / 20)
    return middle + 2 * deviation, middle, middle - 2 * deviation


def volume_ratio(volumes: Sequence[float]) -> float | None:
    mean = sma(volumes, 20)
    return volumes[-1] / mean if mean else None


def independent(candles: Sequence[Candle]) -> Indicators:
    closes = [candle.close for candle in candles]
    line, signal, histogram = macd(closes)
    upper, middle, lower = bollinger(closes)
    return Indicators(
        sma_20=sma(closes, 20),
        sma_50=sma(closes, 50),
        ema_12=last(ema_series(closes, 12)),
        ema_26=last(ema_series(closes, 26)),
        macd=line,
        macd_signal=signal,
        macd_histogram=histogram,
        rsi_14=rsi(closes),
        atr_14=atr(candles),
        bollinger_upper=upper,
        bollinger_middle=middle,
        bollinger_lower=lower,
        volume_ratio=volume_ratio([candle.volume for candle in candles]),
    )


def assert_same(candles: Sequence[Candle]) -> None:
    ours, theirs = compute(candles).model_dump(), independent(candles).model_dump()
    scale = max((candle.high for candle in candles), default=1.0)
    for name, expected in theirs.items():
        if expected is None:
            assert ours[name] is None, name
        else:
            # TA-Lib takes the variance as a difference of squares: a band is exact to about the root of its precision.
            slack = 1e-6 * scale if name.startswith("bollinger") else 1e-9 * scale
            assert ours[name] == pytest.approx(expected, rel=1e-9, abs=slack), name


def walk(seed: int, length: int, start: float = 100.0) -> list[Candle]:
    rng = random.Random(seed)
    candles, price = [], start
    for index in range(length):
        close = price * math.exp(rng.gauss(0, 0.002))
        high = max(price, close) * (1 + rng.random() * 0.001)
        low = min(price, close) * (1 - rng.random() * 0.001)
        candles.append(Candle(index * 60_000, price, high, low, close, rng.lognormvariate(0, 1)))
        price = close
    return candles


@st.composite
def series(draw: st.DrawFn) -> list[Candle]:
    price = st.floats(min_value=1, max_value=1000, allow_nan=False).map(lambda value: round(value, 2))
    rows = draw(st.lists(st.tuples(price, price, price, price, st.floats(0, 1e6).map(round)), max_size=120))
    return [
        Candle(index * 60_000, one, max(one, two, three, four), min(one, two, three, four), two, float(volume))
        for index, (one, two, three, four, volume) in enumerate(rows)
    ]


@settings(max_examples=80, deadline=None)
@given(series())
def test_every_indicator_equals_its_definition_on_any_series(candles: list[Candle]) -> None:
    assert_same(candles)


@pytest.mark.parametrize("length", [1, 11, 12, 14, 15, 19, 20, 25, 26, 33, 34, 49, 50, 100, 600])
def test_every_indicator_equals_its_definition_while_it_warms_up_and_after(length: int) -> None:
    assert_same(walk(seed=length, length=length, start=28_000.0))


def test_nothing_is_zero_or_nan_while_it_warms_up() -> None:
    for length in range(50):
        values = compute(walk(seed=1, length=length)).model_dump().values()
        assert all(value is None or (math.isfinite(value) and value != 0) for value in values)


def test_a_series_that_never_moves_has_no_rsi_and_no_volume_ratio_without_volume() -> None:
    flat = [Candle(index * 60_000, 10.0, 10.0, 10.0, 10.0, 0.0) for index in range(60)]
    indicators = compute(flat)
    assert indicators.rsi_14 is None
    assert indicators.volume_ratio is None
    assert (indicators.sma_50, indicators.bollinger_upper, indicators.atr_14) == (10.0, 10.0, 0.0)


def test_no_candles_give_no_indicators() -> None:
    assert compute([]) == Indicators()
