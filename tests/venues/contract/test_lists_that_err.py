"""Lists of instruments that are wrong for a while: they lack a symbol that is traded, or tell 0 as its step."""

from decimal import Decimal
from typing import Any

import pytest

from simulator.venue.api_error import VenueApiError
from tests.venues.conftest import Floor
from tests.venues.instruments import change, check_agreement, reload

BOOKS = pytest.mark.parametrize("environment", ["production", "paper"])


def lack(floor: Floor, times: int) -> None:
    """The list is read so many times without BTCUSDT, which goes on being traded; a search has just been made."""
    floor.account._exchange.listing.refresh_for_unlisted()  # type: ignore[attr-defined]
    market = floor.exchange.markets.pop("BTCUSDT")
    for _ in range(times):
        reload(floor)
    floor.exchange.markets["BTCUSDT"] = market


def refuse_orders(floor: Floor) -> None:
    """As a venue that knows the symbol no more, and shows the position still."""

    def refused(user: str, given: dict[str, str]) -> Any:
        raise VenueApiError(-1121, "Invalid symbol.")

    floor.exchange.place_order = refused  # type: ignore[method-assign,assignment]


@BOOKS
def test_one_list_that_lacks_a_symbol_stops_no_exit(floor: Floor, environment: str) -> None:
    floor.send("a", environment=environment, stop_loss_percent=2)
    change(floor, list={"symbol": "ETHUSDT", "like": "BTCUSDT"})
    lack(floor, 1)
    told = floor.send("x", action="close", environment=environment)
    assert (told["status"], told["action"]) == (200, "closed")
    (trade,) = floor.store.list_trades()
    assert trade.exit_reason not in {"delisted", "settled"}
    check_agreement(floor)


@BOOKS
def test_one_list_that_lacks_a_symbol_ends_no_position(floor: Floor, environment: str) -> None:
    floor.send("a", environment=environment, stop_loss_percent=2)
    change(floor, list={"symbol": "ETHUSDT", "like": "BTCUSDT"})
    lack(floor, 1)
    floor.server.mark_to_market.run_once()
    check_agreement(floor)
    assert floor.store.list_trades() == ()
    assert floor.booked() == Decimal("0.009")


@pytest.mark.parametrize("times", [2, 3])
def test_what_the_account_shows_is_closed_whatever_the_lists_say(floor: Floor, times: int) -> None:
    floor.send("a", stop_loss_percent=2)
    change(floor, list={"symbol": "ETHUSDT", "like": "BTCUSDT"})
    lack(floor, times)
    told = floor.send("x", action="close")
    assert (told["status"], told["action"]) == (200, "closed")
    assert floor.booked() == floor.net() == 0


def test_an_exit_of_what_is_gone_and_not_settled_yet_is_asked_for_again(floor: Floor) -> None:
    floor.send("a", stop_loss_percent=2)
    change(floor, list={"symbol": "ETHUSDT", "like": "BTCUSDT"})
    lack(floor, 2)
    place = floor.exchange.place_order
    refuse_orders(floor)
    market = floor.exchange.markets.pop("BTCUSDT")
    assert floor.send("x", action="close")["status"] == 503
    floor.exchange.markets["BTCUSDT"], floor.exchange.place_order = market, place  # type: ignore[method-assign]
    assert floor.send("x", action="close")["action"] == "closed"
    assert floor.booked() == floor.net() == 0


@BOOKS
@pytest.mark.parametrize("wish", [{"lot": {"step": "0"}}, {"lot": {"step": "0"}, "market_lot": {"step": "0"}}])
def test_a_step_of_0_is_no_step_and_in_the_way_of_nothing(floor: Floor, wish: dict[str, Any], environment: str) -> None:
    floor.send("a", environment=environment, stop_loss_percent=2)
    change(floor, **wish)
    told = floor.send("b", environment=environment, stop_loss_percent=2)
    assert (told["status"], told["action"], told["quantity"]) == (200, "opened", 0.009)
    floor.server.protection_watchdog.run()
    assert floor.metric("unprotected_positions") == 0
    assert floor.send("x", action="close", environment=environment)["remaining_quantity"] == 0
    assert floor.booked() == Decimal(0)
