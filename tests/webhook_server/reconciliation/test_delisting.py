"""What ends with a symbol that is listed no more: by its trades, by its settlement, else at the last price known."""

from datetime import timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.decimals import total
from engine.domain.positions import Position
from engine.store.store import Store
from engine.venues.venue import LiveVenue
from tests.support.factories.entry_values import NOW
from tests.support.factories.venue_records import SYMBOL, RecordedAccount, at_venue, facts, income, live, traded
from tests.webhook_server.reconciliation.account_world import KEY, Books
from webhook_server.reconciliation.delisting import (
    build_delisted_exit,
    build_settlement_exits,
    compute_settlement_price,
    fetch_settlements,
    find_successor_symbol,
    get_last_booked_price,
    is_held_by_books_only,
    settle_by_trades,
)

A, B = UUID(int=1), UUID(int=2)
OWN = {"o11": A}


def held(quantity: str, name: UUID = A, **fields: Any) -> Position:
    return live(quantity, id=name, **fields)


def settlement(name: str, amount: str, **fields: Any) -> Any:
    return income(name, amount, **{"kind": "REALIZED_PNL", **fields})


def test_trades_that_end_all_positions_settle_them() -> None:
    account = RecordedAccount(trades=(traded(11, "-3", price=Decimal(80)),), names={"o11": "settlement_autoclose-1"})
    found = settle_by_trades(account, SYMBOL, facts(held("1"), held("2", B)))
    assert found is not None
    exits, progress = found
    assert {each.position.id: each.quantity for each in exits} == {A: Decimal(1), B: Decimal(2)}
    assert {(each.price, each.reason) for each in exits} == {(Decimal(80), "settled")}
    assert (progress.last_trade_id, progress.unbooked_net) == (11, Decimal(0))


@pytest.mark.parametrize("account", [RecordedAccount(trades=(traded(11, "-1"),)), RecordedAccount(is_gone=True)])
def test_trades_that_leave_something_or_are_not_told_settle_nothing(account: RecordedAccount) -> None:
    assert settle_by_trades(account, SYMBOL, facts(held("2"))) is None


def test_a_settlement_is_income_in_dollars_that_belongs_to_no_trade() -> None:
    rows = (
        settlement("a", "-5"),
        settlement("b", "7", kind="DELIVERED_SETTELMENT"),
        settlement("traded", "1", trade_id=9),
        settlement("coin", "1", asset="BNB"),
        settlement("other", "1", kind="FUNDING_FEE"),
        settlement("older", "1", at_ms=-1),
    )
    found = fetch_settlements(RecordedAccount(incomes=rows), SYMBOL, facts(held("1")))
    assert [each.income_id for each in found] == ["a", "b"]
    assert fetch_settlements(RecordedAccount(incomes=rows, is_gone=True), SYMBOL, facts(held("1"))) == ()


@pytest.mark.parametrize(
    ("quantities", "paid", "price"),
    [
        (["2"], ["-20"], "90"),
        (["-2"], ["20"], "90"),
        (["-2"], ["-20"], "110"),
        (["1", "3"], ["-30", "-10"], "90"),
        (["2"], [], "100"),
        (["2"], ["-200"], None),  # all of its cost: at no price above 0
    ],
)
def test_a_settlement_is_at_the_price_at_which_the_positions_earned_it(
    quantities: list[str], paid: list[str], price: str | None
) -> None:
    positions = [held(each) for each in quantities]
    found = compute_settlement_price(positions, [settlement(str(index), each) for index, each in enumerate(paid)])
    assert found == (None if price is None else Decimal(price))


@given(
    lots=st.lists(st.integers(1, 10**6), min_size=1, max_size=4),
    sign=st.sampled_from([1, -1]),
    price=st.decimals("0.01", "100000", places=2),
)
def test_positions_that_end_at_that_price_have_earned_what_was_paid(lots: list[int], sign: int, price: Decimal) -> None:
    positions = [held(str(sign * Decimal(each).scaleb(-3))) for each in lots]
    earned = total((price - 100) * each.quantity * sign for each in positions)
    assert compute_settlement_price(positions, [settlement("a", f"{earned:f}")]) == price


