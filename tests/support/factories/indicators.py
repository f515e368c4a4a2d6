"""The indicators in plain Python, written from their definitions, to compare with those of the engine."""

import itertools
import math
from collections.abc import Sequence

import pytest

from engine.deciding.indicators import compute
from engine.domain.market import Candle, Indicators


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
