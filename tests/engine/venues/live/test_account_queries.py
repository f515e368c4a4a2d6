"""What the account itself says it holds, how its leverage is made sure of, and why a request was refused."""

import decimal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from engine.domain.errors import OrderOutcomeUnknown, OrderRejected
from engine.domain.positions import Side
from engine.platform.errors import ConfigurationError, CredentialsError, UpstreamUnavailable
from engine.venues.account_state import Balance
from engine.venues.live.ccxt_venue import CcxtVenue
from engine.venues.orders import OrderRequest, OrderResult, OrderStatus, build_client_order_id
from engine.venues.venue import LiveVenue

ORDER = "/fapi/v3/order"
OpenVenue = Callable[..., CcxtVenue]
Misbehave = Callable[..., None]


def order(number: int = 1, **more: Any) -> OrderRequest:
    given = {"symbol": "BTCUSDT", "is_buy": True, "leverage": 3, "quantity": Decimal("0.01"), **more}
    return OrderRequest(client_order_id=build_client_order_id(str(number)), **given)


def test_positions_and_balance_are_the_venues_own_record(open_venue: OpenVenue) -> None:
    account: LiveVenue = open_venue()
    assert account.fetch_positions() == ()
    assert account.fetch_balance() == Balance(wallet_usd=Decimal(10_000), available_usd=Decimal(10_000))
    account.place_market_order(order(quantity=Decimal("0.02")))
    account.place_market_order(order(2, is_buy=False, quantity=Decimal("0.03")))
    (held,) = account.fetch_positions()
    assert (held.symbol, held.side, held.net, held.leverage) == ("BTCUSDT", Side.SHORT, Decimal("-0.01"), 3)
    assert held.entry_price == Decimal("27998.6")
    fees = Decimal("0.0004") * (Decimal("0.02") * Decimal("28001.4") + Decimal("0.03") * Decimal("27998.6"))
    assert account.fetch_balance().wallet_usd == 10_000 - fees - Decimal("0.02") * Decimal("2.8")


def test_open_orders_of_one_symbol_are_those_of_all_here(open_venue: OpenVenue, direct: Callable[..., Any]) -> None:
    venue = open_venue()
    direct(fill_delay_s=60)
    venue.place_market_order(order())
    (waiting,) = venue.fetch_open_orders()
    assert (waiting.kind, waiting.symbol, waiting.quantity) == ("market", "BTCUSDT", Decimal("0.01"))
    assert venue.fetch_open_orders("BTCUSDT") == (waiting,)


@pytest.mark.parametrize("path", ["/openOrders", "/positionRisk", "/balance"])
@pytest.mark.parametrize("body", ["<html>no</html>", '[{"surprise":1}]'], ids=["html", "another shape"])
def test_a_record_that_cannot_be_read_is_unavailable_and_not_empty(
    open_venue: OpenVenue, misbehave: Misbehave, path: str, body: str
) -> None:
    venue = open_venue()
    misbehave({"kind": "status", "status": 200, "body": body, "path": path})
    asks: dict[str, Callable[[], object]] = {
        "/openOrders": venue.fetch_open_orders,
        "/positionRisk": venue.fetch_positions,
        "/balance": venue.fetch_balance,
    }
    with pytest.raises(UpstreamUnavailable):
        asks[path]()


def test_leverage_that_is_not_what_was_asked_for_is_refused_before_any_order(
    open_venue: OpenVenue, misbehave: Misbehave
) -> None:
    venue = open_venue()
    capped = '[{"symbol":"BTCUSDT","leverage":"5","positionSide":"BOTH","marginType":"cross"}]'
    misbehave({"kind": "status", "status": 200, "body": capped, "path": "/positionRisk"})
    with pytest.raises(OrderRejected, match="leverage 7 was asked for and 5 is set") as caught:
        venue.place_market_order(order(leverage=7))
    assert caught.value.kind == "leverage"
    assert venue.find_order("BTCUSDT", build_client_order_id("1")) is None
    assert venue.place_market_order(order(leverage=7)).status is OrderStatus.FILLED


@pytest.mark.parametrize("path", ["/leverage", "/positionRisk"])
def test_leverage_that_cannot_be_made_sure_of_leaves_no_order(
    open_venue: OpenVenue, misbehave: Misbehave, path: str
) -> None:
    venue = open_venue()
    misbehave({"kind": "status", "status": 503, "path": path})
    with pytest.raises(UpstreamUnavailable):
        venue.place_market_order(order())
    assert venue.find_order("BTCUSDT", build_client_order_id("1")) is None


