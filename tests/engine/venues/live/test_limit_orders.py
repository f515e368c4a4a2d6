"""Limit orders at the venue: at the limit or better and at once, or not at all."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from engine.domain.errors import OrderOutcomeUnknown, OrderRejected
from engine.venues.live.ccxt_venue import CcxtVenue
from engine.venues.orders import OrderRequest, OrderStatus, build_client_order_id

OpenVenue = Callable[..., CcxtVenue]
ASK, BID = Decimal("28001.4"), Decimal("27998.6")


def order(number: int = 1, **more: Any) -> OrderRequest:
    given = {"symbol": "BTCUSDT", "is_buy": True, "leverage": 3, "quantity": Decimal("0.01"), **more}
    return OrderRequest(client_order_id=build_client_order_id(str(number)), **given)


def test_a_limit_that_the_market_reaches_fills_at_the_markets_price(open_venue: OpenVenue) -> None:
    result = open_venue().place_limit_order(order(), Decimal(29_000))
    assert (result.status, result.price, result.quantity) == (OrderStatus.FILLED, ASK, Decimal("0.01"))


@pytest.mark.parametrize(("is_buy", "limit"), [(True, "28001.49"), (False, "27998.51")])
def test_the_limit_goes_to_the_tick_on_its_safe_side(open_venue: OpenVenue, *, is_buy: bool, limit: str) -> None:
    """28001.49 becomes 28001.4 and still buys; 27998.51 becomes 27998.6 and still sells."""
    result = open_venue().place_limit_order(order(is_buy=is_buy), Decimal(limit))
    assert result.price == (ASK if is_buy else BID)


@pytest.mark.parametrize(("is_buy", "limit"), [(True, "28001.39"), (False, "27998.61")])
def test_a_limit_that_the_market_does_not_reach_is_refused_and_leaves_nothing_behind(
    open_venue: OpenVenue, *, is_buy: bool, limit: str
) -> None:
    venue = open_venue()
    with pytest.raises(OrderRejected, match="beyond the limit price") as caught:
        venue.place_limit_order(order(is_buy=is_buy), Decimal(limit))
    assert caught.value.kind == "not_marketable"
    assert venue.fetch_open_orders("BTCUSDT") == ()
    found = venue.find_order("BTCUSDT", build_client_order_id("1"))
    assert found is not None
    assert found.status is OrderStatus.REJECTED


def test_a_limit_order_whose_answer_is_lost_is_unknown_and_then_found(
    open_venue: OpenVenue, misbehave: Callable[..., None]
) -> None:
    venue = open_venue()
    misbehave({"kind": "status", "status": 503, "path": "/order", "method": "POST", "accept": True})
    with pytest.raises(OrderOutcomeUnknown):
        venue.place_limit_order(order(), Decimal(29_000))
    found = venue.find_order("BTCUSDT", build_client_order_id("1"))
    assert found is not None
    assert found.price == ASK
