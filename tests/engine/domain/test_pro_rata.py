"""A quantity shared in proportion to what is held: whole units, nothing lost, nobody a unit beyond its share."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from engine.domain.decimals import total
from engine.domain.pro_rata import find_unit, split_pro_rata

LOTS = st.integers(1, 10_000)


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


def test_quantities_that_are_no_lots_are_shared_in_their_own_last_place() -> None:
    assert find_unit([Decimal("0.0015"), Decimal(2)], Decimal("0.001")) == Decimal("0.0001")
    assert find_unit([Decimal(20), Decimal(30)], None) == Decimal(10)
    assert find_unit([Decimal("1E+3")], Decimal(7)) == Decimal(1000)
    assert find_unit([Decimal(0), Decimal(20)], None) == Decimal(1)


def test_quantities_of_forty_digits_are_shared_to_the_last_one() -> None:
    held = [Decimal("12345678901234567890.12345678901234567891"), Decimal("1.00000000000000000001")]
    unit = find_unit(held, None)
    assert unit == Decimal("1E-20")
    assert split_pro_rata(total(held), held, unit) == held
