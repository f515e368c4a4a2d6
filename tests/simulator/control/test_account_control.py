"""An account at the simulated venue beside its API: hands, liquidation, ADL, funding; and the record of it all."""

import asyncio
import copy
from decimal import Decimal
from typing import Any

import httpx
import pytest
from eth_account import Account

from simulator.aster.aster_app import create_aster
from simulator.venue.venue import SimulatedVenue
from tests.simulator.account_owner import Person, market_order, sums
from tests.support.factories.markets import START_MS


def test_every_trade_writes_its_profit_and_its_commission(person: Person) -> None:
    person.order("BUY", "0.010")
    person.order("SELL", "0.004")
    first, second = person.trades()
    rows = person.income()
    assert [(row["incomeType"], row["symbol"], row["tradeId"]) for row in rows] == [
        ("TRANSFER", "", ""),
        ("COMMISSION", "BTCUSDT", str(first["id"])),
        ("REALIZED_PNL", "BTCUSDT", str(second["id"])),
        ("COMMISSION", "BTCUSDT", str(second["id"])),
    ]
    assert [row["income"] for row in rows[1:]] == [
        f"-{first['commission']}",
        second["realizedPnl"],
        f"-{second['commission']}",
    ]
    assert {row["asset"] for row in rows} == {"USDT"}
    assert sum(Decimal(row["income"]) for row in rows) == person.balance()


def test_a_hand_at_the_venues_page_trades_without_our_client_ids_and_may_cross_zero(person: Person) -> None:
    person.order("BUY", "0.010", newClientOrderId="ours")
    person.happens(trade={"symbol": "BTCUSDT", "side": "SELL", "quantity": "0.015"})
    assert person.amount() == Decimal("-0.005")
    person.happens(close="BTCUSDT")
    assert person.amount() == 0
    names = [order["clientOrderId"] for order in person.get("/allOrders", symbol="BTCUSDT")]
    assert names[0] == "ours"
    assert {name.partition("_")[0] for name in names[1:]} == {"web", "ios"}
    assert [(trade["side"], trade["qty"]) for trade in person.trades()] == [
        ("BUY", "0.01"),
        ("SELL", "0.015"),
        ("BUY", "0.005"),
    ]
    assert person.forced() == []


def test_a_hand_trades_also_while_the_venue_refuses_delays_or_cuts_what_comes_over_the_api(
    person: Person, aster_url: str
) -> None:
    person.order("BUY", "0.010")
    market = {"refused_kinds": ["MARKET"], "fill_delay_s": 60, "fill_percent": 40}
    httpx.post(f"{aster_url}/_control/market", json=market, timeout=30).raise_for_status()
    person.happens(trade={"symbol": "BTCUSDT", "side": "SELL", "quantity": "0.004"})
    assert person.amount() == Decimal("0.006")
    person.happens(liquidate="BTCUSDT")
    assert person.amount() == 0


def test_a_liquidation_closes_in_several_trades_costs_the_insurance_fee_and_cancels_the_symbols_orders(
    person: Person,
) -> None:
    person.order("BUY", "0.010")
    person.order("SELL", "0.010", "STOP_MARKET", stopPrice="27000", reduceOnly="true")
    before = person.balance()
    person.happens(liquidate="BTCUSDT", pieces=3)
    assert person.amount() == 0
    assert person.get("/openOrders", symbol="BTCUSDT") == []
    (forced,) = person.forced()
    assert forced["clientOrderId"].startswith("autoclose-")
    assert (forced["type"], forced["timeInForce"], forced["status"]) == ("LIMIT", "IOC", "FILLED")
    assert (forced["side"], forced["executedQty"], forced["reduceOnly"]) == ("SELL", "0.01", False)
    trades = [trade for trade in person.trades() if trade["orderId"] == forced["orderId"]]
    assert len(trades) == 3
    assert len({trade["price"] for trade in trades}) == 3
    notional = sum(Decimal(trade["quoteQty"]) for trade in trades)
    assert Decimal(forced["avgPrice"]) == (notional / Decimal("0.01")).quantize(Decimal("1e-8"))
    assert sum(Decimal(trade["qty"]) for trade in trades) == Decimal("0.01")
    told = sums(person.income(startTime=START_MS, symbol="BTCUSDT"))
    assert told["INSURANCE_CLEAR"] == -notional * Decimal("0.005")
    fees = sum(Decimal(trade["commission"]) for trade in trades)
    profit = sum(Decimal(trade["realizedPnl"]) for trade in trades)
    assert person.balance() == before + profit - fees + told["INSURANCE_CLEAR"]


