"""A position never stays unprotected when protection was asked for, whatever the venue does in between."""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests
from structlog.testing import capture_logs

from simulator.venue.trading_account import Order
from simulator.venue.venue import SimulatedVenue
from tests.support.clients.trading import PROTECTIVE
from tests.venues.conftest import Floor
from tests.venues.test_changes_at_the_venue import by_hand
from webhook_server.app import build
from webhook_server.clock import SystemClock

PATIENCE_S = 120.0
UNPROTECTED_S = 35.0  # the longest that something may be without protection for a reason that is over
STOP: dict[str, Any] = {"stop_loss_percent": 2}
TOO_MANY = {"kind": "status", "status": 429, "path": "/order", "method": "POST", "headers": {"retry-after": "1"}}
NO_KEY = {
    "kind": "status",
    "status": 401,
    "path": "/order",
    "body": '{"code": -2014, "msg": "API-key format invalid."}',
}


def names(floor: Floor) -> set[str | None]:
    return {order.client_order_id for order in floor.waiting()}


def test_an_entry_whose_protection_is_refused_is_undone_at_the_venue_and_in_the_books(floor: Floor) -> None:
    floor.direct(refused_kinds=PROTECTIVE)
    told = floor.send("a", **STOP, take_profit_percent=4)
    assert (told["success"], told["action"]) == (False, "rejected")
    assert "undone" in told["error"]
    assert floor.net() == 0
    assert floor.waiting() == []
    assert [trade.exit_reason for trade in floor.store.list_trades()] == ["unprotected"]
    assert floor.metric("entries_undone_total") == 1
    floor.check_books()


def test_an_undo_that_is_refused_leaves_a_position_that_is_alerted_and_protected_as_soon_as_it_can_be(
    floor: Floor,
) -> None:
    floor.misbehave({"kind": "status", "status": 400, "path": "/order", "method": "POST", "after": 1, "times": 2,
                     "body": '{"code": -2010, "msg": "New order is rejected."}'})  # fmt: skip
    floor.direct(refused_kinds=["TAKE_PROFIT_MARKET"])
    told = floor.send("a", **STOP, take_profit_percent=4)
    assert (told["status"], told["success"], told["action"]) == (200, False, "unprotected")
    assert floor.send("a", **STOP, take_profit_percent=4)["action"] == "unprotected"
    assert floor.metric("protection_failures_total", after="undo") == 1
    assert floor.net() > 0
    floor.server.protection_watchdog.run()
    assert floor.metric("unprotected_positions") == 1
    assert len(floor.waiting()) == 1  # half of it is better than none
    floor.direct(refused_kinds=[])
    floor.server.protection_watchdog.run()
    assert floor.metric("unprotected_positions") == 0
    assert len(floor.waiting()) == 2
    assert floor.send(action="close")["action"] == "closed"
    assert floor.waiting() == []
    floor.check_books()


def test_an_undo_that_fills_in_part_leaves_a_rest_that_is_protected(floor: Floor) -> None:
    floor.direct(refused_kinds=PROTECTIVE, fill_percent=50)
    told = floor.send("a", **STOP)
    assert "did not take back" in told["error"]
    assert floor.metric("protection_failures_total", after="undo") == 1
    floor.direct(refused_kinds=[], fill_percent=100)
    floor.server.protection_watchdog.run()
    (order,) = floor.waiting()
    assert order.quantity == floor.net() == floor.booked() > 0
    floor.check_books()


@pytest.mark.parametrize("fault", [TOO_MANY, NO_KEY], ids=["too many requests", "credentials revoked"])
def test_an_entry_that_can_neither_be_protected_nor_undone_now_is_finished_later_and_never_made_twice(
    floor: Floor, fault: dict[str, Any]
) -> None:
    floor.misbehave(fault | {"after": 1, "times": None})
    assert floor.send("a", **STOP)["status"] == 503
    assert floor.store.list_unfinished_requests()[0].status == "filled"
    floor.misbehave()
    deadline = time.monotonic() + PATIENCE_S
    while (told := floor.send("a", **STOP))["status"] == 503:  # as long as the venue wanted to be left alone
        assert time.monotonic() < deadline, told
        time.sleep(0.1)
    assert told["action"] == "opened"
    assert names(floor) == {floor.order_id("a", "l")}
    floor.check_books()


