"""How long market data stays fresh, by the venue's own clock, which may be simulated at any speed. Pure."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from engine.domain.market import MarketSnapshot

MIN_S: Final = 0.25
HALTED_S: Final = 5.0  # between fetches of a market without new candles (halted, delisted), however many ask for it
UNKNOWN_SPEED_S: Final = 1.0  # the longest time to keep data before two readings have shown the clock's speed
OLDEST_CANDLES: Final = 3
_MAX_S: Final = 60.0
_MAX_REAL_TIME_SPEED: Final = 1.25  # a clock that seems at most this fast is a real one, read over a jittery network
_INTERVAL_MS: Final = {"1m": 60_000, "5m": 300_000, "15m": 900_000, "1h": 3_600_000, "4h": 14_400_000, "1d": 86_400_000}


def get_interval_ms(interval: str) -> int:
    """Length of a candle in ms. Raises ValueError for an unknown interval."""
    if interval not in _INTERVAL_MS:
        raise ValueError(f"no candles of {interval!r}; there are {', '.join(_INTERVAL_MS)}")
    return _INTERVAL_MS[interval]


class ClockSample(NamedTuple):
    at: float
    venue_ms: int


@dataclass
class VenueClock:
    """Extrapolates the venue's time from its readings; `speed` is venue seconds per real second, at least 1."""

    speed: float | None = None
    _last: ClockSample | None = None
    _base: ClockSample | None = None

    def add_sample(self, venue_ms: int, now: float) -> None:
        """Adds the venue's time at monotonic `now`, unless a newer sample was added before.

        A time that goes back (a restarted simulation) makes the speed unknown.
        """
        if self._last is not None and now < self._last.at:
            return
        self._last = ClockSample(now, venue_ms)
        if self._base is None or venue_ms < self._base.venue_ms:
            self.speed, self._base = None, self._last
        elif now - self._base.at >= MIN_S:
            speed = (venue_ms - self._base.venue_ms) / 1_000 / (now - self._base.at)
            self.speed = speed if speed > _MAX_REAL_TIME_SPEED else 1.0
            self._base = self._last

    def estimate_ms(self, now: float) -> int:
        """The venue's estimated time (Unix ms) at monotonic `now`; 0 before the first sample."""
        if self._last is None:
            return 0
        return self._last.venue_ms + round((now - self._last.at) * 1_000 * (self.speed or 1.0))


def compute_fresh_until(snapshot: MarketSnapshot, fetched_at: float, speed: float | None) -> float:
    """Monotonic time until which `snapshot` is fresh: when the next candle closes on the venue's clock."""
    step_ms = get_interval_ms(snapshot.interval)
    next_close_ms = snapshot.candles[-1].open_time_ms + 2 * step_ms
    until_close_s = (next_close_ms - snapshot.as_of_ms) / 1_000 / (speed or 1.0)
    if is_too_old(snapshot, snapshot.as_of_ms):
        return fetched_at + HALTED_S
    longest_s = UNKNOWN_SPEED_S if speed is None else max(_MAX_S, step_ms / 1_000)
    return fetched_at + min(max(until_close_s, MIN_S), longest_s)


def count_candles_behind(snapshot: MarketSnapshot, venue_now_ms: int) -> float:
    """By how many candles the data is behind the venue's time; 0 when the last candle has just closed."""
    step_ms = get_interval_ms(snapshot.interval)
    return (venue_now_ms - snapshot.candles[-1].open_time_ms - step_ms) / step_ms


def is_old_price(at_ms: int, interval: str, venue_now_ms: int) -> bool:
    """Whether the last price, of `at_ms`, is older than candles may be: there was no trade, or the market is halted."""
    return venue_now_ms - at_ms > OLDEST_CANDLES * get_interval_ms(interval)


def is_too_old(snapshot: MarketSnapshot, venue_now_ms: int) -> bool:
    """Whether `snapshot` is more than OLDEST_CANDLES behind the venue's time."""
    return count_candles_behind(snapshot, venue_now_ms) > OLDEST_CANDLES
