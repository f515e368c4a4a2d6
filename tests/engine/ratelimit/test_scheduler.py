"""The limiter's promise against a brute-force model: no window exceeded, whatever is asked, released or refused."""

import copy
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.ratelimit.scheduler import DAY_S, MINUTE_S, Grant, PermitLimits, PermitScheduler
from engine.ratelimit.sliding_window import SlidingWindow
from tests.support.factories.permits import asker, most_in_any_window

limits = st.builds(
    PermitLimits,
    rpm=st.none() | st.integers(1, 6),
    tpm=st.none() | st.integers(500, 2_000),
    rpd=st.none() | st.integers(1, 20),
    tpd=st.none() | st.integers(500, 6_000),
    concurrency=st.integers(1, 4),
)
steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "release", "release unsent", "die", "refuse", "wait"]),
        st.floats(0, 40),
        st.integers(1, 500),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(limits, steps)
def test_no_window_ever_holds_more_than_its_limit(limit: PermitLimits, history: list[tuple[str, float, int]]) -> None:
    permits, now, out = PermitScheduler(limit, hold_s=25), 0.0, list[Grant]()
    times, tokens, ended = list[float](), list[float](), dict[UUID, float]()
    for number, (what, wait_s, amount) in enumerate(history):
        now += wait_s
        permits.expire(now)
        if what == "ask":
            permits.enqueue(asker(number, now, amount, patience_s=50))
        elif what == "refuse":
            permits.back_off(now, amount / 10, "rpm")
        elif out and what.startswith("release"):
            grant = out.pop()
            sent = what == "release"
            permits.release(grant.permit_id, min(amount, grant.asker.tokens) if sent else None)
        before = now
        for grant in permits.grant_waiting(now):
            times.append(before)
            tokens.append(grant.asker.tokens)
            ended[grant.permit_id] = now
            out.append(grant)
        used = permits.get_usage(now)
        for name, most in (("rpm", limit.rpm), ("tpm", limit.tpm), ("rpd", limit.rpd), ("tpd", limit.tpd)):
            assert most is None or used[name] <= most
        assert used["concurrency"] <= limit.concurrency


@settings(max_examples=200, deadline=None)
@given(limits, st.lists(st.tuples(st.floats(0, 30), st.integers(1, 500)), max_size=60))
def test_what_was_granted_stays_within_the_limits_of_a_brute_force_model(
    limit: PermitLimits, arrivals: list[tuple[float, int]]
) -> None:
    permits, now = PermitScheduler(limit, hold_s=5), 0.0
    times, tokens = list[float](), list[float]()
    for number, (wait_s, amount) in enumerate(arrivals):
        now += wait_s
        permits.expire(now)
        permits.enqueue(asker(number, now, amount))
        for grant in permits.grant_waiting(now):
            times.append(now)
            tokens.append(grant.asker.tokens)
            permits.release(grant.permit_id, grant.asker.tokens)
    ones = [1.0] * len(times)
    for most, amounts, window_s in (
        (limit.rpm, ones, MINUTE_S),
        (limit.tpm, tokens, MINUTE_S),
        (limit.rpd, ones, DAY_S),
        (limit.tpd, tokens, DAY_S),
    ):
        assert most is None or most_in_any_window(times, amounts, window_s) <= most


@given(
    st.lists(st.tuples(st.floats(0, 20), st.integers(1, 9)), max_size=40),
    st.sampled_from([0.0, 5.0]),
)
def test_a_sliding_window_never_forgets_early(added: list[tuple[float, int]], grain_s: float) -> None:
    window, now, all_of_it = SlidingWindow(60, grain_s), 0.0, list[tuple[float, int]]()
    for wait_s, amount in added:
        now += wait_s
        window.add(now, amount)
        all_of_it.append((now, amount))
        exact = sum(a for at, a in all_of_it if now - at < 60)
        assert window.get_total(now) >= exact - 1e-9
        if grain_s == 0:
            assert window.get_total(now) == pytest.approx(exact)
        at = window.find_earliest_fit(now, 5, 30)
        assert copy.deepcopy(window).get_total(at + 1e-6) + 5 <= 30 + 1e-9