def test_a_settlement_for_more_than_the_books_hold_ends_at_the_newest_price_that_they_know() -> None:
    old, new = held("1"), held("2", B, entry_time=NOW + timedelta(seconds=1), current_price=Decimal(95))
    paid = [settlement("a", "-30", at_ms=9_000)]
    own = traded(11, "3")
    alone = facts(old, new, order_positions={"o11": A})
    exits = build_settlement_exits(RecordedAccount(trades=(own,)), SYMBOL, alone, paid)
    assert {(each.fill.price, each.fill.exit_reason, each.fill.market_time_ms) for each in exits} == {
        (Decimal(90), "settled", 9_000)
    }
    assert [each.request_id for each in exits] == [f"venue/settled/{A}", f"venue/settled/{B}"]
    others = alone.model_copy(update={"outside_net": Decimal(1)})
    exits = build_settlement_exits(RecordedAccount(trades=(own,)), SYMBOL, others, paid)
    assert {each.fill.price for each in exits} == {Decimal(95)}
    exits = build_settlement_exits(RecordedAccount(), SYMBOL, alone, [])
    assert {(each.fill.price, each.fill.exit_reason, each.fill.market_time_ms) for each in exits} == {
        (Decimal(95), "delisted", None)
    }


@pytest.mark.parametrize(
    ("positions", "trades", "fields", "is_only_booked"),
    [
        ([held("2")], ["2"], {}, True),
        ([held("2")], ["2"], {"outside_net": 1}, False),
        ([held("2")], ["2"], {"unbooked_net": 1}, False),
        ([held("2"), held("-1", B)], ["2"], {}, False),  # both sides
        ([held("2"), held("1", B, exit_order_ids={"x"})], ["2"], {}, False),  # one has closed a part
        ([held("2", exit_order_ids={"x"})], ["2"], {}, True),
        ([held("2")], ["2", "1"], {}, False),  # others traded after the entry
        ([held("2")], [], {}, True),
        ([held("2")], [], {"outside_order_ids": frozenset({"f"})}, False),
        ([held("2")], [], {"order_positions": {"o11": A, "o12": B}}, False),
    ],
)
def test_what_the_account_held_is_the_books_only_where_nobody_else_had_a_part_in_its_cost(
    positions: list[Position], trades: list[str], fields: dict[str, Any], *, is_only_booked: bool
) -> None:
    record = tuple(traded(number, change) for number, change in enumerate(trades, 11))
    known = facts(*positions, **{"order_positions": OWN, **fields})
    assert is_held_by_books_only(RecordedAccount(trades=record), SYMBOL, known) is is_only_booked


def test_what_others_traded_before_the_first_entry_is_in_no_cost() -> None:
    account = RecordedAccount(trades=(traded(10, "5"), traded(11, "2")))
    assert is_held_by_books_only(account, SYMBOL, facts(held("2"), order_positions=OWN))


@pytest.mark.parametrize(
    ("symbol", "net", "changed_ms", "known", "is_successor"),
    [
        ("NEWUSDT", "2", 0, {}, True),
        ("NEWUSDT", "2", 5_000, {}, True),
        ("NEWUSDT", "2", 4_999, {}, False),  # older than what is gone
        (SYMBOL, "2", 0, {}, False),
        ("NEWUSDT", "2", 0, {"outside_net": 2}, False),  # noted as held outside
        ("NEWUSDT", "2", 0, {"positions": (live("2", symbol="NEWUSDT"),)}, False),
    ],
)
def test_what_the_books_know_nothing_of_may_be_what_a_symbol_has_become(
    symbol: str, net: str, changed_ms: int, known: dict[str, Any], *, is_successor: bool
) -> None:
    account = RecordedAccount(held=(at_venue(net, symbol=symbol, changed_ms=changed_ms),))
    books = Books({symbol: facts().model_copy(update=known)})
    found = find_successor_symbol(cast("LiveVenue", account), cast("Store", books), KEY, 5_000)
    assert found == (symbol if is_successor else None)


def test_a_paper_position_ends_at_the_price_that_the_books_valued_it_at_last() -> None:
    own = held("2", is_paper=True, current_price=Decimal(70))
    assert [get_last_booked_price(own), get_last_booked_price(held("2"))] == [70, 100]
    fill = build_delisted_exit(own)
    assert (fill.kind, fill.exit_reason, fill.is_paper) == ("close", "delisted", True)
    assert [fill.price, fill.quantity] == [70, 2]
