"""Values are rounded as the books keep them, numeric(20, 8)."""

from decimal import ROUND_DOWN, Decimal, localcontext

import pytest

from engine import booked


@pytest.mark.parametrize(
    ("value", "kept"), [("0.000000005", "0"), ("0.000000015", "2e-8"), ("1.123456789", "1.12345679")]
)
def test_values_are_rounded_half_even_to_8_places_whatever_the_context_says(value: str, kept: str) -> None:
    with localcontext() as context:
        context.rounding = ROUND_DOWN
        assert booked.rounded(Decimal(value)) == Decimal(kept)


def test_the_least_value_is_kept_and_the_first_beyond_the_books_is_of_12_digits_and_one() -> None:
    assert booked.rounded(booked.LEAST) == booked.LEAST
    assert len(str(booked.BEYOND - 1)) == 12
