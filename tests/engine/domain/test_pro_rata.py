"""A quantity shared over its holders: whole units, nothing lost, nobody more than he holds."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.decimals import total
from engine.domain.pro_rata import find_unit, split_pro_rata

LOTS = st.integers(1, 10_000)


def figures(*texts: str) -> list[Decimal]:
    return [Decimal(text) for text in texts]


@pytest.mark.parametrize(
    ("quantity", "held", "unit", "shares"),
    [
        ("3", ("1", "2", "3"), "1", ("1", "1", "1")),  # 0.5, 1 and 1.5: the first remainder of two equal ones
        ("2", ("1", "1", "1"), "1", ("1", "1", "0")),
        ("6", ("1", "2", "3"), "1", ("1", "2", "3")),
        ("0", ("1", "2"), "0.001", ("0", "0")),
        ("0.005", ("0.003", "0.007"), "0.001", ("0.002", "0.003")),
    ],
)
def test_shares_are_by_what_is_held_and_the_largest_remainders_get_a_unit_more(
    quantity: str, held: tuple[str, ...], unit: str, shares: tuple[str, ...]
) -> None:
    assert split_pro_rata(Decimal(quantity), figures(*held), Decimal(unit)) == figures(*shares)


def test_where_nobody_holds_anything_nobody_gets_anything() -> None:
    assert split_pro_rata(Decimal(0), figures("0", "0"), Decimal(1)) == [0, 0]
    assert split_pro_rata(Decimal(0), [], Decimal(1)) == []


@given(
    held=st.lists(st.integers(0, 10**9), min_size=1, max_size=8).filter(any),
    percent=st.integers(0, 100),
    exponent=st.integers(-12, 3),
)
def test_the_shares_are_the_whole_in_units_and_no_more_than_is_held(
    held: list[int], percent: int, exponent: int
) -> None:
    unit = Decimal(1).scaleb(exponent)
    holders = [unit * each for each in held]
    quantity = unit * (sum(held) * percent // 100)
    shares = split_pro_rata(quantity, holders, unit)
    assert total(shares) == quantity
    for share, holder in zip(shares, holders, strict=True):
        assert 0 <= share <= holder
        assert share % unit == 0
        assert abs(share - quantity * holder / total(holders)) < unit


@pytest.mark.parametrize(
    ("quantities", "lot", "unit"),
    [
        (("0.003", "0.5"), "0.001", "0.001"),
        (("0.0035", "0.5"), "0.001", "0.0001"),  # no multiple of the lot: the last place that is used
        (("1.50", "20"), None, "0.1"),
        (("100", "20"), None, "10"),
        (("0", "100"), None, "1"),
        (("1E-8", "3"), None, "0.00000001"),
    ],
)
def test_the_unit_is_the_lot_or_the_last_decimal_place_that_a_quantity_uses(
    quantities: tuple[str, ...], lot: str | None, unit: str
) -> None:
    assert find_unit(figures(*quantities), None if lot is None else Decimal(lot)) == Decimal(unit)


@given(st.lists(LOTS, min_size=1, max_size=6), st.data())
def test_shares_add_up_and_nobody_gives_more_than_a_lot_beyond_the_exact_share(
    lots: list[int], data: st.DataObject
) -> None:
    quantity = data.draw(st.integers(0, sum(lots)))
    parts = split_pro_rata(Decimal(quantity), [Decimal(each) for each in lots], Decimal(1))
    assert sum(parts) == quantity
    for part, held in zip(parts, lots, strict=True):
        assert 0 <= part <= held
        assert abs(part * sum(lots) - held * quantity) < sum(lots)


def test_quantities_of_forty_digits_are_shared_to_the_last_one() -> None:
    held = [Decimal("12345678901234567890.12345678901234567891"), Decimal("1.00000000000000000001")]
    unit = find_unit(held, None)
    assert unit == Decimal("1E-20")
    assert split_pro_rata(total(held), held, unit) == held
