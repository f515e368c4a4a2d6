"""A protective order whose position has ended is cancelled, whoever left it; orders of others are left alone."""

from decimal import Decimal
from typing import Any

from tests.venues.conftest import Floor
from tests.venues.test_changes_at_the_venue import by_hand

STOP: dict[str, Any] = {"stop_loss_percent": 2}


def leave_one(floor: Floor) -> None:
    """The position of `a` has ended in the books, and its stop waits still."""
    floor.send("a", **STOP)
    by_hand(floor, "SELL", floor.net())
    floor.server.reconciliation.run()
    (account,) = floor.exchange._accounts.values()
    stop = account.find("BTCUSDT", None, floor.order_id("a", "l"))
    assert stop is not None
    stop.status = "NEW"


def test_a_stop_that_its_exit_did_not_see_is_cancelled(floor: Floor) -> None:
    leave_one(floor)
    assert len(floor.waiting()) == 1
    floor.server.orphan_orders.run()
    assert floor.waiting() == []
    assert floor.metric("orphan_orders_total") == 1


def test_stops_of_open_positions_and_orders_of_others_stay(floor: Floor) -> None:
    leave_one(floor)
    floor.send("b", **STOP)
    (user,) = floor.exchange._accounts
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "quantity": "0.001", "price": "20000"}
    floor.exchange.place_order(user, order | {"newClientOrderId": "web_mine"})
    floor.exchange.place_order(user, order | {"newClientOrderId": "sl-" + "0" * 32})  # another Sparky's, say
    floor.server.orphan_orders.run()
    names = {each.client_order_id for each in floor.waiting()}
    assert names == {floor.order_id("b", "l"), "web_mine", "sl-" + "0" * 32}
    assert floor.net() == floor.booked() > Decimal(0)