def test_among_equals_who_holds_a_position_goes_first() -> None:
    permits = PermitScheduler(PermitLimits(rpm=1, concurrency=1), hold_s=25)
    permits.enqueue(asker(1, 0.0))
    permits.enqueue(asker(2, 1.0, holds=True))
    assert [grant.asker.strategy_id.int for grant in permits.grant_waiting(2.0)] == [2]


def test_a_holder_does_not_go_before_those_who_had_less() -> None:
    permits = PermitScheduler(PermitLimits(rpm=1, concurrency=9), hold_s=25)
    order = []
    for turn in range(6):
        now = turn * 61.0
        permits.enqueue(asker(1, now, holds=True))
        permits.enqueue(asker(2, now))
        order += [grant.asker.strategy_id.int for grant in permits.grant_waiting(now)]
    assert order == [1, 2, 1, 2, 1, 2]


def test_an_asker_whose_deadline_passed_frees_its_place() -> None:
    permits = PermitScheduler(PermitLimits(rpm=1, concurrency=1), hold_s=25)
    permits.enqueue(asker(1, 0.0, patience_s=5))
    permits.enqueue(asker(2, 1.0))
    assert [late.strategy_id.int for late in permits.expire(6.0)] == [1]
    assert [grant.asker.strategy_id.int for grant in permits.grant_waiting(6.0)] == [2]


def test_the_permit_of_a_dead_holder_is_freed_but_stays_counted() -> None:
    permits = PermitScheduler(PermitLimits(rpm=9, concurrency=1), hold_s=25)
    permits.enqueue(asker(1, 0.0))
    (grant,) = permits.grant_waiting(0.0)
    permits.enqueue(asker(2, 1.0))
    permits.expire(24.0)
    assert permits.grant_waiting(24.0) == []
    permits.expire(26.0)
    assert len(permits.grant_waiting(26.0)) == 1
    permits.release(grant.permit_id, None)
    assert permits.get_usage(26.0)["rpm"] == 2


def test_reserved_tokens_are_settled_with_what_was_used() -> None:
    permits = PermitScheduler(PermitLimits(tpm=1_000, concurrency=9), hold_s=25)
    permits.enqueue(asker(1, 0.0, 900))
    permits.enqueue(asker(2, 0.0, 900))
    (grant,) = permits.grant_waiting(0.0)
    permits.release(grant.permit_id, 100)
    assert permits.get_usage(1.0)["tpm"] == 100
    (second,) = permits.grant_waiting(1.0)
    permits.release(second.permit_id, None)
    assert permits.get_usage(1.0) == {"rpm": 1, "tpm": 100, "rpd": 1, "tpd": 100, "concurrency": 0}


def test_announced_limits_tighten_and_never_loosen() -> None:
    permits = PermitScheduler(PermitLimits(rpm=30, tpm=5_000, concurrency=9), hold_s=25)
    permits.apply_provider_limits({"rpd": 1_000, "tpm": 8_000, "tpd": 200_000})
    assert (permits.limits.rpd, permits.limits.tpm, permits.limits.tpd) == (1_000, 5_000, 200_000)
    permits.apply_provider_limits({"rpd": 500, "tpm": 4_000})
    permits.apply_provider_limits({"rpd": 2_000, "tpm": 6_000})
    assert (permits.limits.rpd, permits.limits.tpm, permits.limits.tpd) == (2_000, 5_000, None)
    permits.apply_provider_limits({"rpd": 0, "tpm": None})
    assert (permits.limits.rpd, permits.limits.tpm) == (None, 5_000)


def test_a_refusal_holds_everybody_until_the_providers_time() -> None:
    permits = PermitScheduler(PermitLimits(rpm=30, concurrency=9), hold_s=25)
    assert permits.back_off(0.0, 120.0, "rpm")
    assert not permits.back_off(1.0, 2.0, "rpm")
    permits.enqueue(asker(1, 1.0))
    assert permits.grant_waiting(119.9) == []
    assert permits.find_next_grant_at(1.0) == 120.0
    assert len(permits.grant_waiting(120.0)) == 1


