"""What a venue may do to an order, and what the books say of it afterwards: exits stay open, nothing is made up."""

from decimal import Decimal
from typing import Any

from tests.venues.conftest import Floor

STOP: dict[str, Any] = {"stop_loss_percent": 2}


def test_an_entry_that_fills_in_part_is_booked_and_protected_for_that_part(floor: Floor) -> None:
    floor.direct(fill_percent=40)
    told = floor.send("a", **STOP)
    assert told["action"] == "opened"
    (order,) = floor.waiting()
    assert order.quantity == floor.net() == Decimal(str(told["quantity"])) == Decimal("0.003")
    floor.check_books()


def test_a_reversal_whose_exit_fills_in_part_does_not_enter_the_other_side(floor: Floor) -> None:
    floor.send("a", **STOP)
    floor.direct(fill_percent=50)
    told = floor.send("b", action="sell", **STOP)
    assert told["action"] == "closed"
    assert "closed only" in told["entryRefused"]["message"]
    (position,) = floor.store.list_open_positions()
    assert position.side == "LONG"
    assert [order.quantity for order in floor.waiting()] == [floor.net()]
    floor.direct(fill_percent=100)
    assert floor.send("c", action="sell")["side"] == "SHORT"
    floor.check_books()


def test_an_order_that_is_taken_and_expires_without_a_fill_is_no_entry_and_no_exit(floor: Floor) -> None:
    floor.direct(fill_percent=0.001)
    assert floor.send("a", **STOP)["success"] is False
    assert floor.store.list_open_positions() == ()
    floor.direct(fill_percent=100)
    floor.send("b", **STOP)
    floor.direct(fill_percent=0.001)
    assert floor.send(action="close")["success"] is False
    assert {order.client_order_id for order in floor.waiting()} == {floor.order_id("b", "l")}
    floor.check_books()


def test_leverage_that_the_venue_refuses_is_no_entry(floor: Floor) -> None:
    floor.misbehave({"kind": "status", "status": 400, "path": "/leverage", "body": '{"code": -4028, "msg": "no"}'})
    assert floor.send(leverage=5)["success"] is False
    assert floor.net() == 0


def test_an_exit_worth_less_than_the_minimum_notional_is_made_on_a_shared_account_too(floor: Floor) -> None:
    mine = floor.strategy()
    floor.strategy()
    floor.send(strategy_id=mine, size=30)
    floor.direct(jump_percent=-90)
    assert floor.send(strategy_id=mine, action="close")["action"] == "closed"
    floor.check_books()


def test_a_stop_that_fires_while_its_position_is_closed_is_the_exit_and_nothing_is_sold_twice(floor: Floor) -> None:
    floor.send("a", **STOP)
    floor.direct(jump_percent=-5)
    told = floor.send(action="close")
    assert (told["action"], told["fill_price"]) == ("closed", 26_600)
    assert floor.net() == 0
    floor.check_books()


def test_keys_that_are_revoked_block_nothing_once_they_are_good_again(floor: Floor) -> None:
    floor.send("a", **STOP)
    revoked = {"kind": "status", "status": 401, "path": "/order", "body": '{"code": -2014, "msg": "no"}', "times": None}
    floor.misbehave(revoked)
    assert floor.send(action="close")["status"] == 400
    floor.misbehave()
    assert floor.send(action="close")["action"] == "closed"
    floor.check_books()


def test_a_venue_that_goes_away_while_protection_is_taken_down_leaves_it_to_be_restored(floor: Floor) -> None:
    floor.send("a", **STOP, take_profit_percent=4)
    gone = {"kind": "reset", "path": "/order", "after": 1, "times": 8}  # after the first of two cancellations
    floor.misbehave(gone)
    assert floor.send(action="close")["status"] == 503
    floor.misbehave()
    floor.server.protection_watchdog.run()
    assert len(floor.waiting()) == 2
    assert floor.metric("unprotected_positions") == 0
    assert floor.send(action="close")["action"] == "closed"
    assert floor.waiting() == []
    floor.check_books()