@pytest.mark.parametrize(
    ("wish", "left"),
    [({"quantity": "0.004"}, "0.006"), ({"percent": 25}, "0.008"), ({"quantity": "5"}, "0"), ({"percent": 100}, "0")],
)
@pytest.mark.parametrize("kind", ["liquidate", "adl"])
def test_a_part_of_a_position_can_be_closed_by_force(
    person: Person, exchange: SimulatedVenue, kind: str, wish: dict[str, object], left: str
) -> None:
    exchange.place_order("u", market_order("SELL", "0.010"))
    person.happens(**{kind: "BTCUSDT"}, **wish)
    assert exchange.get_account("u").get_holding("BTCUSDT").amount == -Decimal(left)


def test_adl_keeps_the_waiting_orders_and_costs_no_insurance_fee(person: Person) -> None:
    person.order("SELL", "0.010")
    person.order("BUY", "0.010", "STOP_MARKET", stopPrice="29000", reduceOnly="true")
    person.happens(adl="BTCUSDT", percent=50)
    (forced,) = person.forced(autoCloseType="ADL")
    assert (forced["clientOrderId"], forced["side"], forced["executedQty"]) == ("adl_autoclose", "BUY", "0.005")
    assert person.forced(autoCloseType="LIQUIDATION") == []
    assert len(person.get("/openOrders", symbol="BTCUSDT")) == 1
    assert "INSURANCE_CLEAR" not in sums(person.income())
    person.happens(cancel_all="BTCUSDT")
    assert person.get("/openOrders", symbol="BTCUSDT") == []


def test_a_liquidation_may_leave_the_waiting_orders_or_cost_another_fee(person: Person) -> None:
    person.order("BUY", "0.010")
    person.order("SELL", "0.010", "STOP_MARKET", stopPrice="27000", reduceOnly="true")
    person.happens(liquidate="BTCUSDT", keeps_orders=True, fee_percent=0)
    assert len(person.get("/openOrders", symbol="BTCUSDT")) == 1
    assert "INSURANCE_CLEAR" not in sums(person.income())


def test_funding_is_paid_by_longs_and_received_by_shorts(person: Person) -> None:
    person.order("BUY", "0.010")
    person.happens(funding={"symbol": "BTCUSDT", "rate": "0.0001"})
    person.happens(trade={"symbol": "BTCUSDT", "side": "SELL", "quantity": "0.030"})
    person.happens(funding={"symbol": "BTCUSDT", "rate": "0.0001"})
    person.happens(close="BTCUSDT")
    person.happens(funding={"symbol": "BTCUSDT", "rate": "0.0001"})
    paid = person.income(incomeType="FUNDING_FEE")
    assert [row["income"] for row in paid] == ["-0.028", "0.056"]
    assert {row["tradeId"] for row in paid} == {""}


def test_forced_trades_may_be_missing_from_the_trades_and_forced_orders_from_their_list(person: Person) -> None:
    person.order("BUY", "0.010")
    person.happens(trades_hidden=True)
    person.happens(liquidate="BTCUSDT", quantity="0.004")
    assert [trade["qty"] for trade in person.trades()] == ["0.01"]
    assert len(person.forced()) == 1
    assert "INSURANCE_CLEAR" in sums(person.income())
    person.happens(trades_hidden=False, forced_hidden=True)
    assert [trade["qty"] for trade in person.trades()] == ["0.01", "0.004"]
    assert person.forced() == []


def test_the_record_may_lag_behind_what_is_held(person: Person, hands: Any) -> None:
    person.happens(record_lag_s=3)
    person.order("BUY", "0.010")
    person.happens(liquidate="BTCUSDT")
    assert person.amount() == 0
    assert (person.trades(), person.forced(), person.income()) == ([], [], [])
    hands.now += 2.9
    assert (person.trades(), person.forced(), person.income()) == ([], [], [])
    hands.now += 0.1
    assert (len(person.trades()), len(person.forced())) == (2, 1)
    assert sum(Decimal(row["income"]) for row in person.income()) == person.balance()


