"""Waits that double and are spread at random."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.platform.backoff import jittered_backoff_s


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_waits_grow_and_stay_bounded(failures: int, random: float) -> None:
    wait_s = jittered_backoff_s(failures, 0.1, 30.0, random)
    assert 0.05 <= wait_s <= jittered_backoff_s(failures + 1, 0.1, 30.0, random) <= 30.0


@pytest.mark.parametrize(("failures", "longest_s"), [(1, 0.5), (2, 1.0), (3, 2.0), (6, 15.0), (60, 15.0)])
def test_jitter_takes_off_up_to_half(failures: int, longest_s: float) -> None:
    assert jittered_backoff_s(failures, 0.5, 15.0, 0.0) == longest_s / 2
    assert jittered_backoff_s(failures, 0.5, 15.0, 1.0) == longest_s
