"""A step that grew neither strands nor unprotects what is held, and what cannot be sent ends as dust."""

from decimal import Decimal
from typing import Any

import pytest

from tests.venues.conftest import Floor
from tests.venues.instruments import at_venue, change, check_agreement, orders_sent, reload, trades
from tests.venues.test_changes_at_the_venue import by_hand

STOP: dict[str, Any] = {"stop_loss_percent": 2}
USD, HELD, DUST = 1_860, Decimal("0.066"), Decimal("0.006")
GROWN: dict[str, Any] = {"step": "0.01"}
LITTLE: dict[str, Any] = {"min_notional": "200"}  # what is worth less is little there


@pytest.fixture
def grown(floor: Floor) -> Floor:
    """0.066 is held and protected, and a step is 0.01 by now."""
    assert floor.send("a", size=USD, **STOP)["quantity"] == 0.066
    change(floor, **GROWN)
    return floor


def cancel_all(floor: Floor) -> None:
    account = floor.exchange.get_account(*floor.exchange._accounts)
    for order in account.open_orders():
        account.cancel(order, order.created_ms)


def test_an_exit_sends_whole_lots_of_the_new_step_and_the_rest_ends_as_dust(grown: Floor) -> None:
    told = grown.send("x", action="close")
    assert (told["action"], told["quantity"], told["remaining_quantity"]) == ("closed", 0.06, 0)
    assert told["dust"]["quantity"] == 0.006
    assert told["dust"]["usd"] == pytest.approx(168, abs=1)
    assert grown.net() == DUST
    assert grown.booked() == 0
    assert trades(grown) == [("signal", Decimal("0.06")), ("dust", DUST)]
    check_agreement(grown)


@pytest.mark.parametrize("usd", [USD, 170])
def test_a_step_that_only_a_refusal_tells_strands_nothing(floor: Floor, usd: int) -> None:
    floor.send("a", size=usd, **STOP)
    change(floor, is_read=False, **GROWN, **LITTLE)
    told = floor.send("x", action="close")
    assert (told["action"], told["remaining_quantity"], told["dust"]["quantity"]) == ("closed", 0, 0.006)
    assert floor.booked() == 0
    check_agreement(floor)


def test_dust_is_in_nobodys_way(grown: Floor) -> None:
    grown.send("x", action="close")
    assert grown.send("b", size=600, **STOP)["action"] == "opened"
    check_agreement(grown)
    told = grown.send("y", action="close")
    assert (told["action"], told["remaining_quantity"], told.get("dust")) == ("closed", 0, None)
    assert grown.net() == DUST
    check_agreement(grown)


def test_a_reversal_ends_the_dust_of_its_exit(grown: Floor) -> None:
    told = grown.send("x", action="sell", size=600)
    assert (told["action"], told["closed"]["quantity"]) == ("opened", 0.06)
    assert trades(grown) == [("signal", Decimal("0.06")), ("dust", DUST)]
    assert grown.booked() == grown.net() - DUST
    check_agreement(grown)
    assert grown.send("y", action="close")["remaining_quantity"] == 0
    check_agreement(grown)


def test_dust_that_a_hand_sells_at_the_venue_is_no_difference(grown: Floor) -> None:
    grown.send("x", action="close")
    grown.send("b", size=600, **STOP)
    change(grown, step="0.001")
    by_hand(grown, "SELL", grown.net())
    assert grown.server.reconciliation.run() == ()
    assert grown.sql("select * from outside_holdings") == []
    assert [reason for reason, _ in trades(grown)] == ["signal", "dust", "closed_at_venue"]
    check_agreement(grown)


def test_dust_of_two_exits_is_noted_together(grown: Floor) -> None:
    grown.send("x", action="close")
    change(grown, step="0.001")
    grown.send("b", size=USD, **STOP)
    change(grown, step="0.01")
    assert grown.send("y", action="close")["dust"]["quantity"] == 0.006
    assert grown.net() == 2 * DUST
    check_agreement(grown)


def test_the_watch_leaves_an_order_that_is_as_good(grown: Floor) -> None:
    sent = orders_sent(grown)
    check_agreement(grown)
    assert orders_sent(grown) == sent