def test_a_position_tells_when_it_last_changed(person: Person, hands: Any) -> None:
    (row,) = person.get("/positionRisk", symbol="BTCUSDT")
    assert row["updateTime"] == 0
    hands.now += 1
    person.order("BUY", "0.010")
    (trade,) = person.trades()
    hands.now += 1
    person.happens(funding={"symbol": "BTCUSDT", "rate": "0.0001"})
    (row,) = person.get("/positionRisk", symbol="BTCUSDT")
    assert row["updateTime"] == trade["time"]


def test_rows_of_flat_symbols_may_be_missing(person: Person) -> None:
    person.happens(rows_of_flat=False)
    assert person.get("/positionRisk", symbol="BTCUSDT") == person.get("/positionRisk") == []
    person.order("BUY", "0.010", "LIMIT", price="27000")
    assert len(person.get("/positionRisk", symbol="BTCUSDT")) == 1
    person.happens(cancel_all="BTCUSDT")
    person.order("BUY", "0.010")
    assert len(person.get("/positionRisk")) == 1


def test_what_happens_to_one_account_leaves_the_others_alone(person: Person, aster_url: str) -> None:
    other_key = f"{9:064x}"
    other = Person(aster_url, other_key, Account.from_key(other_key).address)
    for one in (person, other):
        one.order("BUY", "0.010")
    told = person.happens(liquidate="BTCUSDT", user=other.user.lower())
    assert set(told["users"]) == {person.user.lower(), other.user.lower()}
    assert [person.amount(), other.amount()] == [Decimal("0.01"), Decimal(0)]
    person.happens(close="BTCUSDT")
    assert [person.amount(), other.amount()] == [Decimal(0), Decimal(0)]


@pytest.mark.parametrize(
    "wish",
    [
        {"close": "NOPE"},
        {"liquidate": "BTCUSDT", "pieces": 0},
        {"adl": "BTCUSDT", "percent": 0},
        {"adl": "BTCUSDT", "percent": 50, "quantity": "1"},
        {"trade": {"symbol": "BTCUSDT", "side": "UP", "quantity": "1"}},
        {"trade": {"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.0001"}},
        {"trade": {"symbol": "BTCUSDT", "side": "BUY", "quantity": "100"}},
        {"funding": {"symbol": "NOPE", "rate": "0.1"}},
        {"record_lag_s": -1},
        {"user": "0xnobody", "close": "BTCUSDT"},
        {"surprise": 1},
        {"percent": 50},
    ],
)
def test_a_wish_that_makes_no_sense_is_refused_and_changes_nothing(
    person: Person, exchange: SimulatedVenue, wish: dict[str, object]
) -> None:
    exchange.place_order("u", market_order("BUY", "0.010"))
    state = person.control().json()
    before = copy.deepcopy(exchange.get_account("u")), state
    assert person.control(**wish).status_code == 400
    assert (exchange.get_account("u"), person.control().json()) == before


def test_only_the_same_host_decides_what_happens_to_an_account(exchange: SimulatedVenue) -> None:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(create_aster(exchange), client=("10.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://venue") as client:
            return await client.post("/_control/account", json={"close": "BTCUSDT"})

    assert asyncio.run(ask()).status_code == 403


def test_commissions_in_a_coin_have_a_discount_and_end_where_the_coin_does(person: Person) -> None:
    person.get("/balance")
    person.happens(trades_per_order=3)
    person.happens(fee_coin="BNB", fee_coin_left="0.0001")
    person.order("BUY", "0.010")
    trades, paid = person.trades(), person.income(incomeType="COMMISSION")
    assert [(trade["qty"], trade["commissionAsset"]) for trade in trades] == [
        ("0.003", "BNB"),
        ("0.003", "USDT"),
        ("0.004", "USDT"),
    ]
    dollars = Decimal("0.003") * Decimal("28001.4") * Decimal("0.0004")
    assert Decimal(trades[0]["commission"]) == (dollars * Decimal("0.9") / 600).quantize(Decimal("1e-8"))
    assert Decimal(trades[1]["commission"]) == dollars
    assert [(row["asset"], -Decimal(row["income"])) for row in paid] == [
        (trade["commissionAsset"], Decimal(trade["commission"])) for trade in trades
    ]
    assert person.control(fee_coin_left="1").status_code == 400
