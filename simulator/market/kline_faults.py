"""Puts faults into rows of klines. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Row = list[Any]  # as `simulator.futures_api.shapes.kline` makes it: open time, open, high, low, close, volume and more
_FIGURES: Final = range(1, 6)


@dataclass(frozen=True)
class KlineFault:
    """What is wrong with the candles that open at these times (ms); see `simulator.control.candle_control`."""

    missing: frozenset[int] = frozenset()
    missing_from_ms: int | None = None
    repeated: frozenset[int] = frozenset()
    half_told: frozenset[int] = frozenset()
    half_told_last: frozenset[int] = frozenset()
    broken: Mapping[int, str] = field(default_factory=dict)
    shifted_ms: Mapping[int, int] = field(default_factory=dict)
    quiet: frozenset[int] = frozenset()
    order: Literal["newest_first", "mixed"] | None = None

    def is_missing(self, open_ms: int) -> bool:
        return open_ms in self.missing or (self.missing_from_ms is not None and open_ms >= self.missing_from_ms)

    def max_missing(self, now_ms: int, length_ms: int) -> int:
        """An upper bound of how many candles until `now_ms` are missing."""
        since_ms = now_ms + 1 if self.missing_from_ms is None else self.missing_from_ms
        return len(self.missing) + max(0, (now_ms - since_ms) // length_ms + 1)

    def apply(self, row: Row) -> list[Row]:
        """The rows that are sent for a correct one."""
        open_ms = row[0]
        if self.is_missing(open_ms):
            return []
        found = [_make_quiet(row) if open_ms in self.quiet else row]
        if open_ms in self.repeated:
            found = [*found, *found]
        if open_ms in self.half_told:
            found = [_make_half(row), *found]
        if open_ms in self.half_told_last:
            found = [*found, _make_half(row)]
        if open_ms in self.broken:
            found = [_make_broken(each, self.broken[open_ms]) for each in found]
        return [[open_ms + self.shifted_ms.get(open_ms, 0), *each[1:]] for each in found]


def apply_faults(rows: Sequence[Row], faults: Sequence[KlineFault]) -> list[Row]:
    """`rows`, oldest first, as they are sent with `faults`."""
    found = [list(row) for row in rows]
    for fault in faults:
        found = _reorder([sent for row in found for sent in fault.apply(row)], fault.order)
    return found


def _reorder(rows: list[Row], order: str | None) -> list[Row]:
    if order == "mixed":
        return [*rows[1::2], *rows[::2]]
    return rows[::-1] if order == "newest_first" else rows


def _make_quiet(row: Row) -> Row:
    """A candle in which nothing was traded: all prices are its open."""
    return [row[0], *[row[1]] * 4, "0", *row[6:]]


def _make_half(row: Row) -> Row:
    """The candle as it may have been after its first trade."""
    return [row[0], *[row[1]] * 4, str(float(row[5]) / 2), *row[6:]]


def _make_broken(row: Row, kind: str) -> Row:
    found = list(row)
    if kind == "high_null":
        found[2] = None
    elif kind == "upside_down":
        found[2], found[3] = str(float(row[3]) / 2), str(float(row[2]) * 2)
    else:
        for index in _FIGURES:
            found[index] = None if kind == "null" else kind
    return found
