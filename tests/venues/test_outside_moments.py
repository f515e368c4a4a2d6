"""What others do at the venue counts at its moment: whatever Sparky has opened, closed or protected since."""

import uuid
from decimal import Decimal
from typing import Any

import pytest

from tests.cli.conftest import Sparky, home, own_logging  # noqa: F401 - fixtures
from tests.venues.conftest import PATIENT, Floor
from tests.venues.test_outside_ends import STOP, check_nothing_is_left, ends, happen, look, there
from tests.venues.test_reconcile import ADOPT, sparky  # noqa: F401 - a fixture
from webhook_server.reconciliation.symbol_comparison import FIRED


def by_hand(floor: Floor, side: str, quantity: str) -> None:
    happen(floor, trade={"symbol": "BTCUSDT", "side": side, "quantity": quantity})


def send(floor: Floor, strategy: str, action: str = "buy", **fields: Any) -> None:
    floor.hands.now += 2
    assert floor.send(strategy_id=strategy, action=action, **fields)["success"] is True


def test_what_a_hand_did_before_the_oldest_position_was_opened_is_read_once_older_ones_have_ended(floor: Floor) -> None:
    a, b = floor.strategy(), floor.strategy()
    send(floor, a)
    by_hand(floor, "SELL", "0.004")
    send(floor, b)
    send(floor, a, "close")
    assert look(floor) == []
    assert floor.booked() == floor.net() == Decimal("0.005")
    send(floor, b, "close")
    check_nothing_is_left(floor)


def test_an_exit_that_finds_nothing_to_reduce_finds_the_hand_of_before_its_own_entry(floor: Floor) -> None:
    a, b = floor.strategy(), floor.strategy()
    send(floor, a)
    by_hand(floor, "SELL", "0.009")
    send(floor, b)
    send(floor, a, "close")
    floor.hands.now += 2
    assert floor.send(strategy_id=b, action="close")["action"] == "skipped"
    check_nothing_is_left(floor)


def test_books_that_are_flat_by_our_own_exits_are_compared_by_the_record(floor: Floor) -> None:
    a = floor.strategy()
    send(floor, a)
    by_hand(floor, "BUY", "0.003")
    send(floor, a, "close")
    look(floor)
    (reason,) = look(floor)
    assert reason is not None
    assert "0.003 was traded at the venue by others" in reason
    by_hand(floor, "SELL", "0.003")
    assert look(floor) == []
    assert floor.sql("select count(*) from venue_records") == [(0,)]
    by_hand(floor, "BUY", "0.002")
    by_hand(floor, "SELL", "0.002")
    send(floor, a)  # what was done before this first entry is no concern of the books
    assert look(floor) == []
    assert floor.booked() == floor.net() == Decimal("0.009")


def test_a_record_that_shows_nothing_yet_is_not_read_from_its_very_beginning_later(floor: Floor) -> None:
    assert floor.account.fetch_positions() == ()
    by_hand(floor, "BUY", "0.002")
    by_hand(floor, "SELL", "0.002")
    a = floor.strategy()
    send(floor, a)
    happen(floor, record_lag_s=60)
    assert look(floor) == []
    floor.hands.now += 100
    by_hand(floor, "SELL", "0.004")
    floor.hands.now += 100
    assert look(floor) == []
    assert ends(floor) == [("closed_at_venue", Decimal("0.004"))]


def test_what_a_hand_closes_is_shared_by_what_was_held_at_its_moment(floor: Floor) -> None:
    a, b = floor.strategy(), floor.strategy()
    send(floor, a)
    by_hand(floor, "SELL", "0.004")
    send(floor, b)
    assert look(floor) == []
    held = {str(each.strategy_id): each.quantity for each in floor.store.list_open_positions()}
    assert held == {a: Decimal("0.005"), b: Decimal("0.009")}


