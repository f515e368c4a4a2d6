"""What a liquidation cost beyond its trades: which income says so, and that its shares are the whole."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.decimals import total
from engine.store.venue_record import LiquidationExit
from tests.support.factories.venue_records import RecordedAccount, forced, income
from webhook_server.reconciliation.liquidation_costs import (
    find_liquidated_exits,
    find_unbooked_costs,
    split_cost,
)

ACCOUNT = RecordedAccount(worth={"BNB": Decimal(600)})


def ended(number: int, quantity: str, order_id: str | None = "f", at_ms: int = 3_000) -> LiquidationExit:
    return LiquidationExit(fill_id=number, order_id=order_id, quantity=Decimal(quantity), at_ms=at_ms)


def test_only_the_cost_of_a_liquidation_that_is_not_booked_and_not_settled_counts() -> None:
    rows = [
        income("booked", "-1"),
        income("settled", "-2", at_ms=2_000),
        income("new", "-3", at_ms=2_001),
        income("other", "-4", kind="COMMISSION"),
    ]
    found = find_unbooked_costs(rows, {"booked"}, 2_000, ACCOUNT.convert_to_usd)
    assert [each.income_id for each in found] == ["new"]
    assert find_unbooked_costs([], (), 0, ACCOUNT.convert_to_usd) == ()


def test_a_cost_in_a_coin_is_in_dollars_and_one_without_a_price_is_left_for_later() -> None:
    rows = [income("coin", "-0.01", asset="BNB"), income("unknown", "-1", asset="XYZ")]
    (found,) = find_unbooked_costs(rows, (), 0, ACCOUNT.convert_to_usd)
    assert (found.income_id, found.amount, found.asset) == ("coin", Decimal("-6.00"), "USDT")


@pytest.mark.parametrize(
    ("quantities", "whole", "shares"),
    [
        (["2"], "2", ["3"]),
        (["1", "1"], "2", ["1.5", "1.5"]),
        (["1"], "3", ["1"]),  # of what was liquidated, two thirds were nobody's in the books
        (["1", "1", "1"], "3", ["1", "1", "1"]),
    ],
)
def test_shares_are_by_quantity_of_all_that_was_liquidated(
    quantities: list[str], whole: str, shares: list[str]
) -> None:
    found = split_cost(Decimal(3), [Decimal(each) for each in quantities], Decimal(whole))
    assert found == [Decimal(each) for each in shares]


amounts = st.decimals("-1000", "1000", places=8)
sizes = st.lists(st.integers(1, 10**6).map(lambda lots: Decimal(lots).scaleb(-5)), min_size=1, max_size=6)


@given(usd=amounts, quantities=sizes)
def test_where_the_books_held_all_of_it_the_shares_are_the_whole_to_the_last_digit(
    usd: Decimal, quantities: list[Decimal]
) -> None:
    shares = split_cost(usd, quantities, total(quantities))
    assert total(shares) == usd
    for share, quantity in zip(shares, quantities, strict=True):
        assert abs(share - usd * quantity / total(quantities)) < Decimal("1E-20")
        assert share * usd >= 0


def test_a_cost_is_of_the_liquidation_that_is_nearest_in_time() -> None:
    exits = [ended(1, "1", "early", 1_000), ended(2, "2", "late", 9_000), ended(3, "3", "late", 9_000)]
    parts, whole = find_liquidated_exits(income("x", "-1", at_ms=6_000), exits, ())
    assert ([each.fill_id for each in parts], whole) == ([2, 3], Decimal(5))
    parts, whole = find_liquidated_exits(income("x", "-1", at_ms=4_000), exits, ())
    assert ([each.fill_id for each in parts], whole) == ([1], Decimal(1))


def test_what_the_venue_liquidated_beyond_the_books_is_in_the_whole() -> None:
    parts, whole = find_liquidated_exits(income("x", "-1"), [ended(1, "1")], [forced("f", "-4")])
    assert ([each.fill_id for each in parts], whole) == ([1], Decimal(4))


def test_a_forced_order_that_has_filled_less_than_is_booked_makes_the_whole_no_smaller() -> None:
    _, whole = find_liquidated_exits(income("x", "-1"), [ended(1, "5")], [forced("f", "-4")])
    assert whole == 5


def test_a_liquidation_that_was_nobodys_in_the_books_is_borne_by_no_exit() -> None:
    nearer = forced("stranger", "-4", at_ms=3_000)
    parts, whole = find_liquidated_exits(income("x", "-1"), [ended(1, "1", "own", 1_000)], [nearer])
    assert (parts, whole) == ((), Decimal(4))
    assert find_liquidated_exits(income("x", "-1"), [], []) == ((), Decimal(0))
