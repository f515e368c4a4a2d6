"""When payments of funding are looked for: once they are due, until they are shown, and now and then anyway."""

from decimal import Decimal
from typing import Any

import pytest

from engine.venues.market_data.funding import FundingState
from webhook_server.background.funding_schedule import (
    EVERY_ROUND_UNTIL,
    MAX_ROUNDS,
    SWEEP_EVERY_S,
    FundingCalendar,
    FundingResult,
    FundingSchedule,
)


def state(at_ms: int, next_ms: int, rate: str | None = "0.0001") -> FundingState:
    return FundingState(rate=None if rate is None else Decimal(rate), next_ms=next_ms, at_ms=at_ms)


def test_a_payment_has_become_due_once_its_time_has_passed_and_never_at_a_rate_of_zero() -> None:
    calendar = FundingCalendar()
    told: list[Any] = [calendar.pop_due(state(*each)) for each in ((1, 10), (9, 10), (12, 20), (15, 20), (45, 50))]
    assert told == [None, None, 10, None, 20]
    assert [calendar.pop_due(state(51, 60, "0")), calendar.pop_due(state(61, 70, "0"))] == [50, None]
    assert calendar.pop_due(state(71, 80)) == 70


def test_a_payment_that_is_not_shown_is_looked_for_again_and_not_for_ever() -> None:
    looks, asked = FundingSchedule(), 0
    assert looks.is_due(0.0, {"X"})
    looks.mark_read(0.0, {"X"}, FundingResult({}))
    assert not looks.is_due(1.0, {"X"})
    assert looks.is_due(1.0, {"X", "Y"})
    looks.expect({"X": 10}, {"X"})
    for _ in range(100):
        asked += looks.is_due(1.0, {"X"})
        looks.mark_read(1.0, {"X"}, FundingResult({"X": 9}))
        looks.expect({}, {"X"})
    assert 8 < asked < MAX_ROUNDS
    assert looks.is_due(1.0 + SWEEP_EVERY_S, {"X"})
    looks.expect({"X": 10}, {"X"})
    looks.mark_read(1.0, {"X"}, FundingResult({"X": 10}))
    assert not looks.is_due(2.0, {"X"})
    looks.mark_read(1.0, {"X"}, FundingResult({"X": 10}, is_complete=False))
    assert looks.is_due(2.0, {"X"})


def read_at(now: float, *symbols: str) -> FundingSchedule:
    """Everything was read and booked at `now`."""
    schedule = FundingSchedule()
    schedule.mark_read(now, symbols, FundingResult({}))
    return schedule


def test_a_payment_is_told_once_however_often_the_venue_says_the_same() -> None:
    calendar = FundingCalendar()
    told = [calendar.pop_due(state(*each)) for each in ((5, 10), (10, 20), (11, 20), (19, 20))]
    assert told == [None, 10, None, None]


def test_a_rate_that_is_not_told_is_no_rate_of_zero() -> None:
    calendar = FundingCalendar()
    assert [calendar.pop_due(state(1, 10, None)), calendar.pop_due(state(11, 20, None))] == [None, 10]


def test_one_zero_rate_of_two_hides_no_payment() -> None:
    """The rate that is told may be of the payment that comes next."""
    calendar = FundingCalendar()
    told = [calendar.pop_due(state(*each)) for each in ((1, 10, "0.1"), (11, 20, "0"), (21, 30, "0.1"))]
    assert told == [None, 10, 20]


def test_without_a_reason_a_look_comes_exactly_when_the_sweep_is_due() -> None:
    schedule = read_at(100.0, "X")
    assert not schedule.is_due(100.0 + SWEEP_EVERY_S - 0.001, {"X"})
    assert schedule.is_due(100.0 + SWEEP_EVERY_S, {"X"})


def test_a_symbol_that_is_held_no_more_is_no_reason_to_look() -> None:
    assert not read_at(0.0, "X", "Y").is_due(1.0, {"X"})


def test_an_account_of_which_nothing_is_held_rests_after_a_failure_and_one_that_holds_does_not() -> None:
    schedule = FundingSchedule()
    schedule.mark_failed(0.0)
    assert schedule.is_due(1.0, {"X"}, is_held=True)
    assert not schedule.is_due(SWEEP_EVERY_S - 0.001, {"X"}, is_held=False)
    assert schedule.is_due(SWEEP_EVERY_S, {"X"}, is_held=False)
    schedule.mark_read(SWEEP_EVERY_S, {"X"}, FundingResult({}, is_complete=False))
    assert schedule.is_due(SWEEP_EVERY_S, {"X"}, is_held=False)


def test_a_due_payment_is_looked_for_in_every_round_then_in_every_second_one_and_then_left_to_the_sweep() -> None:
    schedule = read_at(0.0, "X")
    due_rounds = []
    for number in range(MAX_ROUNDS + 10):
        schedule.expect({"X": 10} if number == 0 else {}, {"X"})
        if schedule.is_due(1.0, {"X"}):
            due_rounds.append(number)
    assert due_rounds == [*range(EVERY_ROUND_UNTIL), *range(EVERY_ROUND_UNTIL, MAX_ROUNDS + 1, 2)]


def test_a_payment_of_another_account_is_no_reason_to_look() -> None:
    schedule = read_at(0.0, "X")
    schedule.expect({"Y": 10}, {"X"})
    assert not schedule.is_due(1.0, {"X"})


@pytest.mark.parametrize(("newest_ms", "is_expected"), [(9, True), (10, False), (11, False)])
def test_a_payment_is_seen_when_the_newest_is_no_older(newest_ms: int, *, is_expected: bool) -> None:
    schedule = read_at(0.0, "X", "Y")
    schedule.expect({"X": 10, "Y": 10}, {"X", "Y"})
    schedule.mark_read(1.0, {"X", "Y"}, FundingResult({"X": newest_ms, "Y": 10}))
    assert schedule.expected_payments == ({"X": 10} if is_expected else {})
    assert schedule.is_due(1.0, {"X", "Y"}) is is_expected


def test_a_later_payment_takes_the_place_of_one_that_was_never_shown_and_starts_the_rounds_anew() -> None:
    schedule = read_at(0.0, "X")
    schedule.expect({"X": 10}, {"X"})
    for _ in range(EVERY_ROUND_UNTIL + 1):
        schedule.expect({}, {"X"})
    assert not schedule.is_due(1.0, {"X"})
    schedule.expect({"X": 20}, {"X"})
    assert schedule.is_due(1.0, {"X"})
    assert schedule.expected_payments == {"X": 20}
