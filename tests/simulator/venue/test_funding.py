"""Funding at the simulated venues: by schedule, once, on what was held; and what is told of it, politely and rudely."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from simulator.aster.aster_app import create_aster
from simulator.binance.binance_app import create_binance
from simulator.market.candles import MINUTE_MS
from simulator.market.market import Market, MarketClock
from simulator.venue.account_file import AccountFile
from simulator.venue.funding import HOUR_MS, FundingSchedule
from simulator.venue.venue import SimulatedVenue
from tests.support.factories.markets import START_MS, Hands, flat_then_rising

FIRST_MS = START_MS - START_MS % HOUR_MS + 2 * HOUR_MS  # one minute after the market begins
BUY = {"symbol": "BTCUSDT", "type": "MARKET"}


def control(url: str, **wish: Any) -> dict[str, Any]:
    answer = httpx.post(f"{url}/_control/funding", json=wish, timeout=30)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def funding(exchange: SimulatedVenue, user: str = "a") -> list[tuple[int, Decimal]]:
    return [(each.at_ms, each.amount) for each in exchange.get_account(user).incomes if each.kind == "FUNDING_FEE"]


@pytest.mark.parametrize(
    ("make", "prefix"), [(create_aster, "/fapi/v3"), (create_binance, "/fapi/v1")], ids=["aster", "binance"]
)
def test_what_is_told_of_funding_is_what_is_paid(
    serve: Callable[[ASGIApp], str],
    exchange: SimulatedVenue,
    hands: Hands,
    make: Callable[[SimulatedVenue], ASGIApp],
    prefix: str,
) -> None:
    url = serve(make(exchange))
    assert httpx.get(f"{url}{prefix}/fundingRate", timeout=30).json() == []
    exchange.place_order("a", BUY | {"side": "BUY", "quantity": "0.010"})
    control(url, symbol="BTCUSDT", rates=["0.0001", "-0.0002"], interval_h=1)
    (info,) = httpx.get(f"{url}{prefix}/fundingInfo", timeout=30).json()
    assert info["fundingIntervalHours"] == 1
    premium = httpx.get(f"{url}{prefix}/premiumIndex", params={"symbol": "BTCUSDT"}, timeout=30).json()
    assert premium["nextFundingTime"] == FIRST_MS
    hands.now = 62 * 60
    rows = httpx.get(
        f"{url}{prefix}/fundingRate", params={"symbol": "BTCUSDT", "startTime": START_MS}, timeout=30
    ).json()
    assert [(row["fundingTime"], row["markPrice"]) for row in rows] == [
        (FIRST_MS, "28000"),
        (FIRST_MS + HOUR_MS, "33600"),
    ]
    assert sorted(row["fundingRate"] for row in rows) == ["-0.0002", "0.0001"]
    paid = [-Decimal("0.010") * Decimal(row["markPrice"]) * Decimal(row["fundingRate"]) for row in rows]
    assert [amount for _, amount in funding(exchange)] == paid
    assert funding(exchange) == funding(exchange)


def test_each_payment_is_for_what_was_held_at_its_moment(exchange: SimulatedVenue, hands: Hands) -> None:
    exchange.funding.set_rates("BTCUSDT", exchange.clock.now_ms(), (Decimal("0.001"),), 1)
    exchange.place_order("a", BUY | {"side": "SELL", "quantity": "0.010"})
    hands.now = 120
    exchange.place_order("a", BUY | {"side": "BUY", "quantity": "0.004"})
    hands.now = 62 * 60
    assert [amount for _, amount in funding(exchange)] == [Decimal("0.28"), Decimal("0.2016")]


def test_an_interval_that_changes_may_pay_twice_and_no_interval_never(exchange: SimulatedVenue, hands: Hands) -> None:
    exchange.place_order("a", BUY | {"side": "BUY", "quantity": "0.010"})
    exchange.funding.set_rates("BTCUSDT", exchange.clock.now_ms(), (Decimal("0.001"),), 1)
    hands.now = 90
    exchange.get_account("a")
    exchange.funding.set_rates("BTCUSDT", exchange.clock.now_ms(), (), 8)
    hands.now = 3 * 3_600
    assert [at_ms for at_ms, _ in funding(exchange)] == [FIRST_MS]
    assert exchange.funding.find_next_payment("BTCUSDT", exchange.clock.now_ms()) is None


def test_a_restart_pays_what_was_due_meanwhile_once(tmp_path: Path) -> None:
    def opened(now: float) -> SimulatedVenue:
        hands, series = Hands(), flat_then_rising()
        clock = MarketClock(START_MS + 105 * MINUTE_MS, 1.0, series.end_ms, hands)
        hands.now = now
        book = AccountFile(tmp_path / "accounts.jsonl", "series")
        schedule = FundingSchedule(tmp_path / "funding.json")
        return SimulatedVenue({"BTCUSDT": Market(series)}, clock, book, funding=schedule)

    first = opened(0)
    first.funding.set_rates("BTCUSDT", first.clock.now_ms(), (Decimal("0.001"),), 1)
    first.place_order("a", BUY | {"side": "BUY", "quantity": "0.010"})
    first.save_account("a", is_read_only=False)
    second = opened(120)
    assert len(funding(second)) == 1
    second.save_account("a", is_read_only=True)
    third = opened(62 * 60)
    assert [at_ms for at_ms, _ in funding(third)] == [FIRST_MS, FIRST_MS + HOUR_MS]
    assert third.get_account("a").balance == sum(each.amount for each in third.get_account("a").incomes)


@pytest.mark.parametrize(
    "wish",
    [
        {"rate": "0.1"},
        {"symbol": "BTCUSDT"},
        {"symbol": "NOPE", "rate": "0.1"},
        {"symbol": "BTCUSDT", "rate": "0.1", "interval_h": 9},
        {"symbol": "BTCUSDT", "rate": "0.1", "rates": ["0.1"]},
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(
    serve: Callable[[ASGIApp], str], exchange: SimulatedVenue, wish: dict[str, Any]
) -> None:
    url = serve(create_aster(exchange))
    assert httpx.post(f"{url}/_control/funding", json=wish, timeout=30).status_code == 400
