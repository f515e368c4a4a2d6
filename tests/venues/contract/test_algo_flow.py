"""The watch over live positions where the algo service is slow to show, slow to trigger or drops what triggers."""

from decimal import Decimal
from typing import Any

import pytest

from tests.support.servers.simulated import BINANCE, Simulated
from tests.venues.conftest import Floor

STOP: dict[str, Any] = {"stop_loss_percent": 2}


@pytest.fixture
def simulated() -> Simulated:
    return BINANCE


def test_an_order_that_is_not_listed_yet_is_not_sent_again(floor: Floor) -> None:
    floor.direct_algo(unseen_for=2)
    floor.send("a", **STOP)
    (account,) = floor.exchange._accounts.values()
    sent = len(account.orders)
    for _ in range(4):
        floor.server.protection_watchdog.run()
    assert len(account.orders) == sent
    assert floor.metric("unprotected_positions") == 0


def test_a_stop_that_is_triggering_is_not_sent_again_and_booked_once_it_has_filled(floor: Floor) -> None:
    floor.direct_algo(triggering_for=20)
    floor.send("a", stop_loss_percent=2)
    (account,) = floor.exchange._accounts.values()
    sent = len(account.orders)
    floor.direct(jump_percent=-5)
    floor.server.protection_watchdog.run()
    assert len(account.orders) == sent
    for _ in range(20):
        floor.server.protection_watchdog.run()
    assert [trade.exit_reason for trade in floor.store.list_trades()] == ["stop_loss"]
    floor.check_books()


@pytest.mark.parametrize("end", ["REJECTED", "EXPIRED", "FINISHED"])
def test_a_stop_that_triggered_without_a_fill_leaves_a_position_that_can_be_closed(floor: Floor, end: str) -> None:
    floor.send("a", **STOP)
    floor.direct_algo(triggered_end=end)
    floor.direct(jump_percent=-5)
    floor.server.protection_watchdog.run()
    assert floor.net() == floor.booked() > 0
    floor.direct_algo(triggered_end="FILLED")
    assert floor.send(action="close")["action"] == "closed"
    floor.check_books()


def test_a_stop_that_is_triggering_is_not_replaced_by_one_that_would_close_anothers_position(floor: Floor) -> None:
    """The price comes back while the order triggers, and another strategy holds the same side."""
    one, other = floor.strategy(), floor.strategy()
    floor.direct_algo(triggering_for=4)
    floor.send("a", strategy_id=one, **STOP)
    floor.direct_algo(triggering_for=0)
    floor.send("b", strategy_id=other, stop_loss_percent=20)
    (account,) = floor.exchange._accounts.values()
    sent = len(account.orders)
    floor.direct(jump_percent=-5)
    floor.net()
    floor.direct(jump_percent=6)
    for _ in range(6):
        floor.server.protection_watchdog.run()
    assert len(account.orders) == sent
    (trade,) = floor.store.list_trades()
    assert (trade.exit_reason, trade.exit_price) == ("stop_loss", Decimal(26_600))
    assert floor.net() == floor.booked() > 0
    floor.check_books()


def test_a_stop_that_is_triggering_is_no_hand_at_the_venue(floor: Floor) -> None:
    """Its trade is in the account's record before the stop tells that it was its own."""
    floor.direct_algo(triggering_for=3)
    floor.send("a", **STOP)
    floor.direct(jump_percent=-5)
    for _ in range(3):
        floor.server.reconciliation.run()
        floor.server.protection_watchdog.run()
    assert [trade.exit_reason for trade in floor.store.list_trades()] == ["stop_loss"]
    floor.check_books()


def test_orders_that_the_list_leaves_out_are_not_sent_again(floor: Floor) -> None:
    floor.send("a", **STOP)
    (account,) = floor.exchange._accounts.values()
    sent = len(account.orders)
    floor.misbehave({"kind": "status", "status": 200, "body": "[]", "path": "/openAlgoOrders", "times": None})
    for _ in range(3):
        floor.server.protection_watchdog.run()
    assert len(account.orders) == sent
    assert floor.metric("protection_replaced_total") == floor.metric("unprotected_positions") == 0
