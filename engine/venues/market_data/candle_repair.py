"""From the rows of candles that a venue tells to candles without a hole, and which of them were filled. Pure.

Venues lose minutes in a maintenance or a halt, leave out minutes without trade, and tell a candle twice or too early. A
strategy must not fall silent for that, since its exits would too; but what was filled is marked.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from engine.domain.market import Candle

MIN_REAL_SHARE: Final = 0.25  # of the candles; of fewer no indicator tells anything
OPEN_TOLERANCE_DIVISOR: Final = 60  # a candle may open this fraction of its length beside where it should


class RepairedCandles(NamedTuple):
    """`candles` go on by exactly one interval, oldest first, and the newest is real. `filled` are the open times (ms)
    of those that the venue did not tell, or told with a contradiction: last close, volume 0. With a `fault` there are
    none, since every closed one contradicts itself."""

    candles: tuple[Candle, ...]
    filled: frozenset[int]
    fault: str | None = None


def repair_candles(rows: Iterable[Sequence[Any]], interval_ms: int, limit: int, now_ms: int) -> RepairedCandles:
    """The newest closed candles, up to `limit`, of `rows`, which may have any order.

    A row is open time in ms, open, high, low, close, volume. What has not ended at `now_ms` is forming and left out.

    - A row without any price, one that contradicts itself (see `find_candle_fault`), and one that opens beside the
    others are   as if they were not there, however many. Where no other closed one is told, there is a `fault`.
    - Of rows for one time the one with the larger volume counts, then the one with the wider range: both only grow
      while a candle forms, so the other was told earlier.
    - Holes between two candles are filled, nothing before the first and nothing after the last. Where fewer than
      `MIN_REAL_SHARE` would be real, the candles begin after the longest hole.
    """
    priced_rows = [row for row in rows if _has_prices(row)]
    phase_ms = _find_phase_ms(priced_rows, interval_ms)
    candles_or_faults = [_parse_candle(row, interval_ms, phase_ms) for row in priced_rows]
    faults = [each for each in candles_or_faults if isinstance(each, str)]
    known: dict[int, Candle] = {}
    for each in candles_or_faults:
        if not isinstance(each, str) and each.open_time_ms + interval_ms <= now_ms:
            before = known.get(each.open_time_ms)
            known[each.open_time_ms] = (
                each if before is None or _completeness_key(each) >= _completeness_key(before) else before
            )
    if faults and not known:
        return RepairedCandles((), frozenset(), faults[0])
    return _fill_gaps(known, interval_ms, limit)


def find_candle_fault(candle: Candle) -> str | None:
    """What `candle` itself says that cannot be, or None: a number that is none, a price that is not positive, a
    negative volume, a high or low that is not the highest or lowest."""
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
    """The candle of a row at its place, or what is wrong with it."""
    told_ms = int(row[0])
    open_ms = (told_ms - phase_ms + interval_ms // 2) // interval_ms * interval_ms + phase_ms
    candle = Candle(open_ms, *(None if value is None else float(value) for value in row[1:6]))  # type: ignore[arg-type] # found by `find_candle_fault`
    fault = find_candle_fault(candle)
    if abs(told_ms - open_ms) > interval_ms // OPEN_TOLERANCE_DIVISOR:
        fault = "it opens beside the others"
    return candle if fault is None else f"candle of {told_ms}: {fault}"


def _completeness_key(candle: Candle) -> tuple[float, ...]:
    """Grows while a candle forms; what follows the range only makes the choice the same in any order."""
    return (candle.volume, candle.high - candle.low, *candle[1:5])


def _fill_gaps(known: Mapping[int, Candle], interval_ms: int, limit: int) -> RepairedCandles:
    """The newest of `known` with the holes between them filled."""
    if not known:
        return RepairedCandles((), frozenset())
    newest_ms = max(known)
    oldest_ms = max(min(known), newest_ms - (limit - 1) * interval_ms)
    opens = list(range(oldest_ms, newest_ms + 1, interval_ms))
    while sum(open_ms in known for open_ms in opens) < MIN_REAL_SHARE * len(opens):
        opens = opens[_find_end_of_longest_gap(opens, known) :]
    before = max((open_ms for open_ms in known if open_ms <= opens[0]), default=opens[0])
    close, candles = known[before].close, list[Candle]()
    for open_ms in opens:
        candle = known.get(open_ms) or Candle(open_ms, close, close, close, close, 0.0)
        close = candle.close
        candles.append(candle)
    return RepairedCandles(tuple(candles), frozenset(open_ms for open_ms in opens if open_ms not in known))


def _find_end_of_longest_gap(opens: Sequence[int], known: Mapping[int, Candle]) -> int:
    """The index of the candle after it; of the newest among equals."""
    best, length, end = 0, 0, 0
    for index, open_ms in enumerate(opens):
        if open_ms not in known:
            length += 1
        else:
            best, end = (length, index) if length and length >= best else (best, end)
            length = 0
    return end
