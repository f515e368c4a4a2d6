"""The simulated venue in somebody's hands: prices that jump, fills that take their time, and its limit of requests."""

import itertools
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from simulator.market.candles import MINUTE_MS
from simulator.market.market import Market
from simulator.venue.api_error import VenueApiError
from simulator.venue.venue import SimulatedVenue

START_MS = 1_700_000_040_000


@pytest.fixture
def direct(aster_url: str) -> Callable[..., httpx.Response]:
    def wish(**wishes: object) -> httpx.Response:
        return httpx.post(f"{aster_url}/_control/market", json=wishes, timeout=30)

    return wish


def public(url: str, path: str, **query: str | int) -> Any:
    return httpx.get(f"{url}/fapi/v3{path}", params=query, timeout=30).json()


def test_a_jump_moves_every_price_and_the_candle_around_it(
    aster_url: str, direct: Callable[..., httpx.Response], hands: Any
) -> None:
    hands.now = 30.0
    assert direct(symbol="BTCUSDT", jump_percent=-10).json()["prices"] == {"BTCUSDT": "25200.0"}
    assert public(aster_url, "/ticker/price", symbol="BTCUSDT")["price"] == "25200.0"
    assert public(aster_url, "/ticker/24hr", symbol="BTCUSDT")["priceChangePercent"] == "-10.000"
    best = public(aster_url, "/ticker/bookTicker", symbol="BTCUSDT")
    assert float(best["bidPrice"]) < 25_200 < float(best["askPrice"])
    hands.now = 120.0
    before, jumped, after = public(aster_url, "/klines", symbol="BTCUSDT", interval="1m", limit=4)[:3]
    assert [float(value) for value in before[1:5]] == [28_000.0] * 4
    assert [float(value) for value in jumped[1:5]] == [28_000.0, 28_000.0, 25_200.0, 25_200.0]
    assert [float(value) for value in after[1:5]] == [25_200.0] * 4


def test_jumps_add_up_and_the_market_goes_on_from_there(
    exchange: SimulatedVenue, direct: Callable[..., httpx.Response], hands: Any
) -> None:
    direct(jump_percent=10)
    direct(jump_percent=-50)
    hands.now = 60.0 * 6  # the series itself rises from 28,000 to 28,100
    assert str(exchange.get_price("BTCUSDT")) == "15455.0"


def test_the_path_is_whole_whatever_part_of_it_is_asked_for(exchange: SimulatedVenue) -> None:
    market: Market = exchange.markets["BTCUSDT"]
    jump_ms = START_MS + 112 * MINUTE_MS + 45_000
    market.jump(jump_ms, 5)
    since_ms, until_ms = START_MS + 110 * MINUTE_MS + 10_000, START_MS + 114 * MINUTE_MS
    path = list(market.iter_segments(since_ms, until_ms))
    assert (path[0].since_ms, path[-1].until_ms) == (since_ms, until_ms)
    assert path[-1].last == market.get_price(until_ms)
    for before, after in itertools.pairwise(path):
        assert before.until_ms == after.since_ms
        assert (before.last == after.first) is (after.since_ms != jump_ms)
    assert [each.first for each in market.iter_segments(jump_ms, jump_ms)] == [market.get_price(jump_ms)]


@pytest.mark.parametrize(
    "wishes",
    [
        {"jump_percent": -100},
        {"fill_delay_s": -1},
        {"surprise": 1},
        {"fill_percent": 0},
        {"refused_kinds": ["X"]},
        {"symbol": "NOPE", "jump_percent": 1},
    ],
)
def test_a_wish_that_makes_no_sense_is_refused_and_changes_nothing(
    direct: Callable[..., httpx.Response], wishes: dict[str, object]
) -> None:
    before = direct().json()
    assert direct(**wishes).status_code == 400
    assert direct().json() == before


def test_every_answer_tells_the_weight_and_beyond_the_limit_comes_429_and_then_the_ban(
    aster_url: str, direct: Callable[..., httpx.Response]
) -> None:
    direct(weight_per_minute=50)
    path = f"{aster_url}/fapi/v3/exchangeInfo"
    first = httpx.get(path, timeout=30)
    assert first.headers["X-MBX-USED-WEIGHT-1M"] == "1"
    assert first.json()["rateLimits"][0]["limit"] == 50
    httpx.get(f"{aster_url}/fapi/v3/ticker/24hr", timeout=30)
    with httpx.Client(timeout=30) as client:
        answers = [client.get(path) for _ in range(70)]
    assert [answer.status_code for answer in answers] == [200] * 9 + [429] * 51 + [418] * 10
    refused = answers[9]
    assert refused.json()["code"] == -1003
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert 100 <= int(answers[-1].headers["Retry-After"]) <= 120


def test_the_control_address_weighs_nothing(direct: Callable[..., httpx.Response]) -> None:
    assert direct().json()["weight_used"] == 0
    assert direct().json()["weight_used"] == 0


def test_a_venue_without_a_limit_tells_of_none(aster_url: str, direct: Callable[..., httpx.Response]) -> None:
    direct(weight_per_minute=0)
    answer = httpx.get(f"{aster_url}/fapi/v3/exchangeInfo", timeout=30)
    assert answer.json()["rateLimits"] == []
    assert answer.headers["X-MBX-USED-WEIGHT-1M"] == "0"


def test_kinds_of_orders_are_refused_for_as_long_as_it_is_told(
    exchange: SimulatedVenue, direct: Callable[..., httpx.Response]
) -> None:
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}
    assert direct(refused_kinds=["MARKET"]).json()["refused_kinds"] == ["MARKET"]
    with pytest.raises(VenueApiError) as refused:
        exchange.place_order("somebody", order)
    assert refused.value.code == -2010
    assert exchange.get_account("somebody").orders == {}
    direct(refused_kinds=[])
    assert exchange.place_order("somebody", order).status == "FILLED"


def test_market_orders_fill_in_part_and_the_rest_expires(
    exchange: SimulatedVenue, direct: Callable[..., httpx.Response]
) -> None:
    direct(fill_percent=40)
    order = exchange.place_order(
        "somebody", {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.009"}
    )
    assert (order.status, str(order.quantity), str(order.filled)) == ("EXPIRED", "0.009", "0.003")
    assert str(exchange.get_account("somebody").get_holding("BTCUSDT").amount) == "0.003"
    direct(fill_percent=0.001)
    none = exchange.place_order("somebody", {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.009"})
    assert (none.status, str(none.filled)) == ("EXPIRED", "0")
