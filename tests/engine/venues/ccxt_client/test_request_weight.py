"""The venue's limits, kept by everybody in the process: pure rules first, then against the simulator's own count."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.errors import OrderOutcomeUnknown
from engine.platform.errors import UpstreamUnavailable
from engine.venues.ccxt_client.request_weight import (
    DEFAULT_PAUSE_S,
    PROBE_INTERVAL_S,
    RequestWeightLimiter,
    WeightState,
    get_shared_limiter,
)
from engine.venues.live.ccxt_venue import CcxtVenue
from engine.venues.market_data.client import MarketData
from engine.venues.orders import OrderRequest, OrderStatus
from simulator.futures_api.request_weights import get_request_weight
from simulator.venue.weight_meter import BAN_S, MAX_REFUSED, WeightMeter

OpenVenue = Callable[..., CcxtVenue]
times = st.floats(min_value=0, max_value=1e6)


def order(name: str) -> OrderRequest:
    return OrderRequest(client_order_id=name, symbol="BTCUSDT", is_buy=True, quantity=Decimal("0.01"), leverage=None)


@given(now=times, status=st.sampled_from([429, 418]), wait_s=st.none() | st.floats(0, 86_400), urgent=st.booleans())
def test_after_a_refusal_nobody_asks_until_the_venue_wants_it(
    now: float, status: int, wait_s: float | None, *, urgent: bool
) -> None:
    load = WeightState().with_response(now, status, None, wait_s)
    expected = DEFAULT_PAUSE_S[status] if wait_s is None else wait_s
    assert load.calculate_wait_s(now, is_urgent=urgent) == pytest.approx(expected, abs=1e-6)
    assert load.calculate_wait_s(now + expected + 1e-3, is_urgent=urgent) == 0


def test_a_longer_pause_is_not_shortened_by_a_later_answer() -> None:
    load = WeightState().with_response(0, 418, None, 300).with_response(1, 429, None, 2).with_response(2, 200, 1, None)
    assert load.calculate_wait_s(100, is_urgent=True) == 200


def test_near_the_limit_the_patient_probe_now_and_then_and_the_urgent_go_on() -> None:
    load = WeightState(limit=100).with_response(0, 200, 84, None).with_request(0)
    assert load.calculate_wait_s(0, is_urgent=False) == 0
    load = load.with_response(0, 200, 85, None)
    assert load.calculate_wait_s(0, is_urgent=True) == 0
    assert load.calculate_wait_s(1, is_urgent=False) == PROBE_INTERVAL_S - 1
    assert load.calculate_wait_s(PROBE_INTERVAL_S, is_urgent=False) == 0
    assert (
        load.with_request(PROBE_INTERVAL_S).calculate_wait_s(PROBE_INTERVAL_S + 1, is_urgent=False)
        == PROBE_INTERVAL_S - 1
    )
    assert load.with_request(60).calculate_wait_s(60, is_urgent=False) == 0


def test_one_address_has_one_count_in_the_process() -> None:
    assert get_shared_limiter("http://one") is get_shared_limiter("http://one")
    assert get_shared_limiter("http://one") is not get_shared_limiter("http://other")


@pytest.mark.parametrize(("status", "code"), [(429, -1003), (418, -1003), (429, -1015)])
def test_retry_after_is_honoured_by_every_client_of_the_address(
    open_venue: OpenVenue,
    market_data: MarketData,
    misbehave: Callable[..., None],
    hands: Any,
    status: int,
    code: int,
) -> None:
    venue = open_venue()
    market_data.fetch_quote("BTCUSDT")
    body = f'{{"code":{code},"msg":"Too many requests."}}'
    misbehave({"kind": "status", "path": "/order", "status": status, "headers": {"retry-after": "30"}, "body": body})
    with pytest.raises(UpstreamUnavailable) as first:
        venue.place_market_order(order("one"))
    assert first.value.retry_after_s == 30
    hands.now += 20
    for ask in (
        venue.fetch_balance,
        lambda: market_data.fetch_quote("BTCUSDT"),
        lambda: venue.place_market_order(order("two")),
    ):
        with pytest.raises(UpstreamUnavailable, match="not asked") as later:
            ask()
        assert later.value.retry_after_s == pytest.approx(10)
    hands.now += 10
    assert venue.find_order("BTCUSDT", "one") is None
    assert venue.place_market_order(order("one")).status is OrderStatus.FILLED


def test_a_limit_that_is_reached_after_the_order_was_sent_leaves_it_unknown(
    open_venue: OpenVenue, misbehave: Callable[..., None], direct: Callable[..., Any], hands: Any
) -> None:
    venue = open_venue()
    direct(fill_delay_s=1)
    misbehave({"kind": "status", "path": "/order", "method": "GET", "status": 429, "headers": {"retry-after": "5"}})
    with pytest.raises(OrderOutcomeUnknown, match="was sent"):
        venue.place_market_order(order("one"))
    with pytest.raises(UpstreamUnavailable):
        venue.find_order("BTCUSDT", "one")
    hands.now += 5
    assert venue.find_order("BTCUSDT", "one") is not None


def test_market_data_leaves_a_share_of_the_limit_to_orders(
    open_venue: OpenVenue,
    market_data: MarketData,
    direct: Callable[..., Any],
    backoff: RequestWeightLimiter,
    hands: Any,
) -> None:
    """The limit is learnt from exchangeInfo; asking for prices stops by itself before the venue has to say so."""
    assert direct(weight_per_minute=20)["weight_per_minute"] == 20
    while direct()["weight_used"] < 17:
        market_data.fetch_ticker("BTCUSDT")
    with pytest.raises(UpstreamUnavailable, match="not asked"):
        market_data.fetch_ticker("BTCUSDT")
    assert backoff.state.limit == 20
    assert direct()["weight_used"] == 17
    venue = open_venue()
    assert venue.place_market_order(order("exit")).status is OrderStatus.FILLED
    hands.now += 60
    assert market_data.fetch_ticker("BTCUSDT").last == 28_000


def test_the_simulator_counts_weight_and_bans_who_goes_on() -> None:
    now = 0.0
    meter = WeightMeter(limit=10, monotonic=lambda: now)
    assert [meter.admit(5), meter.admit(5)] == [None, None]
    refused = [meter.admit(1) for _ in range(MAX_REFUSED + 2)]
    assert [each.status for each in refused if each is not None] == [429] * (MAX_REFUSED + 1) + [418]
    now = 61.0
    banned = meter.admit(1)
    assert banned is not None
    assert (banned.status, banned.retry_after_s) == (418, BAN_S - 61)
    now = 121.0
    assert meter.admit(1) is None
    assert meter.used == 1


@pytest.mark.parametrize(
    ("method", "path", "query", "weight"),
    [
        ("GET", "/klines", {"limit": ["99"]}, 1),
        ("GET", "/klines", {"limit": ["120"]}, 2),
        ("GET", "/klines", {"limit": ["500"]}, 5),
        ("GET", "/depth", {"limit": ["5"]}, 2),
        ("GET", "/depth", {"limit": ["9999"]}, 20),
        ("GET", "/openOrders", {}, 40),
        ("GET", "/openOrders", {"symbol": ["X"]}, 1),
        ("GET", "/positionRisk", {}, 5),
        ("POST", "/order", {}, 1),
    ],
)
def test_requests_weigh_what_the_venue_documents(
    method: str, path: str, query: dict[str, list[str]], weight: int
) -> None:
    assert get_request_weight(method, path, query) == weight
