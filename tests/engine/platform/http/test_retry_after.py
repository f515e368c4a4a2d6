"""Retry-After and durations in every form that servers send, and in some that they should not."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.platform.http.retry_after import MAX_WAIT_S, duration_s, retry_after_s

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2", 2.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("7.5", 7.5),
        ("2m", 120.0),
        ("7.66s", 7.66),
        ("2m59.56s", 179.56),
        ("120ms", 0.12),
        ("Sat, 21 Nov 2026 12:01:30 GMT", 90.0),
        ("Sat, 21 Nov 2026 12:01:30", 90.0),
        ("Saturday, 21-Nov-26 12:00:05 GMT", 5.0),
        ("Sat, 21 Nov 2026 11:59:00 GMT", 0.0),
        ("Sun, 21 Nov 2027 12:00:00 GMT", MAX_WAIT_S),
        ("999999999999", MAX_WAIT_S),
        (None, None),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("1e9", None),
        ("\uff12", None),
        ("9" * 5_000, None),
        ("5 apples", None),
    ],
)
def test_what_a_server_wishes_is_understood_or_ignored(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, NOW) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1h2m3s", 3_723.0),
        ("1d", 86_400.0),
        ("0s", 0.0),
        ("12", None),
        ("m", None),
        ("1s garbage", None),
        ("1.2.3s", None),
    ],
)
def test_durations_are_sums_of_their_parts(value: str, seconds: float | None) -> None:
    assert duration_s(value) == (None if seconds is None else pytest.approx(seconds))


@given(st.text())
def test_no_text_raises(value: str) -> None:
    wish = retry_after_s(value, NOW)
    assert wish is None or 0 <= wish <= MAX_WAIT_S