def test_an_exit_never_fails_over_its_leverage(open_venue: OpenVenue, misbehave: Misbehave) -> None:
    venue = open_venue()
    venue.place_market_order(order())
    misbehave({"kind": "status", "status": 503, "path": "/leverage", "times": None})
    assert venue.place_market_order(order(2, is_buy=False, reduce_only=True, leverage=9)).status is OrderStatus.FILLED
    assert venue.place_market_order(order(3, is_buy=False, leverage=None)).status is OrderStatus.FILLED


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"quantity": Decimal("0.0001")}, "filter"),
        ({"quantity": Decimal(2_000_000)}, "filter"),
        ({"quantity": Decimal(9)}, "funds"),
        ({"is_buy": False, "reduce_only": True}, "reduce_only"),
    ],
)
def test_a_refusal_says_of_which_kind_it_is(open_venue: OpenVenue, given: dict[str, Any], kind: str) -> None:
    with pytest.raises(OrderRejected) as caught:
        open_venue().place_market_order(order(**given))
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (-1111, "filter"),
        (-4164, "filter"),
        (-4005, "filter"),
        (-4028, "leverage"),
        (-4061, "account"),
        (-9999, "rejected"),
    ],
)
def test_the_venues_codes_are_told_apart(open_venue: OpenVenue, misbehave: Misbehave, code: int, kind: str) -> None:
    venue = open_venue()
    misbehave({"kind": "status", "status": 400, "body": f'{{"code":{code},"msg":"No."}}', "path": ORDER})
    with pytest.raises(OrderRejected, match=str(code)) as caught:
        venue.place_market_order(order())
    assert caught.value.kind == kind


@pytest.mark.parametrize("code", [-1002, -1022, -2014, -2015])
def test_keys_that_are_not_accepted_are_this_accounts_trouble_alone(
    open_venue: OpenVenue, misbehave: Misbehave, code: int
) -> None:
    venue = open_venue()
    misbehave({"kind": "status", "status": 401, "body": f'{{"code":{code},"msg":"No."}}', "path": "/balance"})
    with pytest.raises(CredentialsError) as caught:
        venue.fetch_balance()
    assert isinstance(caught.value, ConfigurationError)
    assert venue.fetch_balance().wallet_usd == 10_000


def test_an_order_that_fills_late_is_waited_for(open_venue: OpenVenue, direct: Callable[..., Any]) -> None:
    direct(fill_delay_s=1)
    result = open_venue().place_market_order(order())
    assert (result.status, result.price) == (OrderStatus.FILLED, Decimal("28001.4"))


def test_an_order_that_fills_too_late_is_open_and_then_found_filled(
    open_venue: OpenVenue, direct: Callable[..., Any], hands: Any
) -> None:
    direct(fill_delay_s=30)
    venue = open_venue()
    assert venue.place_market_order(order()).status is OrderStatus.OPEN
    direct(jump_percent=10)
    hands.now += 30
    found = venue.find_order("BTCUSDT", build_client_order_id("1"))
    assert found is not None
    assert (found.status, found.price) == (OrderStatus.FILLED, Decimal("30801.6"))


def test_the_threads_own_decimal_arithmetic_stays_as_it_was(open_venue: OpenVenue) -> None:
    with decimal.localcontext() as context:
        before = context.copy()
        open_venue().place_limit_order(order(), Decimal(29_000))
        after = decimal.getcontext()
        assert (after.prec, after.rounding, after.traps) == (before.prec, before.rounding, before.traps)


def test_an_exit_does_not_wait_for_another_order_of_the_account(
    open_venue: OpenVenue, direct: Callable[..., Any], hands: Any
) -> None:
    """While one thread sleeps between two looks at its order, another one trades."""
    venue = open_venue()
    venue.place_market_order(order(1))
    direct(fill_delay_s=60)
    exits: list[OrderResult] = []

    def meanwhile(_: float) -> None:
        if not exits:
            direct(fill_delay_s=0)
            exit_order = order(2, is_buy=False, reduce_only=True)
            with ThreadPoolExecutor() as pool:
                exits.append(pool.submit(venue.place_market_order, exit_order).result(timeout=30))

    venue._sleep = meanwhile
    assert venue.place_market_order(order(3)).status is OrderStatus.OPEN
    assert [each.status for each in exits] == [OrderStatus.FILLED]


def test_an_order_that_was_accepted_late_is_never_sent_again_by_its_sender(
    open_venue: OpenVenue, misbehave: Misbehave, direct: Callable[..., Any], hands: Any
) -> None:
    """The answer is lost and the order still waits: asking gives OPEN, sending it again gives the same order."""
    direct(fill_delay_s=60)
    venue = open_venue()
    misbehave({"kind": "status", "status": 503, "path": ORDER, "method": "POST", "accept": True})
    with pytest.raises(OrderOutcomeUnknown):
        venue.place_market_order(order())
    waiting = venue.find_order("BTCUSDT", build_client_order_id("1"))
    assert waiting is not None
    assert waiting.status is OrderStatus.OPEN
    assert venue.place_market_order(order()).order_id == waiting.order_id
    hands.now += 60
    (held,) = venue.fetch_positions()
    assert held.quantity == Decimal("0.01")
