"""Quantities and protective prices: exact, on the venue's grid, never beyond what was asked."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.positions import Side
from engine.risk.sizing import calculate_closing_quantity, calculate_protective_prices, find_triggered_exit, floor_to
from tests.support.factories.entry_values import order, position

steps = st.sampled_from([Decimal("0.001"), Decimal("0.01"), Decimal("0.1"), Decimal(1), Decimal(10), Decimal("0.25")])
prices = st.decimals(min_value="0.5", max_value=100_000, places=3)
percents = st.decimals(min_value="0.01", max_value=99, places=2)


@given(value=st.decimals(min_value=0, max_value=10**9, places=6), step=steps)
def test_the_floor_is_the_largest_multiple_that_is_not_above(value: Decimal, step: Decimal) -> None:
    floor = floor_to(value, step)
    assert floor <= value < floor + step
    assert floor % step == 0


@given(lots=st.integers(1, 10_000), percent=percents | st.just(Decimal(100)), lot=steps)
def test_a_part_is_whole_lots_at_most_all_and_leaves_no_dust(lots: int, percent: Decimal, lot: Decimal) -> None:
    held = lots * lot
    part = calculate_closing_quantity(held, percent, lot)
    assert part % lot == 0
    assert 0 <= part <= held
    assert part == held or held - part >= lot
    assert part <= held * percent / 100 or part == held


def test_all_is_all_whole_lots_and_what_is_less_than_the_least_is_nothing() -> None:
    held, lot = Decimal("0.0205"), Decimal("0.001")
    assert calculate_closing_quantity(held, Decimal(100), lot) == Decimal("0.020")
    assert calculate_closing_quantity(held, Decimal(99), lot) == Decimal("0.020")
    assert calculate_closing_quantity(held, Decimal(90), lot, Decimal("0.005")) == Decimal("0.020")
    assert calculate_closing_quantity(Decimal("0.0005"), Decimal(100), lot) == 0
    assert calculate_closing_quantity(held, Decimal(10), lot, Decimal("0.005")) == 0


@given(entry=prices, tick=steps, stop=percents, target=percents, action=st.sampled_from(["BUY", "SELL"]))
def test_protective_prices_are_on_the_tick_and_no_farther_than_asked(
    entry: Decimal, tick: Decimal, stop: Decimal, target: Decimal, action: str
) -> None:
    wanted = order(action=action, stop_loss_percent=stop, take_profit_percent=target)
    found = calculate_protective_prices(wanted, entry, tick)
    for price, percent in zip(found, (stop, target), strict=True):
        if price is not None:
            assert price > 0
            assert price % tick == 0
            assert abs(price - entry) <= entry * percent / 100 + tick


def test_no_percent_is_no_price() -> None:
    assert calculate_protective_prices(order(), Decimal(100), Decimal("0.1")) == (None, None)


def test_sides_mirror_each_other() -> None:
    both = {"stop_loss_percent": 1, "take_profit_percent": 2}
    assert calculate_protective_prices(order(**both), Decimal(100), Decimal("0.1")) == (
        Decimal("99.0"),
        Decimal("102.0"),
    )
    short = order(action="SELL", **both)
    assert calculate_protective_prices(short, Decimal(100), Decimal("0.1")) == (Decimal("101.0"), Decimal("98.0"))


@pytest.mark.parametrize(
    ("side", "stop", "target", "price", "reason"),
    [
        (Side.LONG, 95, 110, 95, "stop_loss"),
        (Side.LONG, 95, 110, "95.01", None),
        (Side.LONG, 95, 110, 110, "take_profit"),
        (Side.LONG, 95, 110, "109.99", None),
        (Side.SHORT, 105, 90, 105, "stop_loss"),
        (Side.SHORT, 105, 90, 90, "take_profit"),
        (Side.SHORT, 105, 90, 100, None),
        (Side.LONG, None, None, 1, None),
        (Side.LONG, 101, 99, 100, "stop_loss"),
    ],
)
def test_a_protective_price_triggers_when_it_is_reached(
    side: Side, stop: int | None, target: int | None, price: object, reason: str | None
) -> None:
    held = position(side=side, stop_loss_price=stop, take_profit_price=target)
    assert find_triggered_exit(held, Decimal(str(price))) == reason
