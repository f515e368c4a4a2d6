"""Whatever rows a venue tells, what is computed from is contiguous, ends with a real candle and changes none."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.market import Candle
from engine.venues.market_data.candle_repair import MIN_REAL_SHARE, repair_candles

MINUTE = 60_000
START_MS = 1_700_000_040_000
NOW_MS = START_MS + 1_000 * MINUTE
Row = tuple[Any, ...]


def row(index: int, close: float = 11.0, volume: float = 1.0, **more: int) -> Row:
    """The candle of a minute, in which the price went from 10 to `close`."""
    return (START_MS + index * MINUTE + more.get("late_ms", 0), 10.0, max(10.0, close), min(10.0, close), close, volume)


def whole(indices: range, limit: int = 100) -> tuple[Candle, ...]:
    return tuple(Candle(*row(index)) for index in indices)[-limit:]


prices = st.floats(0.5, 2.0)
good_rows = st.builds(row, st.integers(0, 300), prices, st.floats(0, 5), late_ms=st.integers(-500, 500))
bad_rows = st.tuples(
    st.one_of(st.none(), st.integers(-(10**15), 10**15)),
    *[st.one_of(st.none(), st.floats(), st.just(0.0), prices)] * 5,
)


@given(st.lists(good_rows, max_size=250), st.randoms(use_true_random=False))
def test_any_rows_become_contiguous_candles_that_end_with_a_real_one(rows: list[Row], dice: random.Random) -> None:
    found = repair_candles(rows, MINUTE, 100, NOW_MS)
    assert found.fault is None or not found.candles
    opens = [candle.open_time_ms for candle in found.candles]
    assert opens == [opens[0] + step * MINUTE for step in range(len(opens))] if opens else not found.filled
    assert len(opens) <= 100
    assert found.filled <= set(opens[:-1])
    assert len(found.filled) <= (1 - MIN_REAL_SHARE) * len(opens)
    told = {each[1:] for each in rows}
    for before, candle in zip((None, *found.candles), found.candles, strict=False):
        if candle.open_time_ms not in found.filled:
            assert candle[1:] in told
        elif before is not None:
            assert candle[1:] == (before.close, before.close, before.close, before.close, 0.0)
    dice.shuffle(rows)
    assert repair_candles(rows, MINUTE, 100, NOW_MS) == found


@given(st.lists(good_rows, max_size=250))
def test_what_was_repaired_needs_no_repair(rows: list[Row]) -> None:
    found = repair_candles(rows, MINUTE, 100, NOW_MS)
    assert repair_candles(found.candles, MINUTE, 100, NOW_MS).candles == found.candles


@given(st.lists(st.one_of(good_rows, bad_rows), max_size=60))
def test_nonsense_among_the_rows_is_left_out_or_a_fault(rows: list[Row]) -> None:
    found = repair_candles(rows, MINUTE, 100, NOW_MS)
    assert (found.fault is None) or found.candles == ()
    for candle in found.candles:
        assert candle.low <= min(candle.open, candle.close) <= max(candle.open, candle.close) <= candle.high
        assert candle.low > 0


@given(st.sets(st.integers(1, 118), max_size=30))
def test_holes_among_enough_candles_are_all_filled(missing: set[int]) -> None:
    found = repair_candles([row(i) for i in range(120) if i not in missing], MINUTE, 100, NOW_MS)
    assert [candle.open_time_ms for candle in found.candles] == [START_MS + i * MINUTE for i in range(20, 120)]
    assert found.filled == {START_MS + i * MINUTE for i in missing if i >= 20}


def test_of_two_rows_for_one_minute_the_later_state_counts_in_any_order() -> None:
    half, full, wider = row(1, 10.5, 0.5), row(1, 11.0, 1.0), row(1, 12.0, 1.0)
    for rows in ([half, full], [full, half]):
        assert repair_candles(rows, MINUTE, 100, NOW_MS).candles == (Candle(*full),)
    for rows in ([wider, full], [full, wider]):
        assert repair_candles(rows, MINUTE, 100, NOW_MS).candles == (Candle(*wider),)


def test_a_forming_candle_is_none_however_its_time_is_told() -> None:
    now_ms = START_MS + 3 * MINUTE
    rows = [row(0), row(1), row(2, late_ms=5), row(3, late_ms=-5)]
    assert repair_candles(rows, MINUTE, 100, now_ms).candles == whole(range(3))


def test_a_venue_whose_days_begin_elsewhere_keeps_its_own_times() -> None:
    rows = [row(index, late_ms=20_000) for index in (0, 1, 3)]
    found = repair_candles(rows, MINUTE, 100, NOW_MS)
    assert [candle.open_time_ms for candle in found.candles] == [START_MS + i * MINUTE + 20_000 for i in range(4)]


@pytest.mark.parametrize("count", [1, 10, 49])
def test_rows_beside_most_others_are_left_out(count: int) -> None:
    rows = [row(index) for index in range(100)]
    beside = [row(50 + index, late_ms=20_000) for index in range(count)]
    assert repair_candles([*rows, *beside], MINUTE, 100, NOW_MS).candles == whole(range(100))


@pytest.mark.parametrize("bad", ["0", "nan", "low", "beside"])
@pytest.mark.parametrize("count", [1, 7, 8, 60, 73])
def test_rows_that_contradict_themselves_are_holes_however_many(bad: str, count: int) -> None:
    def broken(index: int) -> Row:
        good = row(index)
        values = {"0": (0.0,) * 4, "nan": (float("nan"),) * 4, "low": (*good[1:3], 99.0, good[4])}
        return row(index, late_ms=20_000) if bad == "beside" else (good[0], *values[bad], 1.0)

    told = [broken(index) if 20 < index <= 20 + count else row(index) for index in range(120)]
    if bad == "beside" and count > 59:
        pytest.skip("they would be the rule")
    found = repair_candles(told, MINUTE, 100, NOW_MS)
    assert (found.fault, len(found.candles)) == (None, 100)
    assert found.filled == {START_MS + index * MINUTE for index in range(21, 21 + count)}


def test_a_feed_of_nothing_but_contradictions_is_a_fault() -> None:
    found = repair_candles([(*row(index)[:3], 99.0, 11.0, 1.0) for index in range(120)], MINUTE, 100, NOW_MS)
    assert found.candles == ()
    assert "the low not the lowest" in str(found.fault)


@pytest.mark.parametrize(
    ("told", "count", "filled"),
    [
        ([*range(40), 100], 100, 60),  # an hour
        ([*range(40), 130], 1, 0),  # too long for anything to be known of it
        ([*range(40), *range(110, 120)], 100, 70),
        ([*range(20), *range(100, 120)], 20, 0),
        ([0, *range(50, 100)], 100, 49),
        ([5], 1, 0),
    ],
)
def test_a_long_hole_is_filled_while_a_quarter_of_the_candles_is_real(told: list[int], count: int, filled: int) -> None:
    found = repair_candles([row(index) for index in told], MINUTE, 100, NOW_MS)
    assert (len(found.candles), len(found.filled)) == (count, filled)
    assert found.candles[-1].open_time_ms == START_MS + told[-1] * MINUTE


def test_a_time_of_long_ago_costs_neither_memory_nor_time() -> None:
    rows = [(1, 10.0, 11.0, 10.0, 11.0, 1.0), *[row(index) for index in range(120)]]
    assert repair_candles(rows, MINUTE, 100, NOW_MS).candles == whole(range(20, 120))
    assert repair_candles([], MINUTE, 100, NOW_MS) == ((), frozenset(), None)
