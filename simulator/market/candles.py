"""The one-minute candles that the simulated market is made of: from a file, or generated from a seed."""

import functools
import math
import random
from typing import Final, Protocol

from engine.domain.market import Candle

MINUTE_MS: Final = 60_000
DAY_MINUTES: Final = 1_440
INTERVAL_MINUTES: Final = {
    "1m": 1,
    "3m": 3,
    "5m": 5,
    "15m": 15,
    "30m": 30,
    "1h": 60,
    "2h": 120,
    "4h": 240,
    "1d": DAY_MINUTES,
}
CACHED_DAYS: Final = 8  # a request for 100 candles of 1 h needs five


class Series(Protocol):
    """One symbol's minutes without a gap from `start_ms` (inclusive) to `end_ms` (exclusive; None: without end)."""

    start_ms: int
    end_ms: int | None
    decimals: int  # of its prices

    def get_candle(self, open_time_ms: int) -> Candle:
        """The candle that opens at `open_time_ms`, which lies in the series and on a minute."""
        ...


class FileSeries:
    """Candles read from a file, kept in memory."""

    def __init__(self, candles: list[Candle], decimals: int) -> None:
        self._candles = candles
        self.decimals = decimals
        self.start_ms = candles[0].open_time_ms
        self.end_ms: int | None = candles[-1].open_time_ms + MINUTE_MS

    def get_candle(self, open_time_ms: int) -> Candle:
        return self._candles[(open_time_ms - self.start_ms) // MINUTE_MS]


class SyntheticSeries:
    """A seeded random market without end: every candle is a function of seed, symbol and time alone.

    Each UTC day opens at a level drawn around `base` (log-normal, 4 %), and its minutes are a Brownian bridge from one
    day's level to the next, with a volatility of `volatility` per minute that rises and falls twice a day. So the price
    stays near `base`, and a day is computed without the days before it.
    """

    start_ms = 0

    def __init__(self, seed: int, symbol: str, base: float, volatility: float, decimals: int) -> None:
        self._name = f"{seed}:{symbol}"
        self._base = base
        self._volatility = volatility
        self.decimals = decimals
        self.end_ms: int | None = None
        self._day = functools.lru_cache(maxsize=CACHED_DAYS)(self._generate_day)

    def get_candle(self, open_time_ms: int) -> Candle:
        day, minute = divmod(open_time_ms // MINUTE_MS, DAY_MINUTES)
        return self._day(day)[minute]

    def _draw_level(self, day: int) -> float:
        return math.log(self._base) + random.Random(f"{self._name}:level:{day}").gauss(0, 0.04)  # noqa: S311 - a market

    def _generate_day(self, day: int) -> list[Candle]:
        rng = random.Random(f"{self._name}:day:{day}")  # noqa: S311 - a market
        steps = [rng.gauss(0, self._volatility * _calculate_volatility_factor(minute)) for minute in range(DAY_MINUTES)]
        drift = (self._draw_level(day + 1) - self._draw_level(day) - math.fsum(steps)) / DAY_MINUTES
        level, before, candles = self._draw_level(day), round(math.exp(self._draw_level(day)), self.decimals), []
        for minute, step in enumerate(steps):
            level += step + drift
            close = round(math.exp(level), self.decimals)
            candles.append(self._draw_candle(rng, (day * DAY_MINUTES + minute) * MINUTE_MS, before, close))
            before = close
        return candles

    def _draw_candle(self, rng: random.Random, open_time_ms: int, opened: float, close: float) -> Candle:
        above, below = (abs(rng.gauss(0, self._volatility / 2)) for _ in range(2))
        high = max(opened, close, round(max(opened, close) * (1 + above), self.decimals))
        low = min(opened, close, round(min(opened, close) * (1 - below), self.decimals))
        busy = 1 + abs(close / opened - 1) / self._volatility
        volume = round(rng.lognormvariate(0, 0.6) * busy * 250_000 / opened, 3)
        return Candle(open_time_ms, opened, high, low, close, volume)


def _calculate_volatility_factor(minute: int) -> float:
    return 1 + 0.5 * math.sin(4 * math.pi * minute / DAY_MINUTES)


def create_synthetic_series(seed: int) -> dict[str, Series]:
    """The three markets without a file of candles; volatilities per minute are about those of the real ones."""
    return {
        "BTCUSDT": SyntheticSeries(seed, "BTCUSDT", 65_000.0, 0.0006, 1),
        "ETHUSDT": SyntheticSeries(seed, "ETHUSDT", 3_200.0, 0.0008, 2),
        "SOLUSDT": SyntheticSeries(seed, "SOLUSDT", 150.0, 0.0011, 3),
    }
