"""The arithmetic of orders that are sent in parts: sum, lots, bounds and count."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.risk.exit_quantities import (
    MAX_PARTS,
    describe_too_little,
    find_dust,
    find_netted_dust,
    max_order_quantity,
    min_order_quantity,
    protected_quantity,
    split_quantity,
)
from engine.venues.instrument import Instrument
from engine.venues.orders import build_part_leg


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


def test_the_bounds_of_an_order_are_in_whole_lots() -> None:
    assert min_order_quantity(instrument()) == Decimal("0.001")
    assert min_order_quantity(instrument(least="0.0011")) == Decimal("0.002")
    assert max_order_quantity(instrument()) is None
    assert max_order_quantity(instrument(most="0.0509")) == Decimal("0.050")


def test_a_most_below_the_least_is_no_bound_since_nothing_could_satisfy_it() -> None:
    listed = instrument(least="0.002", most="0.0019")
    assert max_order_quantity(listed) is None
    assert split_quantity(Decimal(1), listed) == (Decimal(1),)


def test_an_exit_has_no_more_parts_than_one_can_name() -> None:
    listed = instrument(most="0.05")
    assert split_quantity(Decimal(100), listed) == (Decimal("0.05"),) * MAX_PARTS
    legs = [build_part_leg("c", number) for number in range(MAX_PARTS)]
    assert len(set(legs)) == MAX_PARTS
    assert legs[:3] == ["c", "c1", "c2"]
    assert legs[-1] == "cy"


@pytest.mark.parametrize(
    ("left", "held", "price", "is_dust"),
    [
        ("0", "1", "1", False),  # nothing is left
        ("0.01", "1", "1", False),  # an order can be for it
        ("0.009", "0.009", "1111.11", True),  # 9.99999 USD, all that is held
        ("0.009", "0.009", "1111.12", False),  # 10.00008 USD
        ("0.009", "0.018", "27777", True),  # 249.993 USD, half of what was held
        ("0.009", "0.0179", "27777", False),  # more than was closed
        ("0.009", "1", "27778", False),  # 250.002 USD
    ],
)
def test_what_is_too_little_for_an_order_is_forgotten_only_where_it_is_worth_little(
    left: str, held: str, price: str, *, is_dust: bool
) -> None:
    found = find_dust(Decimal(left), Decimal(held), Decimal(price), instrument(lot="0.001", least="0.01"))
    assert found == (Decimal(left) if is_dust else None)


def test_a_venue_with_a_large_least_notional_has_as_large_dust() -> None:
    listed = instrument(lot="0.01").model_copy(update={"min_notional": Decimal(100)})
    assert find_dust(Decimal("0.009"), Decimal("0.009"), Decimal(11_111), listed) == Decimal("0.009")
    assert find_dust(Decimal("0.009"), Decimal("0.009"), Decimal(11_112), listed) is None


@pytest.mark.parametrize(
    ("held", "least_usd", "status", "is_dust"),
    [
        ("0.04", "5", "TRADING", True),
        ("0.05", "5", "TRADING", False),  # 5 USD: an order can be for it
        ("0.04", "5", "BREAK", False),  # it may be traded again
        ("2.5", "1000", "TRADING", True),
        ("2.51", "1000", "TRADING", False),  # 251 USD are not forgotten
    ],
)
def test_what_opposite_positions_keep_from_being_a_reduction_is_dust_below_the_least_notional(
    held: str, least_usd: str, status: str, *, is_dust: bool
) -> None:
    listed = instrument().model_copy(update={"min_notional": Decimal(least_usd), "status": status})
    assert find_netted_dust(Decimal(held), Decimal(100), listed) == (Decimal(held) if is_dust else None)


def test_a_position_that_stays_open_is_told_with_its_worth() -> None:
    assert describe_too_little(Decimal("0.0050"), Decimal(3000), instrument(lot="0.01")) == (
        "0.005 is too little for an order (the least is 0.01), and worth 15.00 USD: the position stays open"
    )
