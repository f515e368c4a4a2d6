"""What one request may take: time in all, and bytes of the answer."""

import time

import pytest

from engine.platform.http.request_budget import RequestBudget


def test_a_wait_gets_what_is_left_and_none_after_the_deadline() -> None:
    budget = RequestBudget(time.monotonic() + 60, 10)
    assert 0 < budget.remaining_s(TimeoutError) <= 60
    assert not budget.is_overdue()
    budget.reset(time.monotonic(), 10)
    assert budget.is_overdue()
    with pytest.raises(TimeoutError, match="deadline"):
        budget.remaining_s(TimeoutError)


def test_bytes_are_counted_over_all_reads_until_the_next_request() -> None:
    budget = RequestBudget(time.monotonic() + 60, 10)
    budget.count_received(10, OSError)
    assert (budget.bytes_left, budget.too_large) == (0, False)
    with pytest.raises(OSError, match="too large"):
        budget.count_received(1, OSError)
    assert budget.too_large
    budget.reset(time.monotonic() + 60, 10)
    assert (budget.bytes_left, budget.too_large) == (10, False)
