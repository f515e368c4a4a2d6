"""Puts faults into rows of klines. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

# As `simulator.futures_api.shapes.build_kline` returns it: open time, open, high, low, close, volume and more.
Row = list[Any]
_FIGURES: Final = range(1, 6)


@dataclass(frozen=True)
class KlineFault:
    """What is wrong with the candles that open at these times (ms); see `simulator.control.candle_control`."""

    missing: frozenset[int] = frozenset()
    missing_from_ms: int | None = None
    repeated: frozenset[int] = frozenset()
    half_formed: frozenset[int] = frozenset()
    half_formed_last: frozenset[int] = frozenset()
    broken: Mapping[int, str] = field(default_factory=dict)
    shifted_ms: Mapping[int, int] = field(default_factory=dict)
    quiet: frozenset[int] = frozenset()
    order: Literal["newest_first", "mixed"] | None = None

    def is_missing(self, open_ms: int) -> bool:
        return open_ms in self.missing or (self.missing_from_ms is not None and open_ms >= self.missing_from_ms)

    def count_max_missing(self, now_ms: int, length_ms: int) -> int:
        """An upper bound of how many candles until `now_ms` are missing."""
        since_ms = now_ms + 1 if self.missing_from_ms is None else self.missing_from_ms
        return len(self.missing) + max(0, (now_ms - since_ms) // length_ms + 1)

    def apply(self, row: Row) -> list[Row]:
        """The rows that are sent for a correct one."""
        open_ms = row[0]
        if self.is_missing(open_ms):
            return []
        rows_sent = [_make_quiet(row) if open_ms in self.quiet else row]
        if open_ms in self.repeated:
            rows_sent = [*rows_sent, *rows_sent]
        if open_ms in self.half_formed:
            rows_sent = [_make_half(row), *rows_sent]
        if open_ms in self.half_formed_last:
            rows_sent = [*rows_sent, _make_half(row)]
        if open_ms in self.broken:
            rows_sent = [_make_broken(sent, self.broken[open_ms]) for sent in rows_sent]
        return [[open_ms + self.shifted_ms.get(open_ms, 0), *sent[1:]] for sent in rows_sent]


def apply_faults(rows: Sequence[Row], faults: Sequence[KlineFault]) -> list[Row]:
    """`rows`, oldest first, as they are sent with `faults`."""
    rows_sent = [list(row) for row in rows]
    for fault in faults:
        rows_sent = _reorder([sent for row in rows_sent for sent in fault.apply(row)], fault.order)
    return rows_sent


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
    broken = list(row)
    if kind == "high_null":
        broken[2] = None
    elif kind == "upside_down":
        broken[2], broken[3] = str(float(row[3]) / 2), str(float(row[2]) * 2)
    else:
        for index in _FIGURES:
            broken[index] = None if kind == "null" else kind
    return broken
