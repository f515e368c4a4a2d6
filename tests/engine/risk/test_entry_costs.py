"""What an entry may cost, judged by a book that a test makes up."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.risk.entry_costs import CostLimits, check_book, check_slippage
from engine.risk.limit_breach import LimitType
from engine.venues.order_book import Level, OrderBook
from tests.support.factories.entry_values import portfolio, settings, strategy

NOW_MS = 1_700_000_000_000


def book(**fields: Any) -> OrderBook:
    """100 at each of 99.95 and 100.05, with a mark price of 100, all of them new."""
    given = {
        "bids": (Level(Decimal("99.95"), Decimal(100)),),
        "asks": (Level(Decimal("100.05"), Decimal(100)),),
        "at_ms": NOW_MS,
        "clock_ms": NOW_MS,
        "mark": Decimal(100),
        "mark_ms": NOW_MS,
    }
    return OrderBook(**(given | fields))


def reason(seen: OrderBook) -> LimitType | None:
    refusal = check_book(seen, CostLimits())
    return None if refusal is None else refusal.limit_type


@pytest.mark.parametrize(
    ("fields", "limit_type"),
    [
        ({}, None),
        ({"at_ms": NOW_MS - 30_000}, None),
        ({"at_ms": NOW_MS - 30_001}, LimitType.STALE_QUOTE),
        ({"at_ms": NOW_MS + 30_001}, LimitType.STALE_QUOTE),
        ({"at_ms": NOW_MS + 60_000, "mark_ms": NOW_MS + 60_000}, None),  # a fast clock, and a slow answer between them
        ({"at_ms": None}, LimitType.STALE_QUOTE),
        ({"mark_ms": NOW_MS - 30_001}, LimitType.STALE_QUOTE),
        ({"mark_ms": None}, LimitType.STALE_QUOTE),
        ({"mark": None}, LimitType.MARK_DISTANCE),
        ({"mark": Decimal(97)}, LimitType.MARK_DISTANCE),
        ({"mark": Decimal(104)}, LimitType.MARK_DISTANCE),
        ({"bids": ()}, LimitType.MAX_SPREAD),
        ({"asks": (Level(Decimal(101), Decimal(1)),)}, LimitType.MAX_SPREAD),
        ({"asks": (Level(Decimal("99.9"), Decimal(1)),)}, LimitType.MAX_SPREAD),
        ({"clock_ms": None, "at_ms": None, "mark": None, "mark_ms": None}, None),  # a venue that offers none of these
    ],
)
def test_a_book_is_refused_for_its_age_its_spread_or_its_distance(
    fields: dict[str, Any], limit_type: LimitType | None
) -> None:
    assert reason(book(**fields)) is limit_type


def test_a_limit_order_is_judged_by_what_lies_within_its_limit() -> None:
    levels = (Level(Decimal(100), Decimal(1)), Level(Decimal(110), Decimal(1)))
    seen = book(asks=levels)
    assert check_slippage(seen, Decimal(2), CostLimits(), is_buy=True) is not None
    assert check_slippage(seen, Decimal(2), CostLimits(), is_buy=True, limit_price=Decimal(105)) is None
    assert check_slippage(seen, Decimal(2), CostLimits(), is_buy=True, limit_price=Decimal(90)) is None
    assert check_slippage(seen, Decimal(2), CostLimits(), is_buy=True, limit_price=Decimal(110)) is not None


@given(
    quantities=st.lists(st.decimals("0.1", "5", places=1), min_size=1, max_size=8),
    wanted=st.decimals("0.1", "20", places=1),
    is_buy=st.booleans(),
)
def test_what_is_allowed_never_pays_more_than_the_limit(
    quantities: list[Decimal], wanted: Decimal, *, is_buy: bool
) -> None:
    sign = 1 if is_buy else -1
    levels = tuple(Level(Decimal(1000) + sign * 5 * step, each) for step, each in enumerate(quantities))
    refusal = check_slippage(book(bids=levels, asks=levels), wanted, CostLimits(), is_buy=is_buy)
    left, paid = wanted, Decimal(0)
    for level in levels:
        part = min(left, level.quantity)
        paid, left = paid + part * level.price, left - part
    is_cheap = left <= 0 and abs(paid - 1000 * wanted) <= 10 * wanted
    assert (refusal is None) is is_cheap


@pytest.mark.parametrize(
    ("person", "own", "expected"), [(None, None, 1), (0, 0, 1), (5, None, 5), (None, 5, 5), (5, 2, 2), (2, 5, 2)]
)
def test_the_strictest_limit_that_is_set_counts_and_the_default_without_one(
    person: int | None, own: int | None, expected: int
) -> None:
    view = portfolio(settings=settings(max_spread_percent=person), strategy=strategy(max_spread_percent=own))
    assert CostLimits.from_portfolio(view).max_spread_percent == expected
    assert CostLimits.from_portfolio(None).max_spread_percent == 1
