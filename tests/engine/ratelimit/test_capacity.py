"""What limits can carry: need, limit and what is left to each, against the plainest simulation of fair shares."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.ratelimit.capacity import Demand, RequestTokens, compute_capacity
from engine.ratelimit.scheduler import PermitLimits

TOKENS = RequestTokens(reserved=1_000, used=1_000)


def limits(**values: int) -> PermitLimits:
    return PermitLimits(concurrency=16, **values)


def test_the_free_tier_carries_22_strategies_by_the_minute_and_half_a_one_by_the_day() -> None:
    by_minute = compute_capacity([Demand(cadence_s=45, strategies=22)], limits(rpm=30), TOKENS)
    assert by_minute.need_rpm == pytest.approx(29.33, abs=0.01)
    assert not by_minute.is_insufficient
    one_more = compute_capacity([Demand(cadence_s=45, strategies=23)], limits(rpm=30), TOKENS)
    assert one_more.limited_by == "rpm"
    assert one_more.effective_cadence_s == pytest.approx(46.0)
    by_day = compute_capacity([Demand(cadence_s=45, strategies=1)], limits(rpm=30, rpd=1_000), TOKENS)
    assert by_day.limited_by == "rpd"
    assert by_day.effective_cadence_s == pytest.approx(86.4)


def test_the_tightest_limit_counts_tokens_by_what_requests_use() -> None:
    found = compute_capacity(
        [Demand(cadence_s=45, strategies=22)], limits(rpm=30, tpm=8_000), RequestTokens(reserved=800, used=800)
    )
    assert (found.limited_by, found.limit_rpm) == ("tpm", 10.0)
    assert found.effective_cadence_s == pytest.approx(132.0)


def test_the_last_request_of_a_minute_must_find_room_for_all_that_it_reserves() -> None:
    wants = [Demand(cadence_s=15, strategies=4)]
    by_minute = compute_capacity(wants, limits(tpm=8_000), RequestTokens(reserved=7_000, used=1_000))
    assert (by_minute.limited_by, by_minute.limit_rpm) == ("tpm", 2.0)
    beyond = compute_capacity(wants, limits(tpm=8_000), RequestTokens(reserved=12_000, used=1_400))
    assert beyond.limit_rpm == 1.0  # it goes alone
    by_day = compute_capacity(wants, limits(tpd=200_000), RequestTokens(reserved=12_000, used=1_400))
    assert by_day.limit_rpm == pytest.approx((1 + 188_000 / 1_400) / 1_440)


def test_who_wants_little_keeps_its_cadence() -> None:
    found = compute_capacity(
        [Demand(cadence_s=600, strategies=10), Demand(cadence_s=10, strategies=10)], limits(rpm=31), TOKENS
    )
    assert found.effective_cadence_s == pytest.approx(20.0)  # 10 times 0.1 are gone, 30 are left to ten


def test_without_limits_or_strategies_there_is_nothing_short() -> None:
    assert compute_capacity([], limits(rpm=1), TOKENS).need_rpm == 0
    found = compute_capacity([Demand(cadence_s=1, strategies=1_000)], limits(), TOKENS)
    assert (found.limit_rpm, found.limited_by, found.is_insufficient) == (None, None, False)


@given(
    st.lists(st.builds(Demand, cadence_s=st.floats(1, 1e4), strategies=st.integers(1, 50)), max_size=8),
    st.integers(1, 2_000),
)
def test_the_shares_fill_the_limit_and_nobody_gets_more_than_wanted(wants: list[Demand], rpm: int) -> None:
    found = compute_capacity(wants, limits(rpm=rpm), TOKENS)
    if found.effective_cadence_s is None:
        assert found.need_rpm <= rpm
        return
    share = 60 / found.effective_cadence_s
    assert sum(want.strategies * min(60 / want.cadence_s, share) for want in wants) == pytest.approx(rpm)
