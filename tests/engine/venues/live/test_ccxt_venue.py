"""Orders through the real ccxt with real V3 signatures: sent once, found again, and never believed lost too early."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from eth_account import Account

from engine.domain.errors import OrderOutcomeUnknown, OrderRejected, StrategyFault
from engine.platform.errors import ConfigurationError, UpstreamUnavailable
from engine.venues.live.ccxt_venue import CcxtVenue
from engine.venues.orders import OrderRequest, OrderStatus, build_client_order_id
from tests.engine.venues.conftest import TIMEOUT_S

ORDER = "/fapi/v3/order"
MARGIN = '{"code":-2019,"msg":"Margin is insufficient."}'
UNKNOWN = '{"code":-1007,"msg":"Timeout waiting for response from backend server."}'
Misbehave = Callable[..., None]
OpenVenue = Callable[..., CcxtVenue]


def order(number: int = 1, quantity: str = "0.01", **more: Any) -> OrderRequest:
    given = {"symbol": "BTCUSDT", "is_buy": True, "leverage": 3, **more}
    return OrderRequest(client_order_id=build_client_order_id(str(number)), quantity=Decimal(quantity), **given)


def address(number: int) -> str:
    return str(Account.from_key(f"{number:064x}").address)


def test_a_market_order_is_filled_and_its_fee_is_the_venues_own(open_venue: OpenVenue) -> None:
    result = open_venue().place_market_order(order(quantity="0.0123"))
    assert result.status is OrderStatus.FILLED
    assert (result.price, result.quantity) == (Decimal("28001.4"), Decimal("0.012"))
    assert result.fee_usd == Decimal("0.012") * Decimal("28001.4") * Decimal("0.0004")
    assert result.client_order_id == build_client_order_id("1")


def test_an_order_is_found_again_by_its_client_id_and_an_unknown_one_is_none(open_venue: OpenVenue) -> None:
    venue = open_venue()
    sent = venue.place_market_order(order())
    assert venue.find_order("BTCUSDT", build_client_order_id("1")) == sent
    assert venue.find_order("BTCUSDT", build_client_order_id("2")) is None


def test_a_reduce_only_order_closes_what_is_open_and_is_refused_when_nothing_is(open_venue: OpenVenue) -> None:
    venue = open_venue()
    venue.place_market_order(order(1, "0.010"))
    closed = venue.place_market_order(order(2, "0.500", is_buy=False, reduce_only=True))
    assert (closed.status, closed.quantity) == (OrderStatus.FILLED, Decimal("0.01"))
    with pytest.raises(OrderRejected, match="ReduceOnly"):
        venue.place_market_order(order(3, "0.010", is_buy=False, reduce_only=True))


def test_leverage_is_set_before_the_order_and_only_when_it_is_another(
    open_venue: OpenVenue, misbehave: Misbehave
) -> None:
    venue = open_venue()
    venue.place_market_order(order(1, leverage=5))
    misbehave({"kind": "status", "path": "/leverage", "status": 400, "body": '{"code":-4028,"msg":"Leverage 7 no"}'})
    venue.place_market_order(order(2, leverage=5))
    with pytest.raises(OrderRejected, match="Leverage 7"):
        venue.place_market_order(order(3, leverage=7))
    assert venue.find_order("BTCUSDT", build_client_order_id("3")) is None


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (order(quantity="0.0001"), "below the minimum"),
        (order(quantity="2000000"), "above the maximum"),
        (order(quantity="9"), "Margin is insufficient"),
    ],
)
def test_what_the_venue_does_not_take_is_refused(open_venue: OpenVenue, request_: OrderRequest, reason: str) -> None:
    with pytest.raises(OrderRejected, match=reason):
        open_venue().place_market_order(request_)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 503, "body": '{"code":-1000,"msg":"Unknown error, please try again later."}'},
        {"kind": "status", "status": 502, "body": "<html>bad gateway</html>"},
        {"kind": "status", "status": 408, "body": UNKNOWN},
        {"kind": "reset"},
        {"kind": "truncate"},
    ],
    ids=["503", "502", "timeout code", "reset", "truncated"],
)
def test_an_order_whose_answer_is_lost_is_unknown_and_then_found(
    open_venue: OpenVenue, misbehave: Misbehave, fault: dict[str, object]
) -> None:
    venue = open_venue()
    misbehave(fault | {"path": ORDER, "method": "POST", "accept": True})
    with pytest.raises(OrderOutcomeUnknown):
        venue.place_market_order(order())
    found = venue.find_order("BTCUSDT", build_client_order_id("1"))
    assert found is not None
    assert found.status is OrderStatus.FILLED


@pytest.mark.parametrize("body", ["<html>hello</html>", "{}", '{"orderId":1,"status":"NEW","symbol":"BTCUSDT"}'])
def test_an_answer_that_does_not_tell_the_fill_is_cleared_up_by_asking(
    open_venue: OpenVenue, misbehave: Misbehave, body: str
) -> None:
    fault = {"kind": "status", "status": 200, "body": body, "path": ORDER, "method": "POST"}
    misbehave(fault | {"accept": True})
    assert open_venue().place_market_order(order()).price == Decimal("28001.4")
    misbehave(fault)
    with pytest.raises(OrderOutcomeUnknown, match="does not exist"):
        open_venue().place_market_order(order(2))


def test_an_order_that_timed_out_is_unknown_and_then_found(open_venue: OpenVenue, misbehave: Misbehave) -> None:
    venue = open_venue()
    venue.fetch_instrument("BTCUSDT")
    misbehave({"kind": "hang", "seconds": TIMEOUT_S, "path": ORDER, "method": "POST", "accept": True})
    with pytest.raises(OrderOutcomeUnknown), venue._exchange.session.limit_timeout(2 / TIMEOUT_S):
        venue.place_market_order(order())
    assert venue.find_order("BTCUSDT", build_client_order_id("1")) is not None


def test_an_order_that_never_arrived_is_unknown_and_not_found(open_venue: OpenVenue, misbehave: Misbehave) -> None:
    venue = open_venue()
    misbehave({"kind": "reset", "path": ORDER, "method": "POST"})
    with pytest.raises(OrderOutcomeUnknown):
        venue.place_market_order(order())
    assert venue.find_order("BTCUSDT", build_client_order_id("1")) is None


def test_a_client_id_that_the_venue_already_has_gives_that_order(open_venue: OpenVenue, misbehave: Misbehave) -> None:
    venue = open_venue()
    first = venue.place_market_order(order())
    body = '{"code":-4115,"msg":"ClientOrderId is duplicated."}'
    misbehave({"kind": "status", "status": 400, "body": body, "path": ORDER, "method": "POST"})
    assert venue.place_market_order(order()) == first


def test_an_order_that_does_not_end_in_time_is_open(open_venue: OpenVenue, misbehave: Misbehave) -> None:
    body = '{"orderId":1,"status":"NEW","symbol":"BTCUSDT","origQty":"0.01","executedQty":"0","positionSide":"BOTH"}'
    misbehave({"kind": "status", "status": 200, "body": body, "path": ORDER, "times": None})
    assert open_venue().place_market_order(order()).status is OrderStatus.OPEN


@pytest.mark.parametrize("status", ["CANCELED", "EXPIRED", "REJECTED"])
def test_an_order_that_ended_without_a_fill_is_rejected(
    open_venue: OpenVenue, misbehave: Misbehave, status: str
) -> None:
    body = f'{{"orderId":1,"status":"{status}","symbol":"BTCUSDT","executedQty":"0","positionSide":"BOTH"}}'
    misbehave({"kind": "status", "status": 200, "body": body, "path": ORDER})
    assert open_venue().place_market_order(order()).status is OrderStatus.REJECTED


def test_a_fee_that_the_trades_do_not_tell_yet_is_the_taker_rate(open_venue: OpenVenue, misbehave: Misbehave) -> None:
    misbehave({"kind": "status", "status": 200, "body": "[]", "path": "/userTrades"})
    assert open_venue().place_market_order(order()).fee_usd == Decimal("0.01") * Decimal("28001.4") * Decimal("0.0004")


def test_trouble_after_the_order_was_sent_leaves_its_outcome_unknown(
    open_venue: OpenVenue, misbehave: Misbehave, direct: Callable[..., Any]
) -> None:
    venue = open_venue()
    direct(fill_delay_s=1)
    body = '{"code":-1003,"msg":"Too many"}'
    misbehave({"kind": "status", "path": ORDER, "method": "GET", "status": 429, "body": body})
    with pytest.raises(OrderOutcomeUnknown, match="was sent, then"):
        venue.place_market_order(order())


def test_a_429_is_surely_not_accepted(open_venue: OpenVenue, misbehave: Misbehave) -> None:
    body = '{"code":-1015,"msg":"Too many new orders"}'
    misbehave({"kind": "status", "path": ORDER, "status": 429, "headers": {"retry-after": "2"}, "body": body})
    with pytest.raises(UpstreamUnavailable) as caught:
        open_venue().place_market_order(order())
    assert caught.value.retry_after_s == 2


def test_a_refusal_in_the_venues_words_reaches_the_caller(open_venue: OpenVenue, misbehave: Misbehave) -> None:
    misbehave({"kind": "status", "path": ORDER, "status": 400, "body": MARGIN})
    with pytest.raises(OrderRejected, match=r"Margin is insufficient\. \(-2019\)"):
        open_venue().place_market_order(order())


def test_nobody_listening_is_unavailable_and_not_unknown(make_keys: Callable[[int], Any]) -> None:
    venue = CcxtVenue("aster", make_keys(7), "http://127.0.0.1:9")
    with pytest.raises(UpstreamUnavailable):
        venue.place_market_order(order())
    venue.close()


def test_an_unknown_symbol_is_the_strategys_fault(open_venue: OpenVenue) -> None:
    with pytest.raises(StrategyFault):
        open_venue().place_market_order(order(symbol="DOGEUSDT"))


def test_an_agents_key_trades_for_its_user_and_another_agent_is_not_let_in(
    open_venue: OpenVenue, make_keys: Callable[..., Any]
) -> None:
    agent = open_venue(make_keys(8, user_address=address(7)))
    agent.place_market_order(order(1))
    assert open_venue(make_keys(7, user_address=address(7))).find_order("BTCUSDT", build_client_order_id("1"))
    with pytest.raises(ConfigurationError, match="credentials"):
        open_venue(make_keys(9, user_address=address(7))).place_market_order(order(2))


def test_a_key_that_is_not_the_signers_is_bad_configuration(
    open_venue: OpenVenue, make_keys: Callable[..., Any]
) -> None:
    wrong = make_keys(7, signer_address=address(8), user_address=address(8))
    with pytest.raises(ConfigurationError, match="Signature for this request is not valid"):
        open_venue(wrong).place_market_order(order())


def test_many_orders_in_one_millisecond_have_different_nonces(open_venue: OpenVenue) -> None:
    venue = open_venue()
    venue.place_market_order(order(0))
    for _ in range(20):
        assert venue.find_order("BTCUSDT", build_client_order_id("0")) is not None


def test_errors_never_show_the_signature_or_the_key(open_venue: OpenVenue, misbehave: Misbehave) -> None:
    venue = open_venue()
    misbehave({"kind": "status", "status": 500, "path": ORDER, "method": "GET"})
    with pytest.raises(UpstreamUnavailable) as caught:
        venue.find_order("BTCUSDT", "so-1")
    assert "signature" not in str(caught.value)
    assert f"{7:064x}" not in str(caught.value)