def test_protection_that_somebody_cancelled_at_the_venue_is_placed_again(floor: Floor) -> None:
    floor.send("a", **STOP, take_profit_percent=4)
    floor.account.cancel_order("BTCUSDT", floor.order_id("a", "l"))
    with capture_logs() as lines:
        floor.server.protection_watchdog.run()
    assert names(floor) == {floor.order_id("a", "l"), floor.order_id("a", "t")}
    assert [line["log_level"] for line in lines if line["event"] == "protection_replaced"] == ["warning"]
    assert floor.metric("protection_replaced_total") == 1
    assert floor.metric("unprotected_positions") == 0


def test_protection_for_less_than_is_held_is_replaced(floor: Floor) -> None:
    floor.send("a", **STOP)
    (order,) = floor.exchange.get_account(*floor.exchange._accounts).open_orders()
    order.quantity -= Decimal("0.003")
    floor.server.protection_watchdog.run()
    assert [order.quantity for order in floor.waiting()] == [floor.net()]


def test_what_is_gone_at_the_venue_is_not_protected_again(floor: Floor) -> None:
    floor.send("a", **STOP)
    account = floor.exchange.get_account(*floor.exchange._accounts)
    account.get_holding("BTCUSDT").amount = Decimal(0)  # and no trade of it is in the record
    floor.account.cancel_order("BTCUSDT", floor.order_id("a", "l"))
    floor.server.protection_watchdog.run()
    assert floor.waiting() == []
    (difference,) = floor.server.reconciliation.run()
    assert "by its record" in (difference.reason or "")
    told = floor.send(action="close")
    assert (told["success"], "sparky reconcile" in told["error"]) == (False, True)
    assert floor.waiting() == []


def test_a_server_that_lost_its_lease_restores_nothing(floor: Floor) -> None:
    floor.send("a", **STOP)
    floor.account.cancel_order("BTCUSDT", floor.order_id("a", "l"))
    server = floor.build_another(lease_owner="this one")
    assert floor.store.hold_webhook_lease("this one", 600)
    floor.store.release_webhook_lease("this one")
    server.protection_watchdog.run()
    assert floor.waiting() == []
    assert floor.store.hold_webhook_lease("this one", 600)
    server.protection_watchdog.run()
    assert [order.client_order_id for order in floor.waiting()] == [floor.order_id("a", "l")]
    floor.store.release_webhook_lease("this one")


def test_a_venue_that_is_away_is_asked_once_and_what_is_known_stays_known(floor: Floor) -> None:
    for _ in range(2):
        floor.send(strategy_id=floor.strategy(), **STOP)
    floor.account.cancel_order("BTCUSDT", floor.waiting()[0].client_order_id or "")
    floor.direct(refused_kinds=PROTECTIVE)
    floor.server.protection_watchdog.run()
    assert floor.metric("unprotected_positions") == 1
    floor.misbehave({"kind": "reset", "path": "/openOrders", "times": 2})
    floor.server.protection_watchdog.run()
    (left,) = requests.get(f"{floor.venue_url}/_control/faults", timeout=30).json()
    assert left["times"] == 1
    assert floor.metric("unprotected_positions") == 1


