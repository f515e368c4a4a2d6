"""Market data in the form in which strategies get it."""

from typing import NamedTuple

from engine.platform.values import Frozen


class Candle(NamedTuple):
    """One closed candle; `open_time_ms` is the venue's clock, UTC."""

    open_time_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float


class Indicators(Frozen):
    """Values at the last closed candle; None while the indicator is still warming up, never zero."""

    sma_20: float | None = None
    sma_50: float | None = None
    ema_12: float | None = None
    ema_26: float | None = None
    macd: float | None = None
    macd_signal: float | None = None
    macd_histogram: float | None = None
    rsi_14: float | None = None
    atr_14: float | None = None
    bollinger_upper: float | None = None
    bollinger_middle: float | None = None
    bollinger_lower: float | None = None
    volume_ratio: float | None = None


class MarketSnapshot(Frozen):
    """The market data of one symbol for one cycle.

    `candles` are the last 10 closed ones, oldest first; the indicators use up to 100. `as_of_ms` is the venue's time
    when the data was fetched, `age_s` its age when the snapshot was sent. `filled` are the open times (ms) of those of
    `candles` that the venue did not send and that were filled in (see `engine.venues.market_data.candle_repair`),
    `filled_count` how many of the up to 100 were. `funding_rate_percent` is paid by longs to shorts (negative: by
    shorts to longs) in `next_funding_minutes`; None is unknown.
    """

    venue: str
    symbol: str
    interval: str = "1m"
    as_of_ms: int
    age_s: float = 0.0
    last_price: float
    change_24h_percent: float | None
    candles: tuple[Candle, ...]
    filled: tuple[int, ...] = ()
    filled_count: int = 0
    indicators: Indicators
    funding_rate_percent: float | None = None
    next_funding_minutes: int | None = None
