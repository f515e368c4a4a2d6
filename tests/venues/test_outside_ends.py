"""Liquidations, deleveraging and a person's hands end positions at the venue: the books have them, to the account's
last digit, however late or incomplete its record is."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
import requests

from cli.commands.close_positions import close_positions
from engine.platform.settings.settings import Settings
from simulator.venue.trading_account import START_BALANCE, Account
from tests.venues.conftest import Floor
from tests.webhook_server.conftest import until

STOP: dict[str, Any] = {"stop_loss_percent": 2}
ZERO, LOT = Decimal(0), Decimal("0.001")
LAG_S = 3


def happen(floor: Floor, **event: Any) -> None:
    """What happens to the account beside its API; see `simulator.control.account_control`. Two seconds of the market
    pass."""
    requests.post(f"{floor.venue_url}/_control/account", json=event, timeout=30).raise_for_status()
    floor.hands.now += 2


def look(floor: Floor) -> list[str | None]:
    """One look at all accounts; why differences that are left are not explained."""
    floor.sql("update fills set created_at = now() - interval '1 minute'")
    return [each.reason for each in floor.server.reconciliation.run()]


def there(floor: Floor) -> Account:
    (account,) = floor.exchange._accounts.values()
    return account


def ends(floor: Floor) -> list[tuple[str | None, Decimal]]:
    return sorted((trade.exit_reason, trade.quantity) for trade in floor.store.list_trades())


def check_nothing_is_left(floor: Floor) -> None:
    """Nothing is held or waits, and the books have earned what the account has."""
    assert floor.booked() == floor.net() == 0
    assert floor.waiting() == []
    assert abs(earned(floor) - (there(floor).balance - START_BALANCE)) < Decimal("1e-7")


def earned(floor: Floor) -> Decimal:
    return sum((trade.pnl_usd or ZERO for trade in floor.store.list_trades()), ZERO)


@pytest.mark.parametrize("pieces", [1, 4])
@pytest.mark.parametrize(
    "manners",
    [{}, {"trades_hidden": True}, {"forced_hidden": True}, {"rows_of_flat": False}],
    ids=["plain", "trades hidden", "forced orders hidden", "no rows of flat symbols"],
)
def test_a_liquidation_is_booked_with_all_that_it_cost(floor: Floor, manners: dict[str, Any], pieces: int) -> None:
    floor.send("a", **STOP)
    happen(floor, **manners)
    happen(floor, liquidate="BTCUSDT", pieces=pieces)
    assert look(floor) == []
    assert ends(floor) == [("liquidated", Decimal("0.009"))]
    check_nothing_is_left(floor)
    told = floor.send(action="close")
    assert (told["success"], told["action"]) == (True, "skipped")


def test_a_liquidation_in_parts_is_an_exit_each_and_what_is_left_stays_protected(floor: Floor) -> None:
    floor.send("a", **STOP)
    happen(floor, liquidate="BTCUSDT", quantity="0.002")
    assert look(floor) == []
    happen(floor, liquidate="BTCUSDT", quantity="0.003", pieces=2)
    assert look(floor) == []
    floor.server.protection_watchdog.run()
    assert ends(floor) == [("liquidated", Decimal("0.002")), ("liquidated", Decimal("0.003"))]
    assert [order.quantity for order in floor.waiting()] == [floor.net()] == [Decimal("0.004")]
    assert floor.send(action="close")["action"] == "closed"
    check_nothing_is_left(floor)


def test_two_liquidations_between_two_looks_are_both_booked_with_what_each_cost(floor: Floor) -> None:
    floor.send("a")
    happen(floor, trades_hidden=True)
    happen(floor, liquidate="BTCUSDT", quantity="0.002")
    happen(floor, liquidate="BTCUSDT")
    assert look(floor) == []
    assert ends(floor) == [("liquidated", Decimal("0.002")), ("liquidated", Decimal("0.007"))]
    check_nothing_is_left(floor)


def test_a_deleveraging_ends_a_part_and_the_stop_is_for_the_rest(floor: Floor) -> None:
    floor.send("a", **STOP)
    happen(floor, adl="BTCUSDT", percent=50)
    assert look(floor) == []
    floor.server.protection_watchdog.run()
    assert ends(floor) == [("adl", Decimal("0.004"))]
    assert [order.quantity for order in floor.waiting()] == [floor.net()]
    assert floor.send(action="close")["action"] == "closed"
    check_nothing_is_left(floor)


@pytest.mark.parametrize("manners", [{"trades_hidden": True}, {"forced_hidden": True}], ids=str)
def test_a_deleveraging_is_known_by_its_order_or_by_its_name(floor: Floor, manners: dict[str, Any]) -> None:
    floor.send("a", **STOP)
    happen(floor, **manners)
    happen(floor, adl="BTCUSDT")
    assert look(floor) == []
    assert ends(floor) == [("adl", Decimal("0.009"))]
    check_nothing_is_left(floor)


def test_a_hidden_liquidation_before_what_a_hand_then_closed_is_found_as_well(floor: Floor) -> None:
    floor.send("a")
    happen(floor, trades_hidden=True)
    happen(floor, liquidate="BTCUSDT", quantity="0.002")
    happen(floor, trade={"symbol": "BTCUSDT", "side": "SELL", "quantity": "0.003"})
    assert look(floor) == []
    assert ends(floor) == [("closed_at_venue", Decimal("0.003")), ("liquidated", Decimal("0.002"))]
    assert floor.send(action="close")["action"] == "closed"
    check_nothing_is_left(floor)


def test_the_fee_of_a_hidden_liquidation_is_its_own_and_no_neighbours(floor: Floor) -> None:
    floor.send("a", size=560)
    happen(floor, trades_hidden=True)
    requests.post(f"{floor.venue_url}/_control/account", json={"liquidate": "BTCUSDT", "percent": 50}, timeout=30)
    happen(floor, trade={"symbol": "BTCUSDT", "side": "SELL", "quantity": "0.001"})  # within the same second
    assert look(floor) == []
    floor.send(action="close")
    check_nothing_is_left(floor)


def test_a_liquidation_right_after_an_entry_does_not_pay_its_fee_again(floor: Floor) -> None:
    happen(floor, trades_hidden=True)
    floor.send("a")
    happen(floor, liquidate="BTCUSDT")
    assert look(floor) == []
    check_nothing_is_left(floor)


def test_a_record_that_lags_is_read_again_until_it_tells(floor: Floor) -> None:
    floor.send("a", **STOP)
    happen(floor, record_lag_s=LAG_S)
    floor.hands.now += LAG_S
    happen(floor, liquidate="BTCUSDT")
    (reason,) = look(floor)
    assert reason is not None
    assert "0.009" in reason
    assert floor.store.list_trades() == ()
    assert floor.send(action="close")["success"] is False
    floor.hands.now += LAG_S
    assert look(floor) == []
    assert ends(floor) == [("liquidated", Decimal("0.009"))]
    check_nothing_is_left(floor)


def test_what_a_record_does_not_tell_at_all_is_left_as_it_is(floor: Floor) -> None:
    floor.send("a")
    happen(floor, trades_hidden=True, forced_hidden=True)
    happen(floor, liquidate="BTCUSDT")
    (reason,) = look(floor)
    assert reason is not None
    assert floor.store.list_trades() == ()
    happen(floor, forced_hidden=False)
    assert look(floor) == []
    assert ends(floor) == [("liquidated", Decimal("0.009"))]


def test_an_exit_closes_what_is_held_when_its_turn_has_come(floor: Floor) -> None:
    """While it waits for an exit of another strategy, what a hand has closed of its position is booked."""
    a, b, c = floor.strategy(), floor.strategy(), floor.strategy()
    floor.send(strategy_id=a)
    floor.send(strategy_id=b, action="sell")
    floor.send(strategy_id=c, size=560)
    desk, turn = floor.server.protection_watchdog._executor, (floor.user_id, "aster", "BTCUSDT")
    with ThreadPoolExecutor(1) as pool:
        with desk._locks.hold(turn, 10):
            answer = pool.submit(floor.send, strategy_id=a, action="close")
            until(lambda: desk._locks.count_waiting(turn) == 1)
            happen(floor, trade={"symbol": "BTCUSDT", "side": "SELL", "quantity": "0.006"})
            assert look(floor) == []
        assert answer.result()["action"] == "closed"
    assert floor.booked() == floor.net()
    for each in (b, c):
        assert floor.send(strategy_id=each, action="close")["action"] == "closed"
    check_nothing_is_left(floor)


@pytest.mark.usefixtures("one_day")
def test_the_daily_loss_limit_sees_a_liquidation_and_refuses_the_next_entry(floor: Floor) -> None:
    limited = "insert into trade_settings_exchange (user_id, exchange, max_daily_loss_usd) values (%s, 'aster', 1)"
    floor.sql(limited, floor.user_id)
    floor.send("a")
    happen(floor, liquidate="BTCUSDT")
    assert look(floor) == []
    told = floor.send("b")
    assert (told["success"], told["data"]["limitType"]) == (False, "daily_loss")


def settings_of(floor: Floor) -> Settings:
    """Of a command that sends to the floor's server."""
    return Settings(webhook_url=f"{floor.url}/webhook/ai-signal")