def test_a_refusal_that_tells_no_time_holds_everybody_ever_longer_until_somebody_is_served() -> None:
    permits = PermitScheduler(PermitLimits(rpm=30, concurrency=9), hold_s=25)
    held, now = [], 0.0
    for _ in range(9):
        assert permits.back_off(now, None, "busy")
        assert not permits.back_off(now, None, "busy")  # another one that was under way
        assert permits.refusal is not None
        held.append(permits.refusal.until - now)
        now = permits.refusal.until
    assert held == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    permits.on_success()
    permits.back_off(now, None, "busy")
    assert permits.refusal is not None
    assert permits.refusal.until == now + 1


def test_a_refusal_of_no_time_holds_a_moment_and_a_much_longer_one_is_news_with_its_own_words() -> None:
    permits = PermitScheduler(PermitLimits(rpm=30, concurrency=9), hold_s=25)
    assert permits.back_off(0.0, 0.0, "requests per minute")
    permits.enqueue(asker(1, 0.0))
    assert permits.grant_waiting(0.9) == []
    assert permits.back_off(0.5, 447.5, "tokens per day")
    assert permits.refusal is not None
    assert (permits.refusal.until, permits.refusal.reason) == (448.0, "tokens per day")
    assert not permits.back_off(0.6, 450.0, "tokens per day")


def test_a_request_larger_than_the_limit_is_named_as_such() -> None:
    permits = PermitScheduler(PermitLimits(tpm=1_000, concurrency=9), hold_s=25)
    assert permits.find_impossible_reason(1_000) is None
    assert (
        permits.find_impossible_reason(1_001) == "one request of up to 1001 tokens is more than the limit of 1000 (tpm)"
    )


def test_a_second_ask_of_a_strategy_takes_the_place_of_the_first() -> None:
    permits = PermitScheduler(PermitLimits(rpm=30, concurrency=9), hold_s=25)
    permits.enqueue(asker(1, 0.0))
    permits.enqueue(asker(1, 5.0))
    assert permits.measure_queue(7.0) == (1, 2.0)
    assert len(permits.grant_waiting(7.0)) == 1


def test_what_a_former_process_sent_is_counted() -> None:
    permits = PermitScheduler(PermitLimits(rpm=2, concurrency=9), hold_s=25)
    permits.restore(100.0, 10)
    permits.restore(101.0, 10)
    permits.enqueue(asker(uuid4().int, 110.0))
    assert permits.grant_waiting(110.0) == []
    assert permits.find_next_grant_at(110.0) == pytest.approx(160.4)


def test_a_request_larger_than_what_the_provider_announces_goes_alone_and_hears_it_from_the_provider() -> None:
    """An absurd header must neither stop everybody for good nor count as a fault of the rows."""
    permits = PermitScheduler(PermitLimits(rpm=30, concurrency=9), hold_s=25)
    permits.apply_provider_limits({"tpm": 1})
    assert permits.find_impossible_reason(900) is None
    permits.enqueue(asker(1, 0.0, 900))
    permits.enqueue(asker(2, 0.0, 900))
    assert [grant.asker.strategy_id.int for grant in permits.grant_waiting(0.0)] == [1]
    assert permits.grant_waiting(59.9) == []
    assert [grant.asker.strategy_id.int for grant in permits.grant_waiting(61.0)] == [2]


def test_a_process_that_ended_frees_its_place_and_its_permit_which_stays_counted() -> None:
    permits = PermitScheduler(PermitLimits(rpm=9, concurrency=1), hold_s=25)
    permits.enqueue(asker(1, 0.0))
    permits.grant_waiting(0.0)
    permits.enqueue(asker(2, 1.0))
    permits.enqueue(asker(3, 1.5))
    assert permits.release_strategy(UUID(int=2), 2.0)
    assert not permits.release_strategy(UUID(int=1), 2.0)
    assert [grant.asker.strategy_id.int for grant in permits.grant_waiting(2.0)] == [3]
    assert permits.get_usage(2.0)["rpm"] == 2


def test_what_the_successor_of_an_ended_process_has_asked_for_stays() -> None:
    permits = PermitScheduler(PermitLimits(rpm=9, concurrency=1), hold_s=25)
    permits.enqueue(asker(1, 5.0))
    assert not permits.release_strategy(UUID(int=1), 4.0)
    assert len(permits.grant_waiting(5.0)) == 1
    assert not permits.release_strategy(UUID(int=1), 4.0)
    assert permits.get_usage(5.0)["concurrency"] == 1
