"""What others did on an account, by its own record: their trades, forced orders that are not shown, and their costs."""

from dataclasses import replace
from decimal import Decimal
from uuid import UUID

import pytest

from engine.domain.errors import VenueUnavailable
from engine.store.venue_record import BookedOutsideOrder
from engine.venues.account_record import ForcedExitCause
from tests.support.factories.venue_records import SYMBOL, RecordedAccount, facts, forced, income, live, traded
from webhook_server.reconciliation.attribution import OutsideTrade, attribute_trades
from webhook_server.reconciliation.outside_record import (
    CLOSED_AT_VENUE,
    INCOME_TIME_TOLERANCE_MS,
    MAX_ORDER_LOOKUPS,
    distribute_costs,
    fetch_outside_record,
)

LOT = Decimal("0.001")


def test_a_record_of_our_own_orders_alone_is_read_without_another_question() -> None:
    account = RecordedAccount(trades=(traded(11, "2"), traded(12, "-1")))
    record = fetch_outside_record(account, SYMBOL, facts(order_ids=frozenset({"o11", "o12"})), differs=False)
    assert (record.trades, record.last_trade_id, record.read_ms) == ((), 12, 3_012)
    assert account.asked == [("trades", "after 10")]


def test_a_record_that_was_never_read_is_read_from_the_first_entry_on() -> None:
    account = RecordedAccount(trades=(traded(1, "2", at_ms=499), traded(2, "1", at_ms=500)))
    record = fetch_outside_record(account, SYMBOL, facts(last_trade_id=None), differs=False)
    assert account.asked[0] == ("trades", 500)
    assert [each.trade.trade_id for each in record.trades] == [2]


def test_an_empty_record_keeps_what_was_read_before() -> None:
    record = fetch_outside_record(RecordedAccount(), SYMBOL, facts(), differs=True)
    assert (record.trades, record.hidden, record.last_trade_id, record.read_ms) == ((), (), 10, 1_000)
    assert list(record.candidate_trades) == [()]


def test_a_trade_of_the_account_with_itself_moved_nothing() -> None:
    account = RecordedAccount(trades=(traded(11, "2"), traded(11, "-2"), traded(12, "-1")))
    record = fetch_outside_record(account, SYMBOL, facts(), differs=True)
    assert [each.trade.trade_id for each in record.trades] == [12]


@pytest.mark.parametrize(
    ("name", "is_forced", "reason"),
    [
        ("web_123", False, CLOSED_AT_VENUE),
        ("web_123", True, "liquidated"),
        ("autoclose-1", False, "liquidated"),
        ("adl_autoclose", False, "adl"),
        ("settlement_autoclose-1", False, "settled"),
        ("delivery_autoclose-1", True, "settled"),
    ],
)
def test_the_reason_of_an_exit_is_its_orders_cause(name: str, *, is_forced: bool, reason: str) -> None:
    account = RecordedAccount(
        trades=(traded(11, "-2"),), names={"o11": name}, forced=(forced("o11", "-2"),) if is_forced else ()
    )
    (found,) = fetch_outside_record(account, SYMBOL, facts(), differs=True).trades
    assert found.reason == reason


def test_a_fee_in_a_coin_is_in_dollars_and_without_a_price_the_takers_rate_is_assumed() -> None:
    coin = {"fee_usd": None, "fee_amount": Decimal("0.01")}
    account = RecordedAccount(
        trades=(traded(11, "-2", fee_coin="BNB", **coin), traded(12, "-2", fee_coin="XYZ", **coin)),
        worth={"BNB": Decimal(600)},
    )
    found = fetch_outside_record(account, SYMBOL, facts(), differs=True).trades
    assert [each.fee_usd for each in found] == [6, Decimal("0.1")]  # 200 USD at 0.05 %


def test_a_trade_knows_what_our_booked_orders_did_after_it_and_not_what_they_did_before() -> None:
    one = UUID(int=1)
    account = RecordedAccount(trades=(traded(11, "3"), traded(12, "-2"), traded(13, "-4"), traded(14, "1")))
    known = facts(order_ids=frozenset({"o11", "o13", "o14"}), order_positions={"o11": one, "o13": one})
    (found,) = fetch_outside_record(account, SYMBOL, known, differs=True).trades
    assert found.own_since == {one: Decimal(-4), None: Decimal(1)}


def test_a_forced_order_whose_trades_are_not_shown_is_a_second_explanation_in_its_place_of_time() -> None:
    account = RecordedAccount(trades=(traded(11, "-1"),), forced=(forced("f", "-2", at_ms=3_000),))
    record = fetch_outside_record(account, SYMBOL, facts(), differs=True)
    first, second = record.candidate_trades
    assert [each.trade.order_id for each in first] == ["o11"]
    assert [each.trade.order_id for each in second] == ["f", "o11"]
    assert (second[0].trade.price, second[0].trade.signed_quantity) == (Decimal(90), Decimal(-2))
    assert record.read_ms == 3_000


