"""How long a symbol rests after entries that could not be protected."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.risk.entry_limits import check_entry
from engine.risk.limit_breach import LimitBreach
from engine.risk.symbol_pause import calculate_pause, calculate_pause_end
from tests.support.factories.entry_values import NOW, order, portfolio

MINUTES = [(0, 0), (1, 5), (2, 10), (3, 20), (4, 40), (5, 80), (6, 160), (7, 240), (8, 240), (10**9, 240)]


@pytest.mark.parametrize(("undone", "minutes"), MINUTES)
def test_a_rest_is_five_minutes_and_doubles_up_to_four_hours(undone: int, minutes: int) -> None:
    assert calculate_pause(undone) == timedelta(minutes=minutes)


@given(st.integers(min_value=0, max_value=10**6))
def test_a_rest_never_gets_shorter(undone: int) -> None:
    assert calculate_pause(undone) <= calculate_pause(undone + 1) <= timedelta(hours=4)


def test_a_rest_begins_with_the_last_entry_that_was_undone() -> None:
    assert calculate_pause_end(2, NOW) == NOW + timedelta(minutes=10)
    assert calculate_pause_end(0, None) is None


@pytest.mark.parametrize(("seconds", "limit"), [(0, "resting_symbol"), (599.9, "resting_symbol"), (600, None)])
def test_an_entry_is_refused_until_the_rest_is_over_by_the_databases_clock(seconds: float, limit: str | None) -> None:
    now = NOW + timedelta(seconds=seconds)
    view = portfolio(now=now, undone_in_symbol=2, last_undone_at=NOW)
    verdict = check_entry(order(), view, None, NOW + timedelta(days=365))
    assert (verdict.limit_type.value if isinstance(verdict, LimitBreach) else None) == limit
    if isinstance(verdict, LimitBreach):
        assert (verdict.current, verdict.limit) == (now, NOW + timedelta(minutes=10))


def test_a_number_of_undone_entries_without_a_time_is_unreadable() -> None:
    verdict = check_entry(order(), portfolio(undone_in_symbol=1, last_undone_at=None), None, NOW)
    assert isinstance(verdict, LimitBreach)
    assert verdict.limit_type.value == "unreadable"
