"""The watch over live positions where the algo service is slow to show, slow to trigger or drops what triggers."""

from typing import Any

import pytest

from tests.support.simulated import BINANCE, Simulated
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
        floor.server.watch.run()
    assert len(account.orders) == sent
    assert floor.metric("unprotected_positions") == 0


def test_a_stop_that_is_triggering_is_not_sent_again_and_booked_once_it_has_filled(floor: Floor) -> None:
    floor.direct_algo(triggering_for=20)
    floor.send("a", stop_loss_percent=2)
    (account,) = floor.exchange._accounts.values()
    sent = len(account.orders)
    floor.direct(jump_percent=-5)
    floor.server.watch.run()
    assert len(account.orders) == sent
    for _ in range(20):
        floor.server.watch.run()
    assert [trade.exit_reason for trade in floor.store.trades()] == ["stop_loss"]
    floor.check_books()


@pytest.mark.parametrize("end", ["REJECTED", "EXPIRED", "FINISHED"])
def test_a_stop_that_triggered_without_a_fill_leaves_a_position_that_can_be_closed(floor: Floor, end: str) -> None:
    floor.send("a", **STOP)
    floor.direct_algo(triggered_end=end)
    floor.direct(jump_percent=-5)
    floor.server.watch.run()
    assert floor.net() == floor.booked() > 0
    floor.direct_algo(triggered_end="FILLED")
    assert floor.send(action="close")["action"] == "closed"
    floor.check_books()