@pytest.mark.parametrize(
    ("known", "hidden"),
    [
        ({"order_ids": frozenset({"f"})}, []),
        ({"outside_order_ids": frozenset({"f"})}, []),  # its trades were shown, and are booked
        (
            {"outside_order_ids": frozenset({"f"}), "forced_order_ids": frozenset({"f"})},
            [("2", "90")],
        ),
        (
            {"booked_outside": {"f": BookedOutsideOrder(quantity=Decimal(1), value_usd=Decimal(80), until_ms=None)}},
            [("1", "100")],  # 2 at 90 less 1 at 80
        ),
        (
            {"booked_outside": {"f": BookedOutsideOrder(quantity=Decimal(1), value_usd=Decimal(80), until_ms=3_000)}},
            [],  # nothing was filled since it was booked
        ),
        (
            {"booked_outside": {"f": BookedOutsideOrder(quantity=Decimal(2), value_usd=Decimal(180), until_ms=2_999)}},
            [],
        ),
        (
            {"booked_outside": {"f": BookedOutsideOrder(quantity=Decimal(1), value_usd=Decimal(200), until_ms=None)}},
            [("1", "90")],  # a value that leaves no price for the rest
        ),
    ],
)
def test_of_a_forced_order_only_what_is_not_booked_is_hidden(
    known: dict[str, object], hidden: list[tuple[str, str]]
) -> None:
    account = RecordedAccount(forced=(forced("f", "-2"),))
    record = fetch_outside_record(account, SYMBOL, facts(**known), differs=True)
    assert [(each.trade.quantity, each.trade.price) for each in record.hidden] == [
        (Decimal(quantity), Decimal(price)) for quantity, price in hidden
    ]


def test_a_hidden_order_without_a_price_is_not_booked_at_0() -> None:
    account = RecordedAccount(forced=(forced("f", "-2", price=Decimal(0)),))
    with pytest.raises(VenueUnavailable, match="neither trades nor a price of forced order f"):
        fetch_outside_record(account, SYMBOL, facts(), differs=True)


def test_commissions_belong_to_the_nearest_hidden_order_and_not_to_a_trade_that_is_shown() -> None:
    near, far = 3_000 + INCOME_TIME_TOLERANCE_MS, 3_001 + INCOME_TIME_TOLERANCE_MS
    commission = {"kind": "COMMISSION"}
    account = RecordedAccount(
        forced=(forced("f", "-2"),),
        trades=(traded(11, "-1"),),
        incomes=(
            income("a", "-0.5", trade_id=99, at_ms=near, **commission),
            income("b", "-7", trade_id=99, at_ms=far, **commission),
            income("c", "-7", trade_id=11, **commission),
            income("d", "-7", trade_id=10, **commission),
            income("e", "-0.25", **commission),
        ),
    )
    (hidden,) = fetch_outside_record(account, SYMBOL, facts(), differs=True).hidden
    assert hidden.fee_usd == Decimal("0.75")


def test_a_commission_that_is_not_known_in_dollars_is_taken_from_the_takers_rate() -> None:
    account = RecordedAccount(
        forced=(forced("f", "-2"),),
        incomes=(income("a", "-0.5", kind="COMMISSION"), income("b", "-1", kind="COMMISSION", asset="XYZ")),
    )
    (hidden,) = fetch_outside_record(account, SYMBOL, facts(), differs=True).hidden
    assert hidden.fee_usd == Decimal("0.09")  # 180 USD at 0.05 %


def test_what_a_liquidation_cost_is_positive_and_named_and_read_only_where_something_was_forced() -> None:
    incomes = (income("a", "-3"), income("b", "-4"), income("booked", "-5"))
    known = facts(cost_ids=frozenset({"booked"}))
    account = RecordedAccount(trades=(traded(11, "-2"),), names={"o11": "autoclose-1"}, incomes=incomes)
    record = fetch_outside_record(account, SYMBOL, known, differs=True)
    assert (record.costs_usd, record.cost_ids) == (Decimal(7), ("a", "b"))
    by_hand = RecordedAccount(trades=(traded(11, "-2"),), incomes=incomes)
    record = fetch_outside_record(by_hand, SYMBOL, known, differs=True)
    assert (record.costs_usd, record.cost_ids) == (Decimal(0), ())
    assert "income" not in {what for what, _ in by_hand.asked}


def test_the_names_of_the_newest_orders_are_asked_for_and_each_once() -> None:
    count = MAX_ORDER_LOOKUPS + 5
    trades = tuple(traded(10 + number, "1") for number in range(1, count + 1))
    twice = (*trades, traded(999, "1", order_id=trades[-1].order_id))
    account = RecordedAccount(trades=twice)
    record = fetch_outside_record(account, SYMBOL, facts(), differs=True)
    asked = [detail for what, detail in account.asked if what == "name"]
    assert asked == [each.order_id for each in trades[-MAX_ORDER_LOOKUPS:]]
    assert len(record.trades) == count + 1


def test_costs_are_borne_by_what_was_liquidated_by_quantity_and_beyond_the_books_by_nobody() -> None:
    one, two = live("1"), live("3").model_copy(update={"id": UUID(int=9)})

    def outside(number: int, change: str, reason: str) -> OutsideTrade:
        return OutsideTrade(traded(number, change), reason, Decimal(0))

    liquidated = str(ForcedExitCause.LIQUIDATED)
    trades = [outside(11, "-4", liquidated)]
    found = attribute_trades([one, two], trades, Decimal(0), LOT)
    shares = {each.position.id: each.fee_usd for each in distribute_costs(found, trades, Decimal(8)).exits}
    assert shares == {one.id: Decimal(2), two.id: Decimal(6)}
    beyond = [outside(11, "-8", liquidated)]
    found = attribute_trades([one, two], beyond, Decimal(0), LOT)
    assert sum(each.fee_usd for each in distribute_costs(found, beyond, Decimal(8)).exits) == 4
    by_hand = [replace(trades[0], reason=CLOSED_AT_VENUE)]
    found = attribute_trades([one, two], by_hand, Decimal(0), LOT)
    assert distribute_costs(found, by_hand, Decimal(8)) == found
