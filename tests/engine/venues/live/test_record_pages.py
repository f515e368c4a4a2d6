"""The whole of a record from answers that are cut off, whichever rows of a window a venue tells first."""

import itertools
from collections.abc import Callable, Sequence
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.platform.errors import UpstreamUnavailable
from engine.venues.account_record import AccountTrade
from engine.venues.live.record_pages import MAX_AGE_MS, MAX_PAGES, WEEK_MS, PagedReader, deduplicate, split_windows

DAY_MS = 86_400_000
NOW_MS = 1_700_000_000_000
TellsFirst = Callable[[Sequence[AccountTrade], int], Sequence[AccountTrade]]


def trade(number: int, at_ms: int, quantity: int = 1) -> AccountTrade:
    one = Decimal(1)
    return AccountTrade(
        trade_id=number,
        order_id="1",
        symbol="X",
        is_buy=True,
        quantity=Decimal(quantity),
        price=one,
        fee_usd=None,
        at_ms=at_ms,
    )


def oldest(rows: Sequence[AccountTrade], limit: int) -> Sequence[AccountTrade]:
    return rows[:limit]


def newest(rows: Sequence[AccountTrade], limit: int) -> Sequence[AccountTrade]:
    return rows[-limit:]


def newest_reversed(rows: Sequence[AccountTrade], limit: int) -> Sequence[AccountTrade]:
    return rows[-limit:][::-1]


def venue(
    rows: Sequence[AccountTrade], first: TellsFirst, limit: int
) -> Callable[[int, int | None], Sequence[AccountTrade]]:
    def ask(since_ms: int, until_ms: int | None) -> Sequence[AccountTrade]:
        inside = [row for row in rows if since_ms <= row.at_ms and (until_ms is None or row.at_ms <= until_ms)]
        return first(inside, limit)

    return ask


times = st.lists(st.integers(0, 200), max_size=60).map(sorted)


@given(times, st.sampled_from([oldest, newest, newest_reversed]), st.integers(0, 100))
def test_all_rows_are_read_once_whatever_the_venue_tells_first(
    moments: list[int], first: TellsFirst, since: int
) -> None:
    rows = [trade(number, at_ms) for number, at_ms in enumerate(moments, 1)]
    limit = max([10, *(moments.count(moment) + 1 for moment in moments)])
    found = PagedReader("trades", limit).read_between(venue(rows, first, limit), since, None)
    assert sorted(row.trade_id for row in found) == [row.trade_id for row in rows if row.at_ms >= since]


@pytest.mark.parametrize("first", [oldest, newest])
def test_more_rows_of_one_moment_than_an_answer_holds_are_said_to_be_too_many(first: TellsFirst) -> None:
    rows = [trade(number, 7) for number in range(1, 11)]
    with pytest.raises(UpstreamUnavailable, match="its record of trades is too long"):
        PagedReader("trades", 10).read_between(venue(rows, first, 10), 0, None)


def test_a_record_of_more_answers_than_are_asked_for_is_said_to_be_too_long() -> None:
    rows = [trade(number, number) for number in range(1, MAX_PAGES * 10)]
    with pytest.raises(UpstreamUnavailable, match="too long"):
        PagedReader("trades", 10).read_between(venue(rows, oldest, 10), 0, None)
    with pytest.raises(UpstreamUnavailable, match="too long"):
        PagedReader("trades", 9).read_above(lambda first: [row for row in rows if row.trade_id >= first][:9], 0)


@given(st.lists(st.integers(1, 500), unique=True, max_size=80).map(sorted), st.integers(0, 500), st.integers(3, 9))
def test_trades_above_an_id_are_read_to_the_end(ids: list[int], above: int, limit: int) -> None:
    rows = [trade(number, 1) for number in ids]
    found = PagedReader("trades", limit).read_above(
        lambda first: [r for r in rows if r.trade_id >= first][:limit], above
    )
    assert sorted({row.trade_id for row in found}) == [number for number in ids if number > above]


@pytest.mark.parametrize("limit", [3, 4, 5])
def test_both_sides_of_a_trade_of_the_account_with_itself_are_read(limit: int) -> None:
    rows = [each for number in range(1, 9) for each in (trade(number, 1), trade(number, 1))]
    found = PagedReader("trades", limit).read_above(lambda first: [r for r in rows if r.trade_id >= first][:limit], 0)
    assert {row.trade_id for row in found} == set(range(1, 9))
    odd = [trade(1, 1), trade(2, 1), *rows[4:]]
    found = PagedReader("trades", limit).read_above(lambda first: [r for r in odd if r.trade_id >= first][:limit], 0)
    assert [sum(row.trade_id == number for row in found) >= 2 for number in range(3, 9)] == [True] * 6


def test_a_venue_that_tells_the_same_trades_again_and_again_is_not_asked_for_ever() -> None:
    rows = [trade(number, 1) for number in range(1, 4)]
    with pytest.raises(UpstreamUnavailable, match="too long"):
        PagedReader("trades", 3).read_above(lambda _: rows, 0)


def test_the_oldest_window_starts_well_within_the_90_days_that_venues_answer() -> None:
    assert next(split_windows(0, NOW_MS, WEEK_MS))[0] >= NOW_MS - 89 * DAY_MS


@given(st.integers(0, 100 * DAY_MS))
def test_windows_follow_each_other_without_a_gap_and_none_is_longer_than_a_week(age_ms: int) -> None:
    told = list(split_windows(NOW_MS - age_ms, NOW_MS, WEEK_MS))
    assert told[0][0] == NOW_MS - min(age_ms, MAX_AGE_MS)
    for (start_ms, end_ms), (next_ms, _) in itertools.pairwise(told):
        assert end_ms is not None
        assert next_ms == end_ms + 1
        assert end_ms - start_ms < WEEK_MS
    assert told[-1][1] is None
    assert 0 <= NOW_MS - told[-1][0] < WEEK_MS


def test_a_time_that_the_venue_has_not_reached_yet_is_one_window() -> None:
    assert (
        list(split_windows(NOW_MS + 5, NOW_MS, WEEK_MS))
        == list(split_windows(NOW_MS + 5, NOW_MS, None))
        == [(NOW_MS + 5, None)]
    )


def test_two_rows_of_one_key_are_one_where_they_agree_and_an_error_where_they_do_not() -> None:
    first, second = trade(1, 5), trade(2, 3)
    assert deduplicate([first, second, first], lambda row: row.trade_id) == [second, first]
    with pytest.raises(ValueError, match="two different rows"):
        deduplicate([first, trade(1, 5, quantity=2)], lambda row: row.trade_id)
