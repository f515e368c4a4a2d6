"""The indicators of the prompt, all from TA-Lib, at the last closed candle; absent while they warm up."""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import talib

from engine.domain.market import Candle, Indicators

VOLUME_PERIOD: Final = 20


def compute(candles: Sequence[Candle]) -> Indicators:
    """Indicators at the last of `candles` (closed, oldest first); None where there are too few candles to say.

    - SMA 20 and 50: mean of the last closes. EMA 12 and 26: seeded with the SMA of the first 12 or 26 closes.
    - MACD 12/26/9: TA-Lib seeds both EMAs so that they start on the same candle, the 26th: the slow one with the SMA of
      closes 1-26, the fast one with the SMA of closes 15-26. The signal is an EMA 9 of the difference, seeded with its
      SMA, so MACD first appears at the 34th candle, and `macd` differs a little from ``ema_12 - ema_26`` while young.
    - RSI 14 and ATR 14: Wilder's smoothing (New Concepts in Technical Trading Systems, 1978), seeded with the mean of
      the first 14 changes and true ranges; first at the 15th candle. RSI is None while no close has ever changed.
    - Bollinger 20/2: SMA 20 plus and minus two population standard deviations.
    - Volume ratio: last volume over the mean of the last 20 volumes (the last included); None when that mean is zero.
    """
    if not candles:
        return Indicators()
    columns = np.array([candle[1:] for candle in candles], dtype=float)
    highs, lows, closes, volumes = (np.ascontiguousarray(columns[:, index]) for index in (1, 2, 3, 4))
    macd, signal, histogram = talib.MACD(closes, fastperiod=12, slowperiod=26, signalperiod=9)
    upper, middle, lower = talib.BBANDS(closes, timeperiod=20, nbdevup=2.0, nbdevdn=2.0)
    return Indicators(
        sma_20=_get_last(talib.SMA(closes, timeperiod=20)),
        sma_50=_get_last(talib.SMA(closes, timeperiod=50)),
        ema_12=_get_last(talib.EMA(closes, timeperiod=12)),
        ema_26=_get_last(talib.EMA(closes, timeperiod=26)),
        macd=_get_last(macd),
        macd_signal=_get_last(signal),
        macd_histogram=_get_last(histogram),
        # TA-Lib returns 0 for closes that never change, which would read as heavily oversold.
        rsi_14=_get_last(talib.RSI(closes, timeperiod=14)) if np.ptp(closes) > 0 else None,
        atr_14=_get_last(talib.ATR(highs, lows, closes, timeperiod=14)),
        bollinger_upper=_get_last(upper),
        bollinger_middle=_get_last(middle),
        bollinger_lower=_get_last(lower),
        volume_ratio=_compute_volume_ratio(volumes),
    )


def _get_last(series: Any) -> float | None:
    value = float(series[-1])
    return value if math.isfinite(value) else None


def _compute_volume_ratio(volumes: Any) -> float | None:
    if len(volumes) < VOLUME_PERIOD:
        return None
    mean = float(np.mean(volumes[-VOLUME_PERIOD:]))
    return float(volumes[-1]) / mean if mean > 0 else None
