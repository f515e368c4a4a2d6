"""Whether an entry can be protected is known before it is bought."""

from decimal import Decimal
from typing import Any

import pytest

from tests.venues.conftest import Floor
from tests.venues.instruments import change, check_agreement, orders_sent

STOP: dict[str, Any] = {"stop_loss_percent": 2, "take_profit_percent": 4}
BOOKS = pytest.mark.parametrize("environment", ["production", "paper"])


@BOOKS
def test_an_entry_is_reduced_to_what_one_stop_can_hold(floor: Floor, environment: str) -> None:
    change(floor, market_lot={"max_quantity": "0.005"})
    told = floor.send("a", environment=environment, **STOP)
    assert (told["action"], told["quantity"]) == ("opened", 0.005)
    assert told["reduced_by"] == ["max_protected_quantity"]
    check_agreement(floor)


@BOOKS
def test_an_addition_that_no_stop_can_hold_is_refused_before_it_is_bought(floor: Floor, environment: str) -> None:
    floor.send("a", environment=environment, size=150, **STOP)
    change(floor, market_lot={"max_quantity": "0.005"})
    sent = orders_sent(floor)
    told = floor.send("b", environment=environment, **STOP)
    assert (told["status"], told["success"]) == (200, False)
    assert "one protective order" in told["error"]
    assert orders_sent(floor) == sent
    check_agreement(floor)


def test_an_addition_is_reduced_to_what_is_left(floor: Floor) -> None:
    floor.send("a", size=100, **STOP)
    change(floor, market_lot={"max_quantity": "0.005"})
    told = floor.send("b", **STOP)
    assert (told["quantity"], told["reduced_by"]) == (0.002, ["max_protected_quantity"])
    assert {order.quantity for order in floor.waiting()} == {Decimal("0.005")}
    check_agreement(floor)


@BOOKS
def test_a_stop_that_would_trigger_at_once_refuses_the_entry_before_it_is_bought(
    floor: Floor, environment: str
) -> None:
    told = floor.send("a", environment=environment, stop_loss_percent=0.001)
    assert (told["status"], told["success"], told["action"]) == (200, False, "rejected")
    assert "stop-loss" in told["error"]
    assert orders_sent(floor) == 0
    assert floor.booked() == 0


@BOOKS
def test_a_stop_less_than_a_tick_away_refuses_the_entry(floor: Floor, environment: str) -> None:
    change(floor, tick="1000")
    told = floor.send("a", environment=environment, **STOP)
    assert (told["status"], told["success"]) == (200, False)
    assert orders_sent(floor) == 0


@BOOKS
def test_more_stops_than_the_venue_takes_refuse_the_entry_before_it_is_bought(floor: Floor, environment: str) -> None:
    change(floor, max_stops=1)
    told = floor.send("a", environment=environment, **STOP)
    assert (told["status"], told["success"], told["action"]) == (200, False, "rejected")
    assert "protective orders" in told["error"]
    assert orders_sent(floor) == 0
    assert floor.booked() == 0
    assert floor.send("b", environment=environment, stop_loss_percent=2)["action"] == "opened"
    check_agreement(floor)


def test_an_addition_whose_stops_would_wait_beside_the_old_ones_is_refused_before_it_is_bought(floor: Floor) -> None:
    change(floor, max_stops=3)
    assert floor.send("a", **STOP)["action"] == "opened"
    sent = orders_sent(floor)
    told = floor.send("b", **STOP)
    assert (told["success"], told["action"]) == (False, "rejected")
    assert "2 wait" in told["error"]
    assert orders_sent(floor) == sent
    assert floor.send("c", action="close")["action"] == "closed"
    check_agreement(floor)


def test_stops_of_the_owner_count_too(floor: Floor) -> None:
    change(floor, max_stops=2)
    assert floor.send("a", environment="production", stop_loss_percent=2)["action"] == "opened"
    other = floor.strategy()
    assert floor.send("b", strategy_id=other, **STOP)["action"] == "rejected"
    assert floor.send("c", strategy_id=other, stop_loss_percent=2)["action"] == "opened"
    check_agreement(floor)
