"""Walking an order book: what an order takes, what it pays on average, and where the book is to be believed."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.venues.order_book import (
    Level,
    OrderBook,
    calculate_average_price,
    extend_last_level,
    sort_levels,
    sum_quantities,
    take_levels,
)

PRICES = st.decimals("0.00000000001", "1000000", places=11)
QUANTITIES = st.decimals("0.001", "100000", places=3)
SIDES = st.lists(st.tuples(PRICES, QUANTITIES), min_size=1, max_size=30)


def side(rows: list[tuple[Decimal, Decimal]]) -> tuple[Level, ...]:
    """Asks, the cheapest first."""
    return sort_levels((Level(*row) for row in rows), are_bids=False)


@given(rows=SIDES, quantity=QUANTITIES)
def test_an_order_takes_the_best_levels_and_never_more_than_it_needs(
    rows: list[tuple[Decimal, Decimal]], quantity: Decimal
) -> None:
    levels = side(rows)
    parts = take_levels(levels, quantity)
    assert sum_quantities(parts) == min(quantity, sum_quantities(levels))
    for part, level in zip(parts, levels, strict=False):
        assert part.price == level.price
        assert 0 < part.quantity <= level.quantity
    assert all(part == level for part, level in zip(parts[:-1], levels, strict=False))


@given(rows=SIDES, quantity=QUANTITIES)
def test_the_average_is_what_is_paid_by_what_is_bought(rows: list[tuple[Decimal, Decimal]], quantity: Decimal) -> None:
    levels = side(rows)
    average = calculate_average_price(levels, quantity)
    if sum_quantities(levels) < quantity:
        assert average is None
        return
    assert average is not None
    paid = sum(Fraction(part.price) * Fraction(part.quantity) for part in take_levels(levels, quantity))
    assert abs(Fraction(average) - paid / Fraction(quantity)) <= Fraction(average) / 10**27
    worst = take_levels(levels, quantity)[-1].price
    assert levels[0].price * (1 - Decimal("1e-27")) <= average <= worst * (1 + Decimal("1e-27"))


@given(rows=SIDES, less=QUANTITIES, more=QUANTITIES)
def test_more_is_never_bought_cheaper(rows: list[tuple[Decimal, Decimal]], less: Decimal, more: Decimal) -> None:
    levels = side(rows)
    small, large = calculate_average_price(levels, min(less, more)), calculate_average_price(levels, max(less, more))
    if small is not None and large is not None:
        assert small <= large * (1 + Decimal("1e-26"))


@given(rows=SIDES, quantity=QUANTITIES)
def test_an_exit_is_priced_at_the_last_level_where_the_book_ends(
    rows: list[tuple[Decimal, Decimal]], quantity: Decimal
) -> None:
    levels = side(rows)
    longer = extend_last_level(levels, quantity)
    assert sum_quantities(longer) >= quantity
    assert [level.price for level in longer] == [level.price for level in levels]
    assert calculate_average_price(longer, quantity) is not None


def test_levels_come_in_order_without_empty_ones_and_senseless_ones_are_refused() -> None:
    rows = [Level(Decimal(3), Decimal(1)), Level(Decimal(1), Decimal(0)), Level(Decimal(2), Decimal(1))]
    assert [level.price for level in sort_levels(rows, are_bids=True)] == [3, 2]
    assert [level.price for level in sort_levels(rows, are_bids=False)] == [2, 3]
    for price, quantity in ((0, 1), (-1, 1), (1, -1)):
        with pytest.raises(ValueError, match="not positive"):
            sort_levels([Level(Decimal(price), Decimal(quantity))], are_bids=True)


@pytest.mark.parametrize(
    ("bid", "ask", "spread", "fault"),
    [
        ("100", "108", 8, None),
        ("100", "100", 0, "not below"),
        ("101", "100", None, "not below"),
        (None, "100", None, "no bids"),
        ("100", None, None, "no asks"),
        (None, None, None, "no bids and no asks"),
    ],
)
def test_a_book_tells_its_spread_and_its_faults(
    bid: str | None, ask: str | None, spread: int | None, fault: str | None
) -> None:
    bids, asks = ((() if price is None else (Level(Decimal(price), Decimal(1)),)) for price in (bid, ask))
    book = OrderBook(bids=bids, asks=asks)
    assert (book.fault is None) if fault is None else fault in str(book.fault)
    if spread is not None:
        assert book.spread_percent == spread


def test_the_distance_from_the_mark_price_is_that_of_the_middle() -> None:
    bids, asks = (Level(Decimal(98), Decimal(1)),), (Level(Decimal(102), Decimal(1)),)
    assert OrderBook(bids=bids, asks=asks, mark=Decimal(80)).mark_distance_percent == 25
    assert OrderBook(bids=bids, asks=asks).mark_distance_percent is None
