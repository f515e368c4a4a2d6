"""The arithmetic of orders that are sent in parts: sum, lots, bounds and count."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from engine.risk.exit_quantities import MAX_PARTS, min_order_quantity, protected_quantity, split_quantity
from engine.venues.instrument import Instrument


def instrument(lot: str = "0.001", least: str = "0", most: str | None = None) -> Instrument:
    bound = None if most is None else Decimal(most)
    return Instrument(
        symbol="X", tick=Decimal("0.1"), lot=Decimal(lot), min_quantity=Decimal(least), max_quantity=bound
    )


@st.composite
def instruments(draw: st.DrawFn) -> Instrument:
    lot = Decimal(draw(st.integers(1, 50))).scaleb(draw(st.integers(-8, 2)))
    least = lot * draw(st.integers(0, 20)) + lot / 3 * draw(st.integers(0, 1))
    most = draw(st.one_of(st.none(), st.integers(1, 400)))
    bound = None if most is None else max(lot * most, least) + lot / 7 * draw(st.integers(0, 1))
    return Instrument(symbol="X", tick=Decimal(1), lot=lot, min_quantity=least, max_quantity=bound)


@given(instruments(), st.integers(1, 10_000), st.integers(0, 9))
def test_parts_are_whole_lots_within_bounds_and_leave_no_more_than_dust(
    listed: Instrument, lots: int, tenths: int
) -> None:
    quantity = listed.lot * lots + listed.lot / 10 * tenths
    parts = split_quantity(quantity, listed)
    assert len(parts) <= MAX_PARTS
    assert all(part % listed.lot == 0 for part in parts)
    assert all(min_order_quantity(listed) <= part for part in parts)
    left = quantity - sum(parts)
    assert left >= 0
    if listed.max_quantity is not None and listed.floor_to_lot(listed.max_quantity) >= min_order_quantity(listed):
        assert all(part <= listed.max_quantity for part in parts)
        is_bounded = len(parts) == MAX_PARTS
        is_narrow = listed.floor_to_lot(listed.max_quantity) < 2 * min_order_quantity(listed)
        assert left < min_order_quantity(listed) or is_bounded or is_narrow
    else:
        assert left < min_order_quantity(listed)


def test_the_last_two_share_what_would_be_too_little() -> None:
    listed = instrument(least="0.002", most="0.004")
    assert split_quantity(Decimal("0.009"), listed) == (Decimal("0.004"), Decimal("0.003"), Decimal("0.002"))


def test_less_than_the_least_is_no_order() -> None:
    assert split_quantity(Decimal("0.0019"), instrument(least="0.002")) == ()


def test_one_stop_protects_no_more_than_one_order_may_be() -> None:
    assert protected_quantity(Decimal("0.0665"), instrument(most="0.05")) == Decimal("0.05")
    assert protected_quantity(Decimal("0.0665"), instrument()) == Decimal("0.066")
