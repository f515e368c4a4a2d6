"""Market data as strategies see it."""

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
    """What a strategy is shown of one symbol.

    `candles` are the last 10 closed ones, oldest first (the indicators saw up to 100). `as_of_ms` is the venue's time
    when the data was read, `age_s` how old the data was when it was handed out. `filled` are the open times of those of
    `candles` that the venue did not tell, and `filled_count` is how many of up to 100 it did not.
    `funding_rate_percent` is what longs pay shorts (negative: get) in `next_funding_minutes`, None where that is not
    known.
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
