"""At a venue that takes a client order id once for good, a stop that somebody cancelled is placed under another one."""

import time
from typing import Any

import pytest
import requests

from tests.support.servers.simulated import VENUES, Simulated
from tests.venues.conftest import Floor
from tests.venues.test_outside_ends import check_nothing_is_left

BOTH: dict[str, Any] = {"stop_loss_percent": 2, "take_profit_percent": 5}
LOOKS = 2


@pytest.fixture(params=sorted(VENUES))
def simulated(request: pytest.FixtureRequest) -> Simulated:
    return VENUES[request.param]


def cancel_one(floor: Floor, name: str) -> None:
    """As on the venue's page."""
    (account,) = floor.exchange._accounts.values()
    (waiting,) = [order for order in account.open_orders() if order.client_order_id == name]
    account.cancel(waiting, floor.exchange.clock.now_ms())
    floor.hands.now += 2


def hour_passes(floor: Floor) -> None:
    """For our server alone, so that nothing counts as having been sent a moment ago; the market stands still."""
    later = time.monotonic() + 3_600
    floor.account._trigger_orders._monotonic = lambda: later  # type: ignore[attr-defined]


def test_both_orders_wait_under_other_ids_and_nothing_is_left_behind(floor: Floor) -> None:
    floor.arrange(ids_stay_taken=True)
    assert floor.send("a", **BOTH)["success"] is True
    hour_passes(floor)
    cancel_one(floor, floor.order_id("a", "l"))
    seen = []
    for _ in range(LOOKS):
        floor.server.protection_watchdog.run()
        seen.append(floor.metric("unprotected_positions"))
    assert seen == [1, 0]
    waiting = {order.client_order_id for order in floor.waiting()}
    (held,) = floor.store.list_open_positions()
    assert waiting == {held.stop_loss_client_order_id, held.take_profit_client_order_id}
    assert not waiting & {floor.order_id("a", "l"), floor.order_id("a", "t")}
    floor.server.protection_watchdog.run()
    assert {order.client_order_id for order in floor.waiting()} == waiting
    assert floor.send(action="close")["action"] == "closed"
    check_nothing_is_left(floor)


def test_a_stop_under_another_id_that_fires_is_the_exit(floor: Floor) -> None:
    floor.arrange(ids_stay_taken=True)
    floor.send("a", stop_loss_percent=2)
    hour_passes(floor)
    requests.post(f"{floor.venue_url}/_control/account", json={"cancel_all": "BTCUSDT"}, timeout=30).raise_for_status()
    for _ in range(LOOKS):
        floor.server.protection_watchdog.run()
    assert len(floor.waiting()) == 1
    floor.direct(jump_percent=-5)
    floor.hands.now += 2
    floor.server.protection_watchdog.run()
    assert [trade.exit_reason for trade in floor.store.list_trades()] == ["stop_loss"]
    check_nothing_is_left(floor)


def test_a_partial_exit_is_protected_again(floor: Floor) -> None:
    floor.arrange(ids_stay_taken=True)
    floor.send("a", **BOTH)
    assert floor.send(action="close", sell_percentage=50)["action"] == "closed"
    hour_passes(floor)
    for _ in range(LOOKS):
        floor.server.protection_watchdog.run()
    assert floor.metric("unprotected_positions") == 0
    assert {order.quantity for order in floor.waiting()} == {floor.net()}
    assert floor.send(action="close")["action"] == "closed"
    check_nothing_is_left(floor)
