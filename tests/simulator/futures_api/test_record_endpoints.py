"""The account's record: its order, its windows of time, and what it is chosen by."""

from typing import Any

from simulator.venue.venue import SimulatedVenue
from tests.simulator.account_owner import Person
from tests.support.factories.markets import START_MS
from tests.support.factories.signing import refused

DAY_MS = 86_400_000


def test_trades_come_oldest_first_from_a_time_or_an_id_and_else_the_newest(person: Person, hands: Any) -> None:
    for _ in range(4):
        person.order("BUY", "0.001")
        hands.now += 1
    trades = person.trades()
    ids = [trade["id"] for trade in trades]
    assert ids == sorted(ids)
    second_ms = trades[1]["time"]
    assert [t["id"] for t in person.trades(startTime=second_ms, limit=2)] == ids[1:3]
    assert [t["id"] for t in person.trades(startTime=second_ms, endTime=trades[2]["time"])] == ids[1:3]
    assert [t["id"] for t in person.trades(fromId=ids[1], limit=2)] == ids[1:3]
    assert [t["id"] for t in person.trades(limit=2)] == ids[2:]
    assert [t["id"] for t in person.trades(endTime=second_ms)] == ids[:2]


def test_a_window_of_the_record_is_seven_days_long(person: Person, exchange: SimulatedVenue, hands: Any) -> None:
    person.order("BUY", "0.001")
    (trade,) = person.trades()
    week = 7 * DAY_MS
    assert person.trades(startTime=trade["time"] - week) == [trade]
    assert person.trades(startTime=trade["time"] - week - 1) == []
    assert refused(person.ask("/userTrades", symbol="BTCUSDT", startTime=0, endTime=week + 1)) == (400, -4165)
    assert refused(person.ask("/userTrades", symbol="BTCUSDT", startTime=2, endTime=1)) == (400, -4165)
    assert refused(person.ask("/userTrades", symbol="BTCUSDT", startTime=0, fromId=1)) == (400, -1128)
    for path in ("/userTrades", "/income", "/forceOrders"):
        long_ago = trade["time"] - 90 * DAY_MS
        assert refused(person.ask(path, symbol="BTCUSDT", startTime=long_ago - 1_000)) == (400, -4166)
        assert person.get(path, symbol="BTCUSDT", startTime=long_ago + 60_000, endTime=long_ago + 61_000) == []
    assert refused(person.ask("/userTrades", symbol="BTCUSDT", limit=1001)) == (400, -1130)
    assert refused(person.ask("/userTrades")) == (400, -1102)


def test_income_and_forced_orders_are_chosen_by_symbol_kind_and_time(person: Person, hands: Any) -> None:
    person.order("BUY", "0.010")
    hands.now += 1
    person.happens(liquidate="BTCUSDT", quantity="0.004")
    hands.now += 1
    person.happens(adl="BTCUSDT")
    late = person.trades()[-1]["time"]
    assert {row["incomeType"] for row in person.income(startTime=late)} == {"REALIZED_PNL", "COMMISSION"}
    assert [row["incomeType"] for row in person.get("/income", startTime=START_MS, limit=1)] == ["TRANSFER"]
    assert person.get("/income", symbol="BTCUSDT", incomeType="TRANSFER") == []
    assert [row["clientOrderId"] for row in person.forced(startTime=late)] == ["adl_autoclose"]
    assert len(person.get("/forceOrders")) == 2
    assert len(person.forced(endTime=late - 1)) == 1
    assert refused(person.ask("/forceOrders", limit=101)) == (400, -1130)
    assert refused(person.ask("/income", limit=1001)) == (400, -1130)
    assert refused(person.ask("/forceOrders", autoCloseType="X")) == (400, -1130)
