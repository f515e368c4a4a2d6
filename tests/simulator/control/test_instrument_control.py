"""What both simulated venues list can change under a running client, and their filters refuse by the venue's codes."""

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import ccxt
import httpx
import pytest
from starlette.types import ASGIApp

from engine.venues.ccxt_client.client import open_ccxt_client
from simulator.venue.venue import SimulatedVenue
from tests.support.servers.simulated import VENUES

Told = dict[str, Any]


class Client:
    """An account at a simulated venue that sends what it is told, and the control address of the instruments."""

    def __init__(self, name: str, url: str) -> None:
        self._url = url
        self._is_aster = name == "aster"
        self._exchange = open_ccxt_client(name, url, VENUES[name].credentials())

    def ask(self, aster: str, binance: str, **given: object) -> Any:
        return getattr(self._exchange, aster if self._is_aster else binance)(given)

    def order(self, side: str = "BUY", kind: str = "MARKET", symbol: str = "BTCUSDT", **more: str) -> Told:
        given: dict[str, str] = {"symbol": symbol, "side": side, "type": kind, **more}
        if kind.endswith("_MARKET") and not self._is_aster:
            given |= {"algoType": "CONDITIONAL", "triggerPrice": given.pop("stopPrice")}
            return dict(self._exchange.fapiPrivatePostAlgoOrder(given))
        told = self.ask("fapiPrivatePostV3Order", "fapiPrivatePostOrder", newOrderRespType="RESULT", **given)
        return dict(told)

    def code(self, side: str = "BUY", kind: str = "MARKET", symbol: str = "BTCUSDT", **more: str) -> int:
        """With which an order is refused; 0 when it is taken."""
        try:
            self.order(side, kind, symbol, **more)
        except ccxt.BaseError as error:
            text = str(error)
            return int(json.loads(text[text.index("{") :])["code"])
        return 0

    def held(self) -> Told:
        rows = self.ask("fapiPrivateGetV3PositionRisk", "fapiPrivateV3GetPositionRisk")
        return {row["symbol"]: Decimal(row["positionAmt"]) for row in rows if Decimal(row["positionAmt"])}

    def record(self, symbol: str = "BTCUSDT") -> tuple[list[Told], list[str]]:
        trades = self.ask("fapiPrivateGetV3UserTrades", "fapiPrivateGetUserTrades", symbol=symbol)
        income = self.ask("fapiPrivateGetV3Income", "fapiPrivateGetIncome", symbol=symbol, limit=1000)
        return trades, [row["incomeType"] for row in income]

    def change(self, symbol: str | None = "BTCUSDT", **wish: Any) -> list[Told]:
        answer = httpx.post(f"{self._url}/_control/instruments", json={"symbol": symbol, **wish}, timeout=30)
        assert answer.status_code == 200, answer.text
        return list(answer.json())

    def listed(self) -> list[Told]:
        return list(self.ask("fapiPublicGetV3ExchangeInfo", "fapiPublicGetExchangeInfo")["symbols"])

    def prices(self) -> dict[str, float]:
        rows = self.ask("fapiPublicGetV3TickerPrice", "fapiPublicGetTickerPrice")
        return {row["symbol"]: float(row["price"]) for row in rows}

    def close(self) -> None:
        self._exchange.session.close()


@pytest.fixture(params=sorted(VENUES))
def client(
    request: pytest.FixtureRequest, serve: Callable[[ASGIApp], str], exchange: SimulatedVenue
) -> Iterator[Client]:
    client = Client(request.param, serve(VENUES[request.param].app(exchange)))
    yield client
    client.close()


def test_a_step_that_grew_refuses_the_old_quantity(client: Client) -> None:
    client.order(quantity="0.066")
    client.change(step="0.01")
    assert client.code("SELL", quantity="0.066", reduceOnly="true") == -1111
    assert client.code("SELL", quantity="0.06", reduceOnly="true") == 0


def test_market_orders_and_stops_have_a_filter_of_their_own(client: Client) -> None:
    client.change(market_lot={"step": "0", "min_quantity": "0.002", "max_quantity": "0.05"})
    assert client.code(quantity="0.051") == -4005
    assert client.code(quantity="0.001") == -4004
    assert client.code(quantity="0.0025") == -1111
    assert client.code("SELL", "STOP_MARKET", quantity="0.051", stopPrice="20000") == -4005
    assert client.code("BUY", "LIMIT", quantity="0.051", price="20000", timeInForce="GTC") == 0


def test_prices_have_to_be_on_the_tick(client: Client) -> None:
    client.change(tick="0.5")
    assert client.code("BUY", "LIMIT", quantity="0.01", price="27000.3", timeInForce="GTC") == -4014
    assert client.code("SELL", "STOP_MARKET", quantity="0.01", stopPrice="27000.3") == -4014
    assert client.code("BUY", "LIMIT", quantity="0.01", price="27000.5", timeInForce="GTC") == 0


