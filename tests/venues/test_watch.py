"""What the watch over live positions does when the venue changes under its hands."""

import threading
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from engine.store.store import Store
from engine.store.webhook_rows import UnfinishedRequest
from simulator.venue.trading_account import Order
from simulator.venue.venue import SimulatedVenue
from tests.venues.conftest import Floor

STOP: dict[str, Any] = {"stop_loss_percent": 2}


def names(floor: Floor) -> set[str | None]:
    return {order.client_order_id for order in floor.waiting()}


def held_at(floor: Floor) -> tuple[Decimal | None, Decimal | None]:
    (position,) = floor.store.list_open_positions()
    return position.stop_loss_price, position.take_profit_price


def test_a_stop_that_is_refused_does_not_keep_the_target_from_its_place(floor: Floor) -> None:
    floor.send("a", **STOP, take_profit_percent=4)
    for order in floor.waiting():
        floor.account.cancel_order("BTCUSDT", order.client_order_id or "")
    floor.direct(refused_kinds=["STOP_MARKET"])
    floor.server.protection_watchdog.run()
    assert names(floor) == {floor.order_id("a", "t")}
    assert floor.metric("unprotected_positions") == 1
    floor.direct(refused_kinds=[])
    floor.server.protection_watchdog.run()
    assert names(floor) == {floor.order_id("a", "l"), floor.order_id("a", "t")}
    assert floor.metric("unprotected_positions") == 0


def test_an_order_that_the_books_do_not_know_is_noted_before_it_is_placed(floor: Floor) -> None:
    floor.send("a", **STOP)
    floor.sql("update positions set take_profit_price = 30000")
    floor.server.protection_watchdog.run()
    assert names(floor) == {floor.order_id("a", "l"), floor.order_id("a", "t")}
    assert floor.send(action="close")["action"] == "closed"
    assert floor.waiting() == []
    floor.check_books()


class FallsAsItIsCancelled(SimulatedVenue):
    """The price reaches the stop while somebody is about to cancel it."""

    is_armed = threading.Event()

    def cancel_order(self, user: str, params: Mapping[str, str]) -> Order:
        if self.is_armed.is_set():
            self.is_armed.clear()
            self.markets["BTCUSDT"].jump(self.clock.now_ms(), -5)
        return super().cancel_order(user, params)


class TestAStopForLessThanIsHeld:
    @pytest.fixture
    def make_exchange(self) -> type[SimulatedVenue]:
        return FallsAsItIsCancelled

    def test_that_fires_while_it_is_replaced_is_booked_and_only_the_rest_is_protected(self, floor: Floor) -> None:
        floor.send("a", **STOP)
        (order,) = floor.exchange.get_account(*floor.exchange._accounts).open_orders()
        order.quantity -= Decimal("0.003")
        FallsAsItIsCancelled.is_armed.set()
        floor.server.protection_watchdog.run()
        (trade,) = floor.store.list_trades()
        assert (trade.exit_reason, trade.quantity) == ("stop_loss", order.quantity)
        assert floor.net() == floor.booked()
        floor.check_books()


def test_an_addition_that_is_undone_leaves_what_was_held_at_its_own_stop_and_target(floor: Floor) -> None:
    floor.send("a", **STOP)
    before = held_at(floor)
    floor.direct(refused_kinds=["STOP_MARKET", "TAKE_PROFIT_MARKET"])
    assert "undone" in floor.send("b", stop_loss_percent=1, take_profit_percent=4)["error"]
    assert held_at(floor) == before
    floor.direct(refused_kinds=[])
    floor.server.protection_watchdog.run()
    assert names(floor) == {floor.order_id("a", "l")}
    floor.check_books()


def test_an_addition_has_its_own_stop_and_target_once_they_wait(floor: Floor) -> None:
    floor.send("a", **STOP)
    assert floor.send("b", stop_loss_percent=1, take_profit_percent=4)["action"] == "opened"
    assert held_at(floor) == (Decimal("27721.4"), Decimal("29121.4"))
    assert {order.quantity for order in floor.waiting()} == {floor.net()}
    assert names(floor) == {floor.order_id("b", "l"), floor.order_id("b", "t")}


def test_of_an_addition_that_is_undone_in_part_the_rest_is_protected_as_it_asked(floor: Floor) -> None:
    floor.send("a")
    floor.direct(refused_kinds=["STOP_MARKET"], fill_percent=50)
    floor.send("b", **STOP)
    assert held_at(floor)[0] is not None
    floor.direct(refused_kinds=[], fill_percent=100)
    floor.server.protection_watchdog.run()
    assert {order.quantity for order in floor.waiting()} == {floor.net()}
    floor.check_books()


def test_what_an_exit_books_while_the_watch_looks_is_not_protected_any_more(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    floor.send("a", **STOP)
    floor.account.cancel_order("BTCUSDT", floor.order_id("a", "l"))
    unfinished = type(floor.store).list_unfinished_requests
    smaller = iter([Decimal("0.004")])

    def meanwhile(store: Store) -> tuple[UnfinishedRequest, ...]:
        for quantity in smaller:
            floor.sql("update positions set quantity = %s", quantity)
        return unfinished(store)

    monkeypatch.setattr(type(floor.store), "list_unfinished_requests", meanwhile)
    floor.server.protection_watchdog.run()
    assert [order.quantity for order in floor.waiting()] == [Decimal("0.004")]


def test_a_stop_that_closed_more_than_the_books_hold_ends_its_position(floor: Floor) -> None:
    floor.send("a", **STOP)
    floor.sql("update positions set quantity = 0.004")
    floor.direct(symbol="BTCUSDT", jump_percent=-5)
    floor.account.fetch_positions()
    floor.server.protection_watchdog.run()
    assert floor.store.list_open_positions() == ()
    assert floor.store.list_unfinished_requests() == ()
    ((reason, quantity),) = floor.sql("select exit_reason, quantity from trades")
    assert (reason, quantity) == ("stop_loss", Decimal("0.004"))
