"""How many lines a flood costs, and that every one of them is told in the end, as a model with time passed in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_server.http.refusal_log import (
    MAX_SOURCES,
    SOURCE_BURST,
    SOURCE_REFILL_S,
    TOTAL_BURST,
    TOTAL_REFILL_S,
    LogRateLimiter,
)

USERS = "fghij"
STEPS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.0, 0.0, 0.5, 5.0, 20.0, 500.0]), st.sampled_from("abcdefghij"), st.booleans()),
    max_size=300,
)


@given(STEPS)
def test_there_are_never_more_lines_than_that_and_none_is_forgotten(steps: list[tuple[float, str, bool]]) -> None:
    limit, now, told = LogRateLimiter(), 1000.0, 0
    lines: list[tuple[float, str]] = []
    for after_s, address, is_quiet_over in steps:
        now += after_s
        suppressed = limit.allow(address, now, is_user=address in USERS)
        if suppressed is not None:
            lines.append((now, address))
            told += 1 + suppressed
        if is_quiet_over and (unreported := limit.take_unreported()) is not None:
            told += unreported.suppressed
    unreported = limit.take_unreported()
    assert told + (unreported.suppressed if unreported else 0) == len(steps)
    assert limit.take_unreported() is None
    kinds = [(kind, TOTAL_BURST, TOTAL_REFILL_S) for kind in ("abcde", USERS)]
    for of, most, every_s in [*kinds, *((each, SOURCE_BURST, SOURCE_REFILL_S) for each in "abcj")]:
        times = [at for at, address in lines if address in of]
        for first, begin in enumerate(times):
            for count, end in enumerate(times[first:], 1):
                assert count <= most + (end - begin) / every_s + 1e-6


def test_the_next_line_of_an_address_tells_how_many_of_it_were_left_out() -> None:
    limit = LogRateLimiter()
    assert [limit.allow("a", 0.0) for _ in range(SOURCE_BURST + 7)] == [0] * SOURCE_BURST + [None] * 7
    assert limit.allow("b", 0.0) == 0
    assert limit.allow("a", SOURCE_REFILL_S) == 7
    assert limit.allow("a", 3 * SOURCE_REFILL_S) == 0


def test_many_addresses_cost_no_more_memory_and_their_counts_are_kept() -> None:
    limit = LogRateLimiter()
    asked = [limit.allow(f"192.0.2.{n % 256}/{n}", 0.0) for n in range(10 * MAX_SOURCES)]
    assert sum(each is not None for each in asked) == TOTAL_BURST
    unreported = limit.take_unreported()
    assert unreported is not None
    assert (unreported.suppressed, unreported.source) == (len(asked) - TOTAL_BURST, None)


@pytest.mark.parametrize(("others", "then"), [(MAX_SOURCES - 1, None), (MAX_SOURCES, 0)])
def test_so_many_addresses_are_remembered_and_no_more(others: int, then: int | None) -> None:
    limit = LogRateLimiter()
    assert [limit.allow("a", 0.0) for _ in range(SOURCE_BURST + 1)][-1] is None
    for number in range(others):
        limit.allow(f"192.0.2.{number}", 0.0)
    assert limit.allow("a", TOTAL_REFILL_S) == then  # one line for all again, of an address that is known half of one


def test_the_flood_of_many_addresses_leaves_users_their_lines_and_the_other_way_round() -> None:
    for is_user in (False, True):
        limit = LogRateLimiter()
        flood = [limit.allow(f"source {n % 10}", 0.0, is_user=is_user) for n in range(10 * SOURCE_BURST)]
        assert sum(each is not None for each in flood) == TOTAL_BURST
        assert limit.allow("source 0", 0.0, is_user=not is_user) == 0


def test_a_clock_that_stands_still_or_goes_back_gives_no_line_more() -> None:
    limit = LogRateLimiter()
    assert sum(limit.allow("a", now) is not None for now in (5.0, 4.0, 3.0, 5.0, 1.0, 5.0, 0.0, 5.0)) == SOURCE_BURST