def test_a_filter_may_be_told_by_another_code(client: Client) -> None:
    client.change(tick="0.5", refused_with=-1013)
    assert client.code("BUY", "LIMIT", quantity="0.01", price="27000.3", timeInForce="GTC") == -1013


def test_a_notional_and_a_number_of_stops_are_bounded(client: Client) -> None:
    client.change(min_notional="100", max_stops=1)
    assert client.code(quantity="0.003") == -4164
    assert client.code("SELL", "STOP_MARKET", quantity="0.01", stopPrice="27000") == 0
    assert client.code("SELL", "STOP_MARKET", quantity="0.01", stopPrice="26000") == -4045


def test_orders_beyond_the_band_are_refused_by_kind_and_side(client: Client) -> None:
    client.change(multiplier_up="1.05", multiplier_down="0.95")
    assert client.code("BUY", "LIMIT", quantity="0.01", price="30000", timeInForce="IOC") == -4016
    assert client.code("SELL", "LIMIT", quantity="0.01", price="20000", timeInForce="IOC") == -4024
    assert client.code(quantity="0.01") == 0
    client.change(multiplier_up="1.00001")  # the ask is half a basis point above the mark
    assert client.code(quantity="0.01") == -4131


def test_a_symbol_that_is_not_traded_takes_reductions_only_or_nothing(client: Client) -> None:
    client.order(quantity="0.02")
    client.change(status="SETTLING")
    assert [row["status"] for row in client.listed()] == ["SETTLING"]
    assert client.code(quantity="0.01") == -4140
    assert client.code("SELL", quantity="0.01", reduceOnly="true") == 0
    client.change(reductions_refused=True)
    assert client.code("SELL", quantity="0.01", reduceOnly="true") == -1122


@pytest.mark.parametrize(
    ("settled", "trades", "kinds"),
    [
        ("trades", 2, ["COMMISSION", "REALIZED_PNL", "COMMISSION"]),
        ("REALIZED_PNL", 1, ["COMMISSION", "REALIZED_PNL"]),
        ("DELIVERED_SETTELMENT", 1, ["COMMISSION", "DELIVERED_SETTELMENT"]),
        ("nothing", 1, ["COMMISSION"]),
    ],
)
def test_a_symbol_that_vanishes_is_settled_and_its_record_stays(
    client: Client, settled: str, trades: int, kinds: list[str]
) -> None:
    client.order(quantity="0.02")
    client.change(None, list={"symbol": "ETHUSDT", "like": "BTCUSDT"})
    assert [row["symbol"] for row in client.change(remove=settled, price="27000")] == ["ETHUSDT"]
    assert client.held() == {}
    assert client.code(quantity="0.01") == -1121
    told, income = client.record()
    assert (len(told), income) == (trades, kinds)
    if settled == "trades":
        assert Decimal(told[-1]["price"]) == 27_000
    rows = client.ask("fapiPrivateGetV3Income", "fapiPrivateGetIncome", symbol="BTCUSDT", limit=1000)
    assert settled == "nothing" or any(Decimal(row["income"]) < -20 for row in rows)  # bought at 28,001.4


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("contract_type", ["CURRENT_QUARTER", "", None])
def test_a_dated_contract_is_listed_beside_the_perpetual_with_a_price_of_its_own(
    client: Client, *, first: bool, contract_type: str | None
) -> None:
    new = {"symbol": "BTCUSDT_261225", "like": "BTCUSDT", "jump_percent": 5}
    client.change(None, list=new | {"contract_type": contract_type, "first": first})
    names = ["BTCUSDT", "BTCUSDT_261225"]
    assert [row["symbol"] for row in client.listed()] == (names[::-1] if first else names)
    dated = next(row for row in client.listed() if row["symbol"] == "BTCUSDT_261225")
    assert (dated["pair"], dated["baseAsset"], dated.get("contractType")) == ("BTCUSDT", "BTC", contract_type)
    assert client.prices() == {"BTCUSDT": 28_000, "BTCUSDT_261225": 29_400}


def test_names_beyond_ascii_are_listed_and_traded(client: Client) -> None:
    client.change(None, list={"symbol": "币安人生USDT", "like": "BTCUSDT"})
    client.order(symbol="币安人生USDT", quantity="0.01")
    assert client.held() == {"币安人生USDT": Decimal("0.01")}


def test_a_wish_that_makes_no_sense_is_answered_with_what_is_wrong(client: Client) -> None:
    for wish in (
        {"symbol": "XYZ", "tick": 1},
        {"symbol": "BTCUSDT", "remove": "some"},
        {"symbol": "BTCUSDT", "tick": 0},
    ):
        assert httpx.post(f"{client._url}/_control/instruments", json=wish, timeout=30).status_code == 400
