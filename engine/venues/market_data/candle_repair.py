"""Turns a venue's rows of candles into a series without holes, with filled candles marked. Pure.

Venues lose minutes in a maintenance or a halt, omit minutes without trade, and send a candle twice or too early. A
strategy must go on regardless, because its exits depend on it.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from engine.domain.market import Candle

MIN_REAL_SHARE: Final = 0.25  # of the candles; with fewer, indicators mean nothing
OPEN_TOLERANCE_DIVISOR: Final = 60  # a candle may open off the grid by this fraction of its length


class RepairedCandles(NamedTuple):
    """`candles` are exactly one interval apart, oldest first, and the newest is real. `filled` are the open times (ms)
    of missing or faulty ones, replaced by the last close with volume 0. With a `fault`, no closed candle was valid and
    both are empty."""

    candles: tuple[Candle, ...]
    filled: frozenset[int]
    fault: str | None = None


def repair_candles(rows: Iterable[Sequence[Any]], interval_ms: int, limit: int, now_ms: int) -> RepairedCandles:
    """The newest closed candles, up to `limit`, of `rows`, which may have any order.

    A row is open time (ms), open, high, low, close, volume. Candles that have not ended at `now_ms` are left out.

    - Rows without a price, with a fault (see `find_candle_fault`), or off the grid of the others are ignored. If no
      valid closed row is left, there is a `fault`.
    - Of rows for one time the one with the larger volume counts, then the one with the wider range: both only grow
      while a candle forms, so the other is the earlier one.
    - Holes between two candles are filled, nothing before the first and nothing after the last. Where fewer than
      `MIN_REAL_SHARE` would be real, the candles begin after the longest hole.
    """
    priced_rows = [row for row in rows if _has_prices(row)]
    phase_ms = _find_phase_ms(priced_rows, interval_ms)
    candles_or_faults = [_parse_candle(row, interval_ms, phase_ms) for row in priced_rows]
    faults = [parsed for parsed in candles_or_faults if isinstance(parsed, str)]
    closed: dict[int, Candle] = {}
    for candle in candles_or_faults:
        if not isinstance(candle, str) and candle.open_time_ms + interval_ms <= now_ms:
            other = closed.get(candle.open_time_ms, candle)
            closed[candle.open_time_ms] = max(other, candle, key=_build_completeness_key)
    if faults and not closed:
        return RepairedCandles((), frozenset(), faults[0])
    return _fill_gaps(closed, interval_ms, limit)


def find_candle_fault(candle: Candle) -> str | None:
    """What is impossible in `candle`, or None: a value that is no number, a price that is not positive, a negative
    volume, a high or low that is not the highest or lowest."""
    prices = (candle.open, candle.high, candle.low, candle.close)
    if any(value is None or not math.isfinite(value) for value in (*prices, candle.volume)):
        return "not a number"
    if min(prices) <= 0 or candle.volume < 0:
        return "a price that is not positive or a negative volume"
    if candle.high < max(prices) or candle.low > min(prices):
        return "the high is not the highest or the low not the lowest"
    return None


def _has_prices(row: Sequence[Any]) -> bool:
    return row[0] is not None and any(value is not None for value in row[1:5])


def _find_phase_ms(rows: Sequence[Sequence[Any]], interval_ms: int) -> int:
    """Where within an interval most candles open: not every venue begins its days at midnight UTC."""
    counts = Counter(int(row[0]) % interval_ms for row in rows)
    return min(counts, key=lambda phase_ms: (-counts[phase_ms], phase_ms), default=0)


def _parse_candle(row: Sequence[Any], interval_ms: int, phase_ms: int) -> Candle | str:
    """The candle of a row, on the grid, or its fault."""
    raw_open_ms = int(row[0])
    open_ms = (raw_open_ms - phase_ms + interval_ms // 2) // interval_ms * interval_ms + phase_ms
    candle = Candle(open_ms, *(None if value is None else float(value) for value in row[1:6]))  # type: ignore[arg-type] # found by `find_candle_fault`
    fault = find_candle_fault(candle)
    if abs(raw_open_ms - open_ms) > interval_ms // OPEN_TOLERANCE_DIVISOR:
        fault = "it opens beside the others"
    return candle if fault is None else f"candle of {raw_open_ms}: {fault}"


def _build_completeness_key(candle: Candle) -> tuple[float, ...]:
    """Grows while a candle forms; what follows the range only makes the choice the same in any order."""
    return (candle.volume, candle.high - candle.low, *candle[1:5])


def _fill_gaps(candle_by_open_ms: Mapping[int, Candle], interval_ms: int, limit: int) -> RepairedCandles:
    """The newest of the candles, up to `limit`, with the holes between them filled."""
    if not candle_by_open_ms:
        return RepairedCandles((), frozenset())
    newest_ms = max(candle_by_open_ms)
    oldest_ms = max(min(candle_by_open_ms), newest_ms - (limit - 1) * interval_ms)
    opens = list(range(oldest_ms, newest_ms + 1, interval_ms))
    while sum(open_ms in candle_by_open_ms for open_ms in opens) < MIN_REAL_SHARE * len(opens):
        opens = opens[_find_end_of_longest_gap(opens, candle_by_open_ms) :]
    before = max((open_ms for open_ms in candle_by_open_ms if open_ms <= opens[0]), default=opens[0])
    close, candles = candle_by_open_ms[before].close, list[Candle]()
    for open_ms in opens:
        candle = candle_by_open_ms.get(open_ms) or Candle(open_ms, close, close, close, close, 0.0)
        close = candle.close
        candles.append(candle)
    return RepairedCandles(tuple(candles), frozenset(open_ms for open_ms in opens if open_ms not in candle_by_open_ms))


def _find_end_of_longest_gap(opens: Sequence[int], candle_by_open_ms: Mapping[int, Candle]) -> int:
    """The index of the candle after it; of the newest among equals."""
    best, length, end = 0, 0, 0
    for index, open_ms in enumerate(opens):
        if open_ms not in candle_by_open_ms:
            length += 1
        else:
            best, end = (length, index) if length and length >= best else (best, end)
            length = 0
    return end
