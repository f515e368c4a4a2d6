"""The simulated market: prices and candles at a time, as functions of a series and that time."""

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from engine.domain.market import Candle
from simulator.market.candles import DAY_MINUTES, MINUTE_MS, Series

HISTORY_MINUTES: Final = 100
SPREAD: Final = 0.0001  # 1 basis point between bid and ask
SEGMENT_MS: Final = MINUTE_MS // 3  # between two corners of a candle
LATEST_MS: Final = 2**62


class MarketClock:
    """Simulated time: from `start_ms` on, `speed` times as fast as `monotonic`; it stops at `end_ms`."""

    def __init__(
        self, start_ms: int, speed: float, end_ms: int | None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._start_ms = start_ms
        self._speed = speed
        self._end_ms = end_ms
        self._monotonic = monotonic
        self._started_at = monotonic()

    @property
    def speed(self) -> float:
        return self._speed

    def now_ms(self) -> int:
        passed_ms = (self._monotonic() - self._started_at) * 1_000 * self._speed
        now_ms = self._start_ms + int(passed_ms)
        return now_ms if self._end_ms is None else min(now_ms, self._end_ms)


def find_start_ms(series: Series, wanted_ms: int) -> int:
    """Where the clock starts: after the first day of a file (after 100 candles if it is shorter than two days), or
    `wanted_ms` for a series without an end."""
    if series.end_ms is None:
        return wanted_ms
    minutes = (series.end_ms - series.start_ms) // MINUTE_MS
    history = DAY_MINUTES if minutes >= 2 * DAY_MINUTES else HISTORY_MINUTES
    return series.start_ms + history * MINUTE_MS


def list_corners(candle: Candle) -> tuple[float, float, float, float]:
    """The prices that a candle passes through, with a third of its time between them: open, low, high, close if it
    rises, else open, high, low, close."""
    if candle.close >= candle.open:
        return candle.open, candle.low, candle.high, candle.close
    return candle.open, candle.high, candle.low, candle.close


def interpolate_price(candle: Candle, fraction: float) -> float:
    """The price when `fraction` (0 to 1) of the candle's time has passed, linear between corners."""
    path = list_corners(candle)
    segment = min(int(fraction * 3), 2)
    part = fraction * 3 - segment
    here, there = path[segment], path[segment + 1]
    price = here + (there - here) * part
    return min(max(price, min(here, there)), max(here, there))  # rounding must not pass a corner


def build_partial_candle(candle: Candle, fraction: float) -> Candle:
    """The candle as it looks while it forms."""
    passed = [*list_corners(candle)[: min(int(fraction * 3), 2) + 1], interpolate_price(candle, fraction)]
    volume = round(candle.volume * fraction, 8)
    return Candle(candle.open_time_ms, candle.open, max(passed), min(passed), passed[-1], volume)


def merge_candles(candles: list[Candle]) -> Candle:
    """One longer candle out of consecutive ones."""
    first, last = candles[0], candles[-1]
    high, low = max(c.high for c in candles), min(c.low for c in candles)
    return Candle(first.open_time_ms, first.open, high, low, last.close, math.fsum(c.volume for c in candles))


@dataclass(frozen=True)
class PriceSegment:
    """A straight part of the price's path. A jump lies between two of them."""

    since_ms: int
    until_ms: int
    first: float
    last: float


class Market:
    """One symbol's market. Prices have the decimals of its candles.

    `jump` scales all prices from one moment on; the candle of that moment contains the jump. Between `halt` and
    `resume` the price does not change, and minutes without any trade have no candle.
    """

    def __init__(self, series: Series) -> None:
        self.series = series
        self.decimals = series.decimals
        self.tick = 10.0**-series.decimals
        # One lot is worth ten to a hundred dollars: 0.001 BTC, 0.01 SOL, whole coins below ten dollars.
        self.lot_decimals = min(3, max(0, math.ceil(math.log10(series.get_candle(series.start_ms).open)) - 1))
        # As many lots as are worth ten million dollars and a million at least, in round numbers.
        self.max_quantity = 10 ** max(6, 7 - math.floor(math.log10(series.get_candle(series.start_ms).open)))
        self._jumps: list[tuple[int, float]] = []  # when, and the factor from then on
        self._halts: list[tuple[int, int]] = []  # from and until when
        # Cached because every ticker needs it, and it changes once a minute only.
        self._day_until = functools.lru_cache(maxsize=2)(self._merge_day)

    def get_price(self, now_ms: int) -> float:
        return round(self._calculate_exact_price(now_ms, now_ms), self.decimals)

    def jump(self, now_ms: int, percent: float) -> None:
        """Raises prices by `percent` from `now_ms` on, which must not be before an earlier jump."""
        self._jumps.append((now_ms, 1 + percent / 100))
        self._day_until.cache_clear()

    def halt(self, now_ms: int) -> None:
        """No trades from `now_ms` on, which must not be before an earlier halt. Does nothing while halted."""
        if self.get_last_trade_ms(now_ms) == now_ms and (not self._halts or self._halts[-1] != (now_ms, LATEST_MS)):
            self._halts.append((now_ms, LATEST_MS))

    def resume(self, now_ms: int) -> None:
        """Ends the present halt, if any."""
        if self._halts and self._halts[-1][1] == LATEST_MS:
            self._halts[-1] = (self._halts[-1][0], now_ms)
            self._day_until.cache_clear()

    def get_last_trade_ms(self, now_ms: int) -> int:
        """The last moment until `now_ms` at which the market traded: `now_ms`, or the start of the halt at that
        moment."""
        return next((since_ms for since_ms, until_ms in self._halts if since_ms <= now_ms < until_ms), now_ms)

    def iter_segments(self, since_ms: int, until_ms: int) -> Iterator[PriceSegment]:
        """The price's path from `since_ms` to `until_ms`, both included, in order of time; a jump at `until_ms` is
        included."""
        bends = {since_ms, until_ms, *(at_ms for at_ms, _ in self._jumps if since_ms < at_ms <= until_ms)}
        bends |= {at_ms for halt in self._halts for at_ms in halt if since_ms < at_ms < until_ms}
        bends |= set(range(since_ms - since_ms % SEGMENT_MS + SEGMENT_MS, until_ms, SEGMENT_MS))
        times = sorted(bends)
        for at_ms, next_ms in zip(times, [*times[1:], until_ms], strict=True):
            first, last = self._calculate_exact_price(at_ms, at_ms), self._calculate_exact_price(next_ms, at_ms)
            yield PriceSegment(at_ms, next_ms, round(first, self.decimals), round(last, self.decimals))

    def get_bid_ask(self, now_ms: int) -> tuple[float, float]:
        """Best bid and ask: half a spread, and at least half a tick, around the price."""
        price = self.get_price(now_ms)
        half = max(price * SPREAD / 2, self.tick / 2)
        bid = round(math.floor((price - half) / self.tick + 1e-6) * self.tick, self.decimals)
        ask = round(math.ceil((price + half) / self.tick - 1e-6) * self.tick, self.decimals)
        return max(bid, self.tick), ask

    def list_candles(self, now_ms: int, minutes: int, limit: int, until_ms: int | None = None) -> list[Candle]:
        """Up to `limit` candles of `minutes`, oldest first, that open by `until_ms`; the last one may still be
        forming."""
        length_ms = minutes * MINUTE_MS
        newest_ms = min(now_ms, until_ms if until_ms is not None else now_ms, self._get_last_open_ms())
        newest_ms -= newest_ms % length_ms
        # Only whole candles: a file may begin in the middle of an hour.
        opens = range(newest_ms, self.series.start_ms - 1, -length_ms)
        traded = (open_ms for open_ms in opens if not self._is_halted(open_ms, open_ms + length_ms))
        return [self._build_candle(open_ms, minutes, now_ms) for open_ms in itertools.islice(traded, limit)][::-1]

    def merge_last_24h(self, now_ms: int) -> Candle:
        """The last 24 hours, or as many as there are, as one candle."""
        now_ms = self.get_last_trade_ms(now_ms)
        newest = self.list_candles(now_ms, 1, 1)[-1]
        before = self._day_until(newest.open_time_ms)
        return newest if before is None else merge_candles([before, newest])

    def _merge_day(self, until_ms: int) -> Candle | None:
        since_ms = max(until_ms - (DAY_MINUTES - 1) * MINUTE_MS, self.series.start_ms)
        minutes = self._list_minutes(since_ms, until_ms - MINUTE_MS, until_ms)
        return merge_candles(minutes) if minutes else None

    def _get_last_open_ms(self) -> int:
        end_ms = self.series.end_ms
        return LATEST_MS if end_ms is None else end_ms - MINUTE_MS

    def _calculate_exact_price(self, at_ms: int, scaled_as_ms: int) -> float:
        """The price at `at_ms`, scaled by the jumps until `scaled_as_ms`; that of the start of a halt in force at that
        time."""
        traded_ms = self.get_last_trade_ms(scaled_as_ms)
        candle, fraction = self._find_candle_at(at_ms if traded_ms == scaled_as_ms else min(at_ms, traded_ms))
        return interpolate_price(candle, fraction) * self._calculate_jump_factor(scaled_as_ms)

    def _calculate_jump_factor(self, at_ms: int) -> float:
        return math.prod(factor for since_ms, factor in self._jumps if since_ms <= at_ms)

    def _find_candle_at(self, now_ms: int) -> tuple[Candle, float]:
        open_ms = min(now_ms - now_ms % MINUTE_MS, self._get_last_open_ms())
        return self.series.get_candle(open_ms), min((now_ms - open_ms) / MINUTE_MS, 1.0)

    def _build_candle(self, open_ms: int, minutes: int, now_ms: int) -> Candle:
        last_ms = min(open_ms + (minutes - 1) * MINUTE_MS, now_ms - now_ms % MINUTE_MS, self._get_last_open_ms())
        parts = self._list_minutes(open_ms, last_ms, now_ms)
        return parts[0] if minutes == 1 else merge_candles(parts)

    def _list_minutes(self, first_ms: int, last_ms: int, now_ms: int) -> list[Candle]:
        """The minutes in which there was trade, from the one that opens at `first_ms` to that at `last_ms`."""
        opens = range(first_ms, last_ms + 1, MINUTE_MS)
        return [self._build_minute(at_ms, now_ms) for at_ms in opens if not self._is_halted(at_ms, at_ms + MINUTE_MS)]

    def _is_halted(self, since_ms: int, until_ms: int) -> bool:
        """Whether one halt covers all the time between the two."""
        return any(since_halt <= since_ms and until_ms <= until_halt for since_halt, until_halt in self._halts)

    def _build_minute(self, open_ms: int, now_ms: int) -> Candle:
        candle = self.series.get_candle(open_ms)
        is_cut = any(since_ms < open_ms + MINUTE_MS and open_ms < until_ms for since_ms, until_ms in self._halts)
        if is_cut or (self._jumps and self._jumps[0][0] < open_ms + MINUTE_MS):
            return self._build_candle_with_jumps(candle, min(now_ms, open_ms + MINUTE_MS - 1))
        if now_ms >= open_ms + MINUTE_MS:
            return candle
        formed = build_partial_candle(candle, (now_ms - open_ms) / MINUTE_MS)
        high, low = round(formed.high, self.decimals), round(formed.low, self.decimals)
        return formed._replace(high=high, low=low, close=round(formed.close, self.decimals))

    def _build_candle_with_jumps(self, candle: Candle, until_ms: int) -> Candle:
        path = list(self.iter_segments(candle.open_time_ms, until_ms))
        prices = [price for stretch in path for price in (stretch.first, stretch.last)]
        volume = round(candle.volume * min(1.0, (until_ms + 1 - candle.open_time_ms) / MINUTE_MS), 8)
        return Candle(candle.open_time_ms, prices[0], max(prices), min(prices), prices[-1], volume)
