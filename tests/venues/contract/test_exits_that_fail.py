"""An exit that cannot be made, or only in part: nothing is forgotten, what is left is protected, the reason is told."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest

from simulator.venue.api_error import VenueApiError
from tests.venues.conftest import Floor
from tests.venues.contract.test_sizes_and_rests import cancel_all
from tests.venues.contract.test_split_exits import DEAF, LOST, MOST, SMALL, another
from tests.venues.instruments import change, check_agreement, orders_sent, trades
from webhook_server.app import WebhookServer

__all__ = ["another"]  # a fixture
STOP: dict[str, Any] = {"stop_loss_percent": 2}
BOOKS = pytest.mark.parametrize("environment", ["production", "paper"])
LEAST_OF_ONE: dict[str, Any] = {"market_lot": {"min_quantity": "1"}, "lot": {"min_quantity": "1"}}


@contextmanager
def refused(floor: Floor, begin: str, code: int) -> Iterator[None]:
    """The venue refuses orders whose ids begin so."""
    place = floor.exchange.place_order

    def refuses(user: str, params: Any) -> Any:
        if str(params.get("newClientOrderId")).startswith(begin):
            raise VenueApiError(code, "No.")
        return place(user, params)

    floor.exchange.place_order = refuses  # type: ignore[method-assign] # the venue's own doing
    yield
    floor.exchange.place_order = place  # type: ignore[method-assign]


@BOOKS
def test_what_is_too_little_for_an_order_and_worth_much_is_no_dust(floor: Floor, environment: str) -> None:
    book = {"environment": environment}
    floor.send("a", size=24_000, leverage=5, **STOP, **book)
    change(floor, **LEAST_OF_ONE)
    waiting = floor.waiting()
    told = floor.send("x", action="close", **book)
    assert (told["status"], told["success"]) == (200, False)
    assert "too little for an order" in told["error"]
    assert trades(floor) == []
    assert floor.waiting() == waiting
    (position,) = floor.store.list_open_positions()
    assert position.quantity > Decimal("0.8")
    assert floor.send("y", action="sell", size=100_000, leverage=5, **book)["success"] is False
    check_agreement(floor)  # the stop of before still waits
    change(floor, market_lot={"min_quantity": "0.001"}, lot={"min_quantity": "0.001"})
    assert floor.send("z", action="close", **book)["remaining_quantity"] == 0


def test_a_position_for_which_no_order_can_wait_counts_as_unprotected_and_is_not_forgotten(floor: Floor) -> None:
    floor.send("a", size=1_860, **STOP)
    change(floor, step="0.1")
    cancel_all(floor)
    floor.server.protection_watchdog.run()
    assert floor.metric("unprotected_positions") == 1
    floor.direct(jump_percent=-5)
    floor.server.mark_to_market.run_once()
    assert trades(floor) == []
    assert floor.booked() == floor.net() == Decimal("0.066")
    change(floor, step="0.001")
    floor.server.protection_watchdog.run()
    floor.server.mark_to_market.run_once()
    assert floor.send("x", action="close")["remaining_quantity"] == 0


def test_a_large_rest_of_an_exit_stays_in_the_books(floor: Floor) -> None:
    floor.send("a", size=1_860, **STOP)
    change(floor, step="0.05")
    told = floor.send("x", action="close")
    assert (told["quantity"], told["remaining_quantity"], told.get("dust")) == (0.05, 0.016, None)
    assert floor.booked() == floor.net() == Decimal("0.016")
    floor.server.protection_watchdog.run()
    assert floor.metric("unprotected_positions") == 1


@BOOKS
@pytest.mark.parametrize("step", ["0.1", "0.01"])
def test_nothing_ends_as_dust_by_a_list_that_is_old(floor: Floor, environment: str, step: str) -> None:
    book = {"environment": environment}
    floor.send("a", size=1_860, **STOP, **book)
    change(floor, step=step)
    small = {"step": "0.001", "min_quantity": "0.001"}
    change(floor, is_read=False, lot=small, market_lot=small)
    told = floor.send("x", action="close", **book)
    assert (told["action"], told["quantity"], told["remaining_quantity"]) == ("closed", 0.066, 0)
    assert told.get("dust") is None
    assert floor.net() == floor.booked() == 0
    check_agreement(floor)


def test_a_symbol_refused_in_the_middle_of_an_exit_leaves_what_was_done_in_the_books(floor: Floor) -> None:
    floor.send("a", **STOP)
    change(floor, **SMALL)
    with refused(floor, "sc1-", -1121):
        told = floor.send("x", action="close")
    assert (told["action"], told["quantity"], told["remaining_quantity"]) == ("closed", 0.004, 0.005)
    assert floor.net() == floor.booked() == Decimal("0.005")
    assert len(floor.waiting()) == 1
    assert floor.send("y", action="close")["remaining_quantity"] == 0
    check_agreement(floor)


def test_credentials_refused_in_the_middle_of_an_exit_leave_it_open_until_they_are_accepted(floor: Floor) -> None:
    floor.send("a", **STOP)
    change(floor, **SMALL)
    with refused(floor, "sc1-", -2015):
        assert floor.send("x", action="close")["status"] == 503
        assert len(floor.waiting()) == 1
        floor.server.recovery.run()
    floor.server.recovery.run()
    told = floor.send("x", action="close")
    assert (told["action"], told["quantity"], told["remaining_quantity"]) == ("closed", 0.009, 0)
    check_agreement(floor)


@pytest.mark.parametrize(("code", "status"), [(-1121, 503), (-2015, 400)])
def test_an_exit_that_is_refused_as_a_whole_leaves_the_position_protected(floor: Floor, code: int, status: int) -> None:
    floor.send("a", **STOP)
    with refused(floor, "sc-", code):
        told = floor.send("x", action="close")
    assert told["status"] == status
    assert len(floor.waiting()) == 1
    assert floor.send("y", action="close")["remaining_quantity"] == 0
    check_agreement(floor)


def test_an_exit_that_broke_off_is_finished_though_the_largest_order_grew(
    floor: Floor, another: Callable[[], WebhookServer]
) -> None:
    floor.send("a", **STOP)
    change(floor, **SMALL)
    floor.misbehave(LOST, DEAF | {"after": 1, "method": "POST"}, DEAF | {"method": "GET"})
    assert floor.send("x", action="close")["status"] == 503
    floor.misbehave()
    change(floor, market_lot={"max_quantity": "100"})
    another().recovery.run()
    told = floor.send("x", action="close")
    assert (told["action"], told["quantity"], told["remaining_quantity"]) == ("closed", 0.009, 0)
    check_agreement(floor)


def test_what_an_exit_that_broke_off_leaves_is_protected_again(
    floor: Floor, another: Callable[[], WebhookServer]
) -> None:
    floor.send("a", **STOP)
    change(floor, **SMALL)
    floor.misbehave(LOST, DEAF | {"after": 1, "method": "POST"}, DEAF | {"method": "GET"})
    assert floor.send("x", action="close", sell_percentage=50)["status"] == 503
    floor.misbehave()
    another().recovery.run()
    told = floor.send("x", action="close", sell_percentage=50)
    assert (told["quantity"], told["remaining_quantity"]) == (float(MOST), 0.005)
    assert [order.quantity for order in floor.waiting()] == [MOST]


@pytest.mark.parametrize("obstacle", [{"min_notional": "1000"}, {"status": "SETTLING"}], ids=["notional", "status"])
def test_an_exit_that_others_positions_keep_from_being_made_says_so_and_counts_as_unprotected(
    floor: Floor, obstacle: dict[str, Any]
) -> None:
    a, b = floor.strategy(), floor.strategy()
    floor.send("long", strategy_id=a, **STOP)
    floor.send("short", strategy_id=b, action="sell", **STOP)
    floor.server.protection_watchdog.run()
    assert floor.metric("unprotected_positions") == 0
    change(floor, **obstacle)
    told = floor.send("x", strategy_id=a, action="close")
    assert (told["status"], told["success"]) == (200, False)
    assert "opposite" in told["error"]
    floor.server.protection_watchdog.run()
    assert floor.metric("unprotected_positions") == 2
    assert len(floor.store.list_open_positions()) == 2


@pytest.mark.parametrize("least", ["250", "1000"])
def test_two_opposite_positions_too_little_for_orders_of_their_own_end_each_by_its_close(
    floor: Floor, least: str
) -> None:
    a, b = floor.strategy(), floor.strategy()
    floor.send("long", strategy_id=a, size=140, **STOP)
    floor.send("short", strategy_id=b, action="sell", size=170, **STOP)
    change(floor, min_notional=least)
    floor.server.protection_watchdog.run()
    assert floor.metric("unprotected_positions") == 0
    told = [floor.send(strategy_id=each, action="close") for each in (a, b)]
    assert [(each["action"], each["remaining_quantity"]) for each in told] == [("closed", 0)] * 2
    assert told[0]["dust"]["quantity"] == told[0]["quantity"]
    assert floor.store.list_open_positions() == ()
    assert floor.net() == 0
    assert floor.server.reconciliation.run() == ()
    assert floor.waiting() == []


@BOOKS
def test_an_exit_outside_the_price_band_is_asked_for_again(floor: Floor, environment: str) -> None:
    book = {"environment": environment}
    floor.send("a", **STOP, **book)
    waiting = len(floor.waiting())
    change(floor, multiplier_down="0.99999", multiplier_up="1.00001")
    sent = orders_sent(floor)
    told = floor.send("x", action="close", **book)
    assert told["status"] == 503
    assert "price" in told["error"]
    assert len(floor.waiting()) == waiting
    assert orders_sent(floor) <= sent + 1  # the stop that is put back
    change(floor, multiplier_down="0.5", multiplier_up="2")
    assert floor.send("x", action="close", **book)["remaining_quantity"] == 0
