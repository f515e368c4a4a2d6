"""The indicators against plain-Python formulas written from their definitions, on generated and seeded series."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.deciding.indicators import compute
from engine.domain.market import Candle, Indicators
from tests.support.factories.indicators import assert_same


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