def test_an_exit_that_is_refused_is_protected_again_or_alerted(floor: Floor) -> None:
    floor.send("a", **STOP)
    floor.direct(refused_kinds=["MARKET"])
    assert floor.send(action="close")["success"] is False
    assert names(floor) == {floor.order_id("a", "l")}
    floor.direct(refused_kinds=["MARKET", *PROTECTIVE])
    assert floor.send(action="close")["success"] is False
    assert floor.metric("protection_failures_total", after="exit") == 1
    floor.server.protection_watchdog.run()
    assert floor.metric("unprotected_positions") == 1
    floor.direct(refused_kinds=[])
    floor.server.protection_watchdog.run()
    assert floor.metric("unprotected_positions") == 0
    assert floor.send(action="close")["action"] == "closed"
    floor.check_books()


def test_an_exit_that_fills_in_part_leaves_the_rest_protected(floor: Floor) -> None:
    floor.send("a", **STOP)
    floor.direct(fill_percent=50)
    told = floor.send(action="close")
    assert told["action"] == "closed"
    (order,) = floor.waiting()
    assert order.quantity == floor.net() > 0
    floor.check_books()


def test_a_stop_that_fired_unseen_is_booked_before_the_position_is_added_to(floor: Floor) -> None:
    floor.send("a", **STOP)
    floor.direct(jump_percent=-5)
    told = floor.send("b", **STOP)
    assert told["action"] == "opened"
    assert told["closed"]["quantity"] > 0
    (trade,) = floor.store.list_trades()
    assert (trade.exit_reason, trade.exit_price) == ("stop_loss", Decimal(26_600))
    (order,) = floor.waiting()
    assert (order.client_order_id, order.quantity) == (floor.order_id("b", "l"), floor.net())
    floor.check_books()


SECOND = 2


class Ambush(SimulatedVenue):
    """The price falls by 5 % right after the second entry."""

    entries = 0

    def place_order(self, user: str, params: Any) -> Order:
        order = super().place_order(user, params)
        self.entries += (order.client_order_id or "").startswith("so-")
        if self.entries == SECOND:
            self.entries += 1
            self.markets["BTCUSDT"].jump(self.clock.now_ms(), -5)
        return order


class TestWhileItIsAddedTo:
    @pytest.fixture
    def make_exchange(self) -> type[SimulatedVenue]:
        return Ambush

    def test_a_stop_that_fires_is_booked_and_what_is_left_is_protected(self, floor: Floor) -> None:
        floor.send("a", **STOP)
        told = floor.send("b", stop_loss_percent=20)
        assert told["action"] == "opened"
        assert [trade.exit_reason for trade in floor.store.list_trades()] == ["stop_loss"]
        (order,) = floor.waiting()
        assert (order.client_order_id, order.quantity) == (floor.order_id("b", "l"), floor.net())
        floor.check_books()

    def test_an_addition_beyond_the_stop_is_undone(self, floor: Floor) -> None:
        floor.send("a", **STOP)
        assert floor.send("b")["success"] is False
        floor.server.protection_watchdog.run()
        assert floor.waiting() == []
        assert {trade.exit_reason for trade in floor.store.list_trades()} == {"stop_loss", "unprotected"}
        assert floor.net() == 0
        floor.check_books()


@dataclass(frozen=True)
class Ahead(SystemClock):
    """The host's clock, and how far it is ahead."""

    ahead: list[timedelta]

    def now(self) -> datetime:
        return super().now() + self.ahead[-1]


def test_an_exit_that_was_refused_is_made_soon_after_what_it_was_refused_for_is_over(floor: Floor) -> None:
    assert floor.venues is not None
    ahead = [timedelta(0)]
    server = build(floor.settings, floor.store, floor.venues, Ahead(ahead), wait_limits=floor.wait_limits)
    floor.account.fetch_positions()
    by_hand(floor, "SELL", Decimal("0.020"))
    floor.send("a", **STOP)
    floor.direct(symbol="BTCUSDT", jump_percent=-5)
    server.mark_to_market.run_once()
    assert floor.booked() == Decimal("0.009")
    by_hand(floor, "BUY", Decimal("0.020"))
    ahead.append(timedelta(seconds=UNPROTECTED_S))
    server.mark_to_market.run_once()
    server.workers.shutdown()
    assert floor.booked() == floor.net() == 0
