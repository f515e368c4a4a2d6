"""A symbol that is not traded takes no entries; one that is gone is settled, in both books."""

from decimal import Decimal
from typing import Any

import pytest

from tests.venues.conftest import Floor
from tests.venues.instruments import change, orders_sent, reload
from webhook_server.reconciliation.delisting import MAX_SETTLEMENT_CHECKS

BOOKS = pytest.mark.parametrize("environment", ["production", "paper"])
ENDS = ("trades", "REALIZED_PNL", "DELIVERED_SETTELMENT", "nothing")


@BOOKS
def test_a_symbol_that_is_not_traded_takes_no_entry_and_lets_exits_go(floor: Floor, environment: str) -> None:
    floor.send("a", environment=environment)
    change(floor, status="SETTLING")
    sent = orders_sent(floor)
    told = floor.send("b", environment=environment)
    assert (told["status"], told["success"]) == (200, False)
    assert "not traded" in told["error"]
    assert orders_sent(floor) == sent
    assert floor.send("x", action="close", environment=environment)["action"] == "closed"
    assert floor.booked() == 0


def test_an_exit_beside_others_is_sent_though_the_list_that_is_known_says_not_traded(floor: Floor) -> None:
    """What it closes is no reduction of the account, so that only its sender says that it is an exit."""
    long, short = floor.strategy(), floor.strategy()
    floor.send(strategy_id=long, action="buy", size=280)
    floor.send(strategy_id=short, action="sell", size=840)
    change(floor, status="SETTLING")
    assert floor.send(strategy_id=long, action="buy", size=280)["success"] is False  # the list was searched just now
    change(floor, status="TRADING", is_read=False)
    told = floor.send(strategy_id=long, action="close")
    assert (told["action"], told["remaining_quantity"]) == ("closed", 0)


def remove(floor: Floor, how: str, *, is_read: bool = False) -> None:
    change(floor, is_read=is_read, remove=how, price="27000")


@pytest.mark.parametrize("is_read", [True, False], ids=["read", "unread"])
@pytest.mark.parametrize("how", ENDS)
def test_what_was_held_in_a_symbol_that_is_gone_is_settled_within_a_look_or_once_no_record_comes(
    floor: Floor, how: str, *, is_read: bool
) -> None:
    floor.send("a", stop_loss_percent=2)
    remove(floor, how, is_read=is_read)
    is_told = how != "nothing"
    for _ in range(1 if is_told else MAX_SETTLEMENT_CHECKS):
        assert floor.server.reconciliation.run() == ()
    (trade,) = floor.store.list_trades()
    assert trade.exit_reason == ("settled" if is_told else "delisted")
    assert (trade.exit_price == Decimal(27_000)) is is_told
    assert floor.booked() == 0
    told = floor.send("x", action="close")
    assert (told["status"], told["success"], told["action"]) == (200, True, "skipped")
    floor.server.protection_watchdog.run()
    assert floor.metric("unprotected_positions") == 0


@pytest.mark.parametrize("how", ENDS)
def test_a_close_of_a_symbol_that_is_gone_is_answered_and_settles_it(floor: Floor, how: str) -> None:
    floor.send("a", stop_loss_percent=2)
    remove(floor, how)
    told = floor.send("x", action="close")
    if how == "nothing":  # a record may be late
        assert told["status"] == 503
        for _ in range(MAX_SETTLEMENT_CHECKS):
            assert floor.server.reconciliation.run() == ()
        told = floor.send("x", action="close")
    assert (told["status"], told["success"]) == (200, True)
    assert told["action"] in {"closed", "skipped"}
    assert floor.booked() == 0
    assert floor.server.reconciliation.run() == ()


def test_a_paper_position_in_a_symbol_that_is_gone_ends_at_its_last_price(floor: Floor) -> None:
    floor.send("a", environment="paper")
    floor.server.mark_to_market.run_once()
    remove(floor, "nothing", is_read=True)
    floor.server.mark_to_market.run_once()
    (trade,) = floor.store.list_trades()
    assert (trade.exit_reason, trade.exit_price) == ("delisted", Decimal(28_000))
    assert floor.store.list_open_positions() == ()


def test_a_close_on_paper_of_a_symbol_that_is_gone_is_made(floor: Floor) -> None:
    floor.send("a", environment="paper")
    remove(floor, "nothing", is_read=True)
    told = floor.send("x", action="close", environment="paper")
    assert (told["status"], told["action"]) == (200, "closed")
    assert floor.store.list_open_positions() == ()


def test_a_symbol_that_is_gone_is_in_the_way_of_no_other(floor: Floor) -> None:
    wish: dict[str, Any] = {"list": {"symbol": "ETHUSDT", "like": "BTCUSDT"}}
    change(floor, **wish)
    floor.send("a", stop_loss_percent=2)
    floor.send("b", symbol="ETHUSDT", stop_loss_percent=2)
    remove(floor, "trades")
    assert floor.server.reconciliation.run() == ()
    floor.server.protection_watchdog.run()
    floor.server.mark_to_market.run_once()
    reload(floor)
    assert [each.symbol for each in floor.store.list_open_positions()] == ["ETHUSDT"]
    assert floor.send("x", symbol="ETHUSDT", action="close")["action"] == "closed"
