"""The rate limit of entries: each user has a budget of its own."""

from uuid import uuid4

import pytest

from webhook_server.admission.user_rate_limiter import MAX_USERS, UserRateLimiter


def test_the_limiter_gives_bursts_and_then_its_rate() -> None:
    limiter, user, now = UserRateLimiter(10), uuid4(), 100.0
    assert [limiter.acquire(user, now) for _ in range(20)] == [0.0] * 20
    assert limiter.acquire(user, now) == pytest.approx(0.1)
    assert limiter.acquire(user, now + 0.11) == 0
    assert limiter.acquire(user, now + 0.11) > 0
    assert limiter.acquire(uuid4(), now) == 0


def test_a_clock_that_goes_back_gives_no_tokens() -> None:
    limiter, user, now = UserRateLimiter(10), uuid4(), 100.0
    assert [limiter.acquire(user, now) for _ in range(20)] == [0.0] * 20
    assert limiter.acquire(user, now - 50) > 0
    assert limiter.acquire(user, now) > 0


def test_a_rate_below_one_a_second_still_allows_one_entry() -> None:
    limiter, user = UserRateLimiter(0.1), uuid4()
    assert limiter.acquire(user, 0.0) == 0
    assert limiter.acquire(user, 0.0) == pytest.approx(10)


def test_users_beyond_the_bound_are_forgotten_from_the_oldest() -> None:
    limiter, first = UserRateLimiter(10), uuid4()
    assert [limiter.acquire(first, 0.0) for _ in range(20)] == [0.0] * 20
    for _ in range(MAX_USERS):
        limiter.acquire(uuid4(), 0.0)
    assert limiter.acquire(first, 0.0) == 0