@pytest.mark.parametrize("is_seen", [False, True], ids=["unseen", "booked"])
def test_closing_all_ends_where_the_venue_has_ended_everything(floor: Floor, *, is_seen: bool) -> None:
    for each in (floor.strategy(), floor.strategy()):
        floor.send(strategy_id=each, **STOP)
    happen(floor, liquidate="BTCUSDT")
    if is_seen:
        look(floor)
    assert close_positions(settings_of(floor), floor.store, floor.user_id, None).is_complete
    assert {trade.exit_reason for trade in floor.store.list_trades()} == {"liquidated"}
    check_nothing_is_left(floor)


def test_an_account_that_traded_with_itself_has_ended_nothing(floor: Floor) -> None:
    floor.send("a", **STOP)
    happen(floor, self_trade={"symbol": "BTCUSDT", "quantity": "0.001"})
    assert look(floor) == []
    assert ends(floor) == []
    happen(floor, self_trade={"symbol": "BTCUSDT", "quantity": "0.001"})
    happen(floor, close="BTCUSDT")
    assert look(floor) == []
    assert ends(floor) == [("closed_at_venue", Decimal("0.009"))]


def test_a_forced_order_whose_price_is_not_told_is_not_booked(floor: Floor) -> None:
    floor.send("a", **STOP)
    happen(floor, trades_hidden=True)
    happen(floor, liquidate="BTCUSDT")
    priceless = {"0.avgPrice": "0", "0.cumQuote": "0"}
    floor.misbehave({"kind": "edit", "path": "/forceOrders", "replace": priceless, "times": None})
    look(floor)
    assert ends(floor) == []
    assert floor.booked() == Decimal("0.009")
    floor.misbehave()
    assert look(floor) == []
    assert ends(floor) == [("liquidated", Decimal("0.009"))]
    check_nothing_is_left(floor)


def test_an_entry_and_its_exit_are_booked_while_trades_cannot_be_asked(floor: Floor) -> None:
    floor.send("first")
    floor.send(action="close")
    floor.misbehave({"kind": "status", "status": 503, "path": "/userTrades", "times": None})
    told = floor.send("a", **STOP)
    assert (told["success"], told["action"]) == (True, "opened")
    assert len(floor.waiting()) == 1
    assert floor.send(action="close")["action"] == "closed"
    floor.misbehave()
    check_nothing_is_left(floor)
