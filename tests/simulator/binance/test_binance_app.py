"""The stand-in for Binance by hand: who may ask, what it weighs, and where conditional orders live."""

import hashlib
import hmac
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from engine.platform.http.service import HttpService
from engine.venues.ccxt_client.exchange_info import parse_perpetuals
from engine.venues.ccxt_client.request_weight import RequestWeightLimiter
from simulator.binance import binance_app
from simulator.binance.binance_auth import KEYS
from simulator.binance.binance_weights import get_request_weight
from simulator.market.candles import MINUTE_MS
from simulator.market.market import Market, MarketClock
from simulator.venue.venue import SimulatedVenue
from tests.support.factories.markets import START_MS, Hands, flat_then_rising

KEY, ANOTHER = KEYS
SECRET = KEYS[KEY].secret
Ask = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    series = flat_then_rising()
    clock = MarketClock(START_MS + 105 * MINUTE_MS, 1.0, series.end_ms, Hands())
    app = binance_app.create_binance(SimulatedVenue({"BTCUSDT": Market(series)}, clock))
    service = HttpService(app, "127.0.0.1", 0, "SPARKY_TEST_PORT", binance_app.HEALTH)
    service.start()
    yield service.url
    service.stop(1)


@pytest.fixture
def ask(url: str) -> Ask:
    """Sends a signed request; the status and what is answered."""

    def ask(
        method: str, path: str, *, key: str = KEY, secret: str = SECRET, at_ms: int | None = None, **given: object
    ) -> tuple[int, Any]:
        sent_ms = time.time_ns() // 1_000_000 if at_ms is None else at_ms
        text = urlencode({**given, "timestamp": sent_ms})
        signature = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        whole = f"{url}/fapi{path}?{text}&signature={signature}"
        answer = httpx.request(method, whole, headers={"X-MBX-APIKEY": key}, timeout=30)
        return answer.status_code, answer.json()

    return ask


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.mark.parametrize(
    ("wrong", "status", "code"),
    [
        ({"key": ""}, 401, -2014),
        ({"key": "short"}, 401, -2014),
        ({"key": "x" * 64}, 401, -2015),
        ({"secret": "another"}, 400, -1022),
        ({"key": ANOTHER}, 400, -1022),
        ({"at_ms": now_ms() - 60_000}, 400, -1021),
        ({"at_ms": now_ms() + 600_000}, 400, -1021),
    ],
)
def test_a_request_that_is_not_rightly_signed_is_refused_as_binance_does(
    ask: Ask, wrong: dict[str, Any], status: int, code: int
) -> None:
    answered, told = ask("GET", "/v3/balance", **wrong)
    assert (answered, told["code"]) == (status, code)


def test_a_longer_window_lets_an_older_request_in(ask: Ask) -> None:
    assert ask("GET", "/v3/balance", at_ms=now_ms() - 20_000, recvWindow=60_000)[0] == 200


def test_each_key_has_an_account_of_its_own(ask: Ask) -> None:
    ask("POST", "/v1/order", symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.01")
    assert len(ask("GET", "/v3/positionRisk")[1]) == 1
    assert ask("GET", "/v3/positionRisk", key=ANOTHER, secret=KEYS[ANOTHER].secret)[1] == []


@pytest.mark.parametrize("kind", ["STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"])
def test_a_conditional_order_is_refused_among_plain_ones(ask: Ask, kind: str) -> None:
    wanted = {"symbol": "BTCUSDT", "side": "SELL", "type": kind, "quantity": "0.01", "stopPrice": "27000"}
    status, told = ask("POST", "/v1/order", **wanted)
    assert (status, told["code"]) == (400, -4120)


def test_an_algo_id_is_taken_once_among_open_ones(ask: Ask) -> None:
    wanted = {"algoType": "CONDITIONAL", "symbol": "BTCUSDT", "side": "BUY", "type": "STOP_MARKET", "quantity": "0.01"}
    wanted |= {"triggerPrice": "29000", "clientAlgoId": "mine"}
    assert ask("POST", "/v1/algoOrder", **wanted)[1]["algoStatus"] == "NEW"
    assert ask("POST", "/v1/algoOrder", **wanted)[1]["code"] == -4116
    assert ask("DELETE", "/v1/algoOrder", clientAlgoId="mine")[1] == {
        "algoId": ask("GET", "/v1/algoOrder", clientAlgoId="mine")[1]["algoId"],
        "clientAlgoId": "mine",
        "code": "200",
        "msg": "success",
    }
    assert ask("DELETE", "/v1/algoOrder", clientAlgoId="mine")[1]["code"] == -2011
    assert ask("POST", "/v1/algoOrder", **wanted)[0] == 200
    assert ask("DELETE", "/v1/algoOpenOrders", symbol="BTCUSDT")[0] == 200
    assert ask("GET", "/v1/openAlgoOrders")[1] == []


@pytest.mark.parametrize(
    ("method", "path", "query", "weight"),
    [
        ("POST", "/v1/order", {}, 0),
        ("POST", "/v1/algoOrder", {}, 0),
        ("GET", "/v1/algoOrder", {}, 1),
        ("GET", "/v1/openAlgoOrders", {}, 40),
        ("GET", "/v1/openAlgoOrders", {"symbol": ["BTCUSDT"]}, 1),
        ("GET", "/v3/positionRisk", {}, 5),
        ("GET", "/v1/klines", {"limit": ["120"]}, 2),
    ],
)
def test_requests_weigh_what_binance_says(method: str, path: str, query: dict[str, list[str]], weight: int) -> None:
    assert get_request_weight(method, path, query) == weight


@pytest.mark.parametrize(
    "kind", [{"contractType": "CURRENT_QUARTER"}, {"contractType": ""}, {}, {"contractType": "PERPETUAL"}]
)
def test_dated_contracts_are_not_taken_for_the_perpetual(kind: dict[str, str]) -> None:
    pair = {"baseAsset": "BTC", "quoteAsset": "USDT"}
    row = pair | {"contractType": "PERPETUAL", "symbol": "BTCUSDT"}
    dated = pair | {"symbol": "BTCUSDT_261225"} | kind
    stock = row | {"baseAsset": "TSLA", "contractType": "TRADIFI_PERPETUAL", "symbol": "TSLAUSDT"}
    settling = row | {"baseAsset": "OLD", "contractType": "PERPETUAL_DELIVERING", "symbol": "OLDUSDT"}
    told = [
        each["symbol"] for each in parse_perpetuals({"symbols": [dated, row, stock, settling]}, RequestWeightLimiter())
    ]
    assert told == ["BTCUSDT", "TSLAUSDT", "OLDUSDT"]


def test_one_row_of_a_pair_is_taken_the_one_that_is_called_so() -> None:
    row = {"baseAsset": "BTC", "quoteAsset": "USDT", "contractType": "PERPETUAL", "symbol": "BTCUSDT"}
    other = row | {"symbol": "XBTUSDT"}
    for symbols in ([row, other], [other, row]):
        assert [each["symbol"] for each in parse_perpetuals({"symbols": symbols}, RequestWeightLimiter())] == [
            "BTCUSDT"
        ]
