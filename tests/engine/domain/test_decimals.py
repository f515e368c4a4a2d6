"""What the books carry: products to the last digit, averages to 28 digits, and no number without end."""

import random
from concurrent.futures import ThreadPoolExecutor
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain import decimals

figures = st.builds(lambda digits, places: Decimal(digits).scaleb(-places), st.integers(1, 10**28), st.integers(8, 28))


@given(one=figures, other=figures)
def test_products_and_sums_are_exact_whatever_the_threads_context_says(one: Decimal, other: Decimal) -> None:
    with localcontext(prec=5, rounding=ROUND_DOWN):
        assert Fraction(decimals.product(one, other)) == Fraction(one) * Fraction(other)
        assert Fraction(decimals.total((one, other.copy_negate(), one))) == 2 * Fraction(one) - Fraction(other)


def test_threads_that_calculate_at_once_get_exact_figures() -> None:
    def count_wrong(seed: int) -> int:
        dice = random.Random(seed)
        pairs = [(Decimal(dice.getrandbits(100)), Decimal(dice.getrandbits(90)).scaleb(-9)) for _ in range(2_000)]
        return sum(Fraction(decimals.product(*pair)) != Fraction(pair[0]) * Fraction(pair[1]) for pair in pairs)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(count_wrong, range(8))) == 0


@given(one=figures, other=figures)
def test_a_quotient_has_28_significant_digits(one: Decimal, other: Decimal) -> None:
    quotient = decimals.quotient(one, other)

    assert len(quotient.as_tuple().digits) <= 28
    true = Fraction(one) / Fraction(other)
    assert abs(Fraction(quotient) - true) <= true / 10**27 / 2


@given(value=figures, step=st.integers(-12, 3).map(lambda places: Decimal(1).scaleb(places)))
def test_whole_steps_are_never_beyond_the_value(value: Decimal, step: Decimal) -> None:
    down, up = decimals.round_to_step(value, step, ROUND_FLOOR), decimals.round_to_step(value, step, ROUND_CEILING)

    assert Fraction(down) <= Fraction(value) <= Fraction(up)
    assert Fraction(up) - Fraction(down) in {0, Fraction(step)}
    assert (Fraction(down) / Fraction(step)).denominator == 1


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("0E+30", "0"),
        ("0.000000000007", "0.000000000007"),
        ("123456789012345678.12345678901", "123456789012345678.12345678901"),
        ("1." + "3" * 60, "1." + "3" * 39),
        ("-0." + "0" * 39 + "15", "-0." + "0" * 39 + "2"),
        ("0." + "0" * 39 + "25", "0." + "0" * 39 + "2"),
    ],
)
def test_figures_are_kept_as_they_come_up_to_40_digits(value: str, kept: str) -> None:
    with localcontext(prec=5, rounding=ROUND_DOWN):
        assert decimals.round_for_books(Decimal(value)) == Decimal(kept)


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "sNaN", "1E+20", "-1E+999999", "100000000000000000000.5"])
def test_what_is_no_figure_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="no figure"):
        decimals.round_for_books(Decimal(value))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1E-11", "0.00000000001"),
        ("1E+3", "1000"),
        ("0.10", "0.1"),
        ("-2.50", "-2.5"),
        ("0E-8", "0"),
        ("-0.0", "0"),
        ("0.333333333333333333333333333333333333333", "0.333333333333333333333333333333333333333"),
        ("NaN", "NaN"),
    ],
)
def test_figures_are_written_without_exponent_and_without_idle_zeros(value: str, text: str) -> None:
    assert decimals.format_plain(Decimal(value)) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (0.00000000001, "1E-11"),
        ("12345678901234567890.12345", "12345678901234567890.12345"),
        (3, "3"),
        ("2.0", "2"),
        (1e22, "1E+22"),
        (Decimal("0.1"), "0.1"),
    ],
)
def test_numbers_of_a_venue_are_read_as_they_were_written(text: object, value: str) -> None:
    assert decimals.to_decimal(text) == Decimal(value)


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-inf", "1e999999999", "1e-999999999", "9" * 5000, "0." + "1" * 200, "x", ""]
)
def test_numbers_that_no_venue_means_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no figure"):
        decimals.to_decimal(text)