def test_protection_is_put_back_in_whole_lots_of_the_new_step_once(grown: Floor) -> None:
    cancel_all(grown)
    sent = orders_sent(grown)
    check_agreement(grown)
    assert [order.quantity for order in grown.waiting()] == [Decimal("0.06")]
    assert orders_sent(grown) == sent + 1


def test_a_stop_that_fires_for_whole_lots_ends_the_position(grown: Floor) -> None:
    cancel_all(grown)
    grown.server.protection_watchdog.run()
    grown.direct(jump_percent=-5)
    grown.server.protection_watchdog.run()
    assert grown.booked() == 0
    assert trades(grown) == [("stop_loss", Decimal("0.06")), ("dust", DUST)]
    check_agreement(grown)


def test_a_partial_exit_is_in_the_new_step(grown: Floor) -> None:
    told = grown.send("x", action="close", sell_percentage=50)
    assert (told["quantity"], told["remaining_quantity"]) == (0.03, 0.036)
    assert [order.quantity for order in grown.waiting()] == [Decimal("0.03")]
    check_agreement(grown)


@pytest.mark.parametrize("environment", ["production", "paper"])
def test_a_position_that_is_dust_ends_by_a_close(floor: Floor, environment: str) -> None:
    book = {"environment": environment}
    floor.send("a", size=170, **book, **STOP)
    change(floor, **GROWN, **LITTLE)
    for _ in range(3):
        floor.server.protection_watchdog.run()
    assert floor.metric("protection_failures_total", after="loss") == 0
    told = floor.send("x", action="close", **book)
    assert (told["action"], told["quantity"], told["remaining_quantity"]) == ("closed", 0.006, 0)
    assert told["dust"]["quantity"] == 0.006
    assert trades(floor) == [("dust", DUST)]
    assert floor.send("y", action="close", **book)["action"] == "skipped"
    check_agreement(floor)


def test_a_paper_exit_leaves_dust_as_a_live_one_does(floor: Floor) -> None:
    floor.send("a", size=USD, environment="paper")
    change(floor, **GROWN)
    told = floor.send("x", action="close", environment="paper")
    assert (told["action"], told["quantity"], told["remaining_quantity"]) == ("closed", 0.06, 0)
    assert told["dust"]["quantity"] == 0.006
    assert floor.store.list_open_positions() == ()


def test_an_exit_whose_answer_is_lost_is_booked_with_its_dust_once(grown: Floor) -> None:
    lost = {"kind": "reset", "path": "rder", "accept": True, "times": 1, "method": "POST"}
    grown.misbehave(lost, {"kind": "reset", "path": "rder", "times": None})
    assert grown.send("x", action="close")["status"] == 503
    grown.misbehave()
    grown.server.recovery.run()
    assert grown.send("x", action="close")["dust"]["quantity"] == 0.006
    assert trades(grown) == [("signal", Decimal("0.06")), ("dust", DUST)]
    assert [quantity for _, quantity in at_venue(grown)] == [HELD, Decimal("0.06")]
    check_agreement(grown)


def test_a_tick_that_grew_is_the_tick_of_the_stop_that_is_put_back(floor: Floor) -> None:
    floor.send("a", **STOP)
    change(floor, tick="10")
    cancel_all(floor)
    check_agreement(floor)
    assert [order.price % 10 for order in floor.waiting()] == [0]


def test_what_one_stop_can_hold_is_protected_where_the_largest_order_shrank(floor: Floor) -> None:
    floor.send("a", **STOP)
    change(floor, market_lot={"max_quantity": "0.005"})
    cancel_all(floor)
    for _ in range(3):
        floor.server.protection_watchdog.run()
    assert [order.quantity for order in floor.waiting()] == [Decimal("0.005")]
    assert floor.metric("unprotected_positions") == 1
    floor.direct(jump_percent=-5)
    floor.server.protection_watchdog.run()
    floor.server.mark_to_market.run_once()
    assert floor.net() == floor.booked() == 0
    reload(floor)
    check_agreement(floor)
