"""Signals at every venue: entry with stop and target, the stop fires, the books are the venue's to the cent."""

from decimal import Decimal
from typing import Any

import pytest

from tests.venues.conftest import Floor

BOTH: dict[str, Any] = {"stop_loss_percent": 2, "take_profit_percent": 4}
ROUNDS = 10


def names(floor: Floor) -> list[str]:
    """Of the orders that really wait at the venue, whatever it answers."""
    account = floor.exchange.get_account(*floor.exchange._accounts)
    return sorted(order.client_order_id for order in account.open_orders())


def both(floor: Floor, name: str) -> list[str]:
    return sorted([floor.order_id(name, "l"), floor.order_id(name, "t")])


def orders_sent(floor: Floor) -> int:
    """How many orders the account has ever had."""
    (account,) = floor.exchange._accounts.values()
    return len(account.orders)


def test_an_entry_with_stop_and_target_waits_protected_and_a_close_takes_all_down(floor: Floor) -> None:
    told = floor.send("a", **BOTH)
    assert (told["status"], told["action"]) == (200, "opened")
    assert names(floor) == both(floor, "a")
    assert floor.send(action="close")["action"] == "closed"
    assert names(floor) == []
    assert floor.net() == 0
    floor.check_books()


def test_a_stop_that_fires_is_booked_at_its_price_and_fee_under_the_number_of_its_trade(floor: Floor) -> None:
    floor.send("a", **BOTH)
    floor.direct(jump_percent=-5)
    floor.server.protection_watchdog.run()
    (trade,) = floor.store.list_trades()
    assert (trade.exit_reason, trade.exit_price) == ("stop_loss", Decimal(26_600))
    assert names(floor) == []
    assert floor.net() == 0
    floor.check_books()


def test_a_target_that_fires_is_booked_as_such(floor: Floor) -> None:
    floor.send("a", **BOTH)
    floor.direct(jump_percent=5)
    floor.server.protection_watchdog.run()
    assert [trade.exit_reason for trade in floor.store.list_trades()] == ["take_profit"]
    assert names(floor) == []
    floor.check_books()


def test_ten_rounds_of_the_watch_send_nothing_twice(floor: Floor) -> None:
    floor.send("a", **BOTH)
    sent = orders_sent(floor)
    for _ in range(ROUNDS):
        floor.server.protection_watchdog.run()
    assert orders_sent(floor) == sent
    assert names(floor) == both(floor, "a")
    assert floor.metric("unprotected_positions") == floor.metric("protection_replaced_total") == 0


def test_what_was_cancelled_at_the_venue_is_restored_once(floor: Floor) -> None:
    floor.send("a", **BOTH)
    account = floor.exchange.get_account(*floor.exchange._accounts)
    for order in account.open_orders():
        account.cancel(order, order.created_ms)
    sent = orders_sent(floor)
    for _ in range(ROUNDS):
        floor.server.protection_watchdog.run()
    assert names(floor) == both(floor, "a")
    assert orders_sent(floor) == sent + 2
    assert floor.send(action="close")["action"] == "closed"
    assert names(floor) == []
    floor.check_books()


def test_no_stop_of_a_closed_position_is_left_to_close_the_next_one(floor: Floor) -> None:
    floor.send("a", **BOTH)
    floor.server.protection_watchdog.run()
    floor.send(action="close")
    floor.send("b", action="buy")
    floor.direct(jump_percent=-5)
    floor.server.protection_watchdog.run()
    assert floor.net() == floor.booked() > 0
    floor.check_books()


def test_a_stop_that_fires_while_its_position_is_closed_is_the_exit(floor: Floor) -> None:
    floor.send("a", **BOTH)
    floor.direct(jump_percent=-5)
    told = floor.send(action="close")
    assert (told["action"], told["fill_price"]) == ("closed", 26_600)
    assert names(floor) == []
    floor.check_books()


def test_an_entry_whose_protection_is_refused_is_undone(floor: Floor) -> None:
    floor.direct(refused_kinds=["STOP_MARKET", "TAKE_PROFIT_MARKET"])
    told = floor.send("a", **BOTH)
    assert (told["success"], told["action"]) == (False, "rejected")
    assert floor.net() == 0
    assert names(floor) == []
    floor.check_books()


@pytest.mark.parametrize("after", [0, 1, 2], ids=["entry", "stop", "target"])
def test_a_server_that_dies_after_any_order_left_a_position_that_the_next_one_finishes(
    floor: Floor, after: int
) -> None:
    """The venue takes the order, and nobody hears of it; another server comes."""
    told_nothing = {"kind": "reset", "path": "rder", "accept": True, "times": 1, "method": "POST", "after": after}
    deaf = {"kind": "reset", "path": "rder", "times": None}
    floor.misbehave(told_nothing, deaf)
    assert floor.send("a", **BOTH)["status"] == 503
    floor.misbehave()
    another = floor.build_another()
    another.recovery.run()
    assert names(floor) == both(floor, "a")
    sent = orders_sent(floor)
    another.protection_watchdog.run()
    assert orders_sent(floor) == sent
    assert floor.send("a", **BOTH)["action"] == "opened"
    floor.check_books()
    another.workers.shutdown()


def test_two_strategies_on_one_account_have_a_stop_each_and_each_fires_for_itself(floor: Floor) -> None:
    one, other = floor.strategy(), floor.strategy()
    floor.send("a", strategy_id=one, stop_loss_percent=2)
    floor.send("b", strategy_id=other, stop_loss_percent=20)
    floor.direct(jump_percent=-5)
    floor.server.protection_watchdog.run()
    assert names(floor) == [floor.order_id("b", "l")]
    assert floor.net() == floor.booked() > 0
    floor.check_books()
