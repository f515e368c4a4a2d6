"""How many lines a flood costs, and that every one of them is told in the end, as a model with time passed in."""

from hypothesis import given
from hypothesis import strategies as st

from webhook_server.line_limit import (
    AT_ONCE,
    EVERY_S,
    MOST_REMEMBERED,
    OF_ONE_AT_ONCE,
    OF_ONE_EVERY_S,
    LineLimit,
)

STEPS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.0, 0.0, 0.5, 5.0, 20.0, 500.0]), st.sampled_from("abcdefghij"), st.booleans()),
    max_size=300,
)


@given(STEPS)
def test_there_are_never_more_lines_than_that_and_none_is_forgotten(steps: list[tuple[float, str, bool]]) -> None:
    limit, now, told = LineLimit(), 1000.0, 0
    lines: list[tuple[float, str]] = []
    for after_s, address, is_quiet_over in steps:
        now += after_s
        suppressed = limit.ask(address, now)
        if suppressed is not None:
            lines.append((now, address))
            told += 1 + suppressed
        if is_quiet_over and (untold := limit.untold()) is not None:
            told += untold.suppressed
    untold = limit.untold()
    assert told + (untold.suppressed if untold else 0) == len(steps)
    assert limit.untold() is None
    for whose, most, every_s in [("", AT_ONCE, EVERY_S), *((a, OF_ONE_AT_ONCE, OF_ONE_EVERY_S) for a in "abcj")]:
        times = [at for at, address in lines if whose in address]
        for first, begin in enumerate(times):
            for count, end in enumerate(times[first:], 1):
                assert count <= most + (end - begin) / every_s + 1e-6


def test_the_next_line_of_an_address_tells_how_many_of_it_were_left_out() -> None:
    limit = LineLimit()
    assert [limit.ask("a", 0.0) for _ in range(OF_ONE_AT_ONCE + 7)] == [0] * OF_ONE_AT_ONCE + [None] * 7
    assert limit.ask("b", 0.0) == 0
    assert limit.ask("a", OF_ONE_EVERY_S) == 7
    assert limit.ask("a", 3 * OF_ONE_EVERY_S) == 0


def test_many_addresses_cost_no_more_memory_and_their_counts_are_kept() -> None:
    limit = LineLimit()
    asked = [limit.ask(f"192.0.2.{n % 256}/{n}", 0.0) for n in range(10 * MOST_REMEMBERED)]
    assert len(limit) == MOST_REMEMBERED
    assert sum(each is not None for each in asked) == AT_ONCE
    untold = limit.untold()
    assert untold is not None
    assert (untold.suppressed, untold.source) == (len(asked) - AT_ONCE, None)


def test_a_clock_that_stands_still_or_goes_back_gives_no_line_more() -> None:
    limit = LineLimit()
    assert sum(limit.ask("a", now) is not None for now in (5.0, 4.0, 3.0, 5.0, 1.0, 5.0, 0.0, 5.0)) == OF_ONE_AT_ONCE