def test_what_a_partial_exit_has_closed_since_counts_at_the_moment_of_the_hand(floor: Floor) -> None:
    a, b = floor.strategy(), floor.strategy()
    send(floor, a, size=560)
    send(floor, b, size=560)
    by_hand(floor, "SELL", "0.012")
    send(floor, a, "close", sell_percentage=50)
    assert look(floor) == []
    held = {str(each.strategy_id): each.quantity for each in floor.store.list_open_positions()}
    assert held == {a: Decimal("0.004"), b: Decimal("0.013")}


def test_a_target_that_fills_after_its_position_was_stopped_is_a_trade_of_others(floor: Floor) -> None:
    a, c = floor.strategy(), floor.strategy()
    send(floor, a, stop_loss_percent=2, take_profit_percent=2)
    send(floor, c)
    for percent in (-3, 7):
        floor.direct(jump_percent=percent)
        floor.hands.now += 1
        floor.net()
    for _ in range(2):
        floor.server.protection_watchdog.run()
        assert look(floor) == []
    assert ends(floor) == [("closed_at_venue", Decimal("0.009")), ("stop_loss", Decimal("0.009"))]
    check_nothing_is_left(floor)


def test_a_forced_order_that_fills_on_after_a_part_was_booked_is_booked_for_the_rest(floor: Floor) -> None:
    floor.send("a")
    happen(floor, trades_hidden=True)
    happen(floor, liquidate="BTCUSDT", pieces=1, quantity="0.003")
    assert look(floor) == []
    account, now_ms = there(floor), floor.exchange.clock.now_ms()
    order = next(each for each in account.orders.values() if each.auto_close)
    account.trade(order, Decimal("0.006"), Decimal(27_990), now_ms, is_maker=False)
    order.quantity, order.updated_ms = Decimal("0.009"), now_ms
    floor.hands.now += 2
    assert look(floor) == []
    assert ends(floor) == [("liquidated", Decimal("0.003")), ("liquidated", Decimal("0.006"))]
    check_nothing_is_left(floor)


@pytest.mark.parametrize("wait_limits", [PATIENT._replace(lock_s=1.0)])
def test_a_stop_that_has_filled_and_cannot_be_booked_is_a_difference_at_the_second_look(floor: Floor) -> None:
    a = floor.strategy()
    send(floor, a, **STOP)
    floor.direct(jump_percent=-3)
    floor.hands.now += 1
    assert floor.net() == 0
    with floor.server.protection_watchdog._executor.lock_strategy((floor.user_id, "aster", uuid.UUID(a)), 1.0):
        assert look(floor) == []
        assert look(floor) == [FIRED]
    assert look(floor) == []
    assert ends(floor) == [("stop_loss", Decimal("0.009"))]


def test_a_stop_that_was_cut_short_and_is_booked_does_not_stand_in_the_way_of_an_adoption(
    floor: Floor,
    sparky: Sparky,  # noqa: F811
) -> None:
    send(floor, floor.strategy(), size=560, **STOP)
    happen(floor, record_lag_s=60)
    by_hand(floor, "SELL", "0.009")  # which leaves the stop but a part to close
    floor.direct(jump_percent=-3)
    floor.hands.now += 1
    assert floor.net() == 0
    floor.server.protection_watchdog.run()
    assert [each.exit_order_ids != set() for each in floor.store.list_open_positions()] == [True]
    floor.hands.now += 100
    sparky.ok(*ADOPT)
    assert ends(floor) == [("adopted", Decimal("0.009")), ("stop_loss", Decimal("0.01"))]
    check_nothing_is_left(floor)


def test_what_an_older_position_that_has_ended_held_too_is_taken_from_those_that_are_left(floor: Floor) -> None:
    a, b, c = floor.strategy(), floor.strategy(), floor.strategy()
    send(floor, a)
    send(floor, b)
    by_hand(floor, "SELL", "0.004")
    send(floor, c)
    send(floor, a, "close")
    assert look(floor) == []
    held = {str(each.strategy_id): each.quantity for each in floor.store.list_open_positions()}
    assert held == {b: Decimal("0.005"), c: Decimal("0.009")}
    assert floor.booked() == floor.net()
    for each in (b, c):
        send(floor, each, "close")
    check_nothing_is_left(floor)
