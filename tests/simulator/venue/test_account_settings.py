"""The simulated venue's accounts can be set up as real ones are found, from the same host only."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest

from engine.domain.errors import OrderRejected
from engine.platform.errors import CredentialsError, SparkyError
from engine.venues.live.ccxt_venue import CcxtVenue
from engine.venues.orders import OrderRequest, build_client_order_id
from tests.engine.venues.conftest import keys_of


@pytest.fixture
def arrange(aster_url: str) -> Callable[..., dict[str, Any]]:
    def change(**settings: object) -> dict[str, Any]:
        answer = httpx.post(f"{aster_url}/_control/settings", json=settings, timeout=30)
        return dict(answer.raise_for_status().json())

    return change


def order(number: int, **more: Any) -> OrderRequest:
    fields: dict[str, Any] = {"symbol": "BTCUSDT", "is_buy": True, "quantity": Decimal("0.01"), "leverage": None}
    return OrderRequest(client_order_id=build_client_order_id(str(number)), **fields | more)


def test_settings_change_what_they_name_and_are_shown(aster_url: str, arrange: Callable[..., dict[str, Any]]) -> None:
    arrange(hedge_mode=True, refused_ip="203.0.113.7")
    shown = arrange(clock_offset_s=-2.5)
    assert (shown["hedge_mode"], shown["refused_ip"], shown["clock_offset_s"]) == (True, "203.0.113.7", -2.5)
    assert arrange(refused_ip=None)["refused_ip"] is None
    assert httpx.get(f"{aster_url}/_control/settings", timeout=30).json()["hedge_mode"] is True


@pytest.mark.parametrize("body", ['{"hedge": true}', '{"isolated": ["DOGEUSDT"]}', '{"balance": -1}', "no json"])
def test_a_setting_that_does_not_exist_is_refused_and_changes_nothing(aster_url: str, body: str) -> None:
    before = httpx.get(f"{aster_url}/_control/settings", timeout=30).json()
    assert httpx.post(f"{aster_url}/_control/settings", content=body, timeout=30).status_code == 400
    assert httpx.get(f"{aster_url}/_control/settings", timeout=30).json() == before


def test_each_setting_refuses_as_the_real_venue_does(aster_url: str, arrange: Callable[..., dict[str, Any]]) -> None:
    venue = CcxtVenue("aster", keys_of(7), aster_url)
    venue.place_market_order(order(1))
    arrange(can_trade=False)
    with pytest.raises(OrderRejected, match="-4087"):
        venue.place_market_order(order(2))
    venue.place_market_order(order(3, is_buy=False, reduce_only=True))
    arrange(can_trade=True, hedge_mode=True)
    with pytest.raises(OrderRejected, match="-4061"):
        venue.place_market_order(order(4))
    arrange(hedge_mode=False, refused_ip="203.0.113.7")
    with pytest.raises(CredentialsError, match=r"203\.0\.113\.7"):
        venue.fetch_positions()
    arrange(refused_ip=None, balance="0")
    with pytest.raises(OrderRejected, match="-2019"):
        venue.place_market_order(order(5))
    venue.close()


def test_an_account_that_is_opened_later_has_the_same_settings(
    aster_url: str, arrange: Callable[..., dict[str, Any]]
) -> None:
    arrange(balance="250", isolated=["BTCUSDT"])
    venue = CcxtVenue("aster", keys_of(8), aster_url)
    state = venue.fetch_setup()
    assert (state.available_usd, state.margin["BTCUSDT"]) == (Decimal(250), "isolated")
    arrange(isolated=[])
    assert venue.fetch_setup().margin["BTCUSDT"] == "cross"
    venue.close()


def test_no_symbol_becomes_isolated_in_multi_assets_mode(
    aster_url: str, arrange: Callable[..., dict[str, Any]]
) -> None:
    arrange(multi_assets=True)
    venue = CcxtVenue("aster", keys_of(9), aster_url)
    with pytest.raises(SparkyError, match="-4168"), venue._query():
        venue._exchange.fapiPrivatePostV3MarginType({"symbol": "BTCUSDT", "marginType": "ISOLATED"})
    assert venue.fetch_setup().multi_assets is True
    venue.close()
