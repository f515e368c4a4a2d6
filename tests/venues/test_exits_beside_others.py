"""Exits and undoings beside what others hold on the account: no more than is ours, and never final for what passes."""

from decimal import Decimal
from typing import Any

import pytest

from tests.support.clients.trading import PROTECTIVE
from tests.venues.conftest import Floor
from tests.venues.test_changes_at_the_venue import by_hand

STOP: dict[str, Any] = {"stop_loss_percent": 2}


@pytest.mark.parametrize("usd", [280, 120])
def test_what_the_person_holds_outside_on_the_other_side_blocks_no_exit(floor: Floor, usd: int) -> None:
    floor.send("first", size=20)
    by_hand(floor, "SELL", Decimal("0.009"))
    floor.send("first-close", action="close")
    floor.server.reconciliation.run()
    floor.sql(
        "insert into outside_holdings (user_id, exchange, symbol, quantity) values (%s, %s, 'BTCUSDT', %s)",
        floor.user_id,
        floor.simulated.name,
        floor.net(),
    )
    floor.sql("update reconciliation_differences set resolved_at = now()")
    before = floor.net()
    assert floor.send("a", size=usd, **STOP)["action"] == "opened"
    told = floor.send("b", action="close")
    assert (told["action"], told["remaining_quantity"]) == ("closed", 0)
    assert floor.net() == before


def test_an_undo_takes_back_no_more_than_the_account_holds_of_it(floor: Floor) -> None:
    a, b = floor.strategy(), floor.strategy()
    floor.send("short", strategy_id=b, action="sell")
    exchange = floor.exchange
    place = exchange.place_order

    def closes_by_hand(user: str, params: Any) -> Any:
        """As the stop is refused, a hand closes the account's net."""
        if params.get("type") in PROTECTIVE:
            exchange.place_order = place  # type: ignore[method-assign]
            by_hand(floor, "SELL", Decimal("0.009"))
        return place(user, params)

    exchange.place_order = closes_by_hand  # type: ignore[method-assign]
    floor.direct(refused_kinds=PROTECTIVE)
    assert floor.send("long", strategy_id=a, size=560, **STOP)["success"] is False
    floor.server.reconciliation.run()
    assert floor.net() == floor.booked() < 0


def test_a_reversal_of_what_a_hand_has_cut_enters_all_the_same(floor: Floor) -> None:
    floor.send("a")
    by_hand(floor, "SELL", Decimal("0.003"))
    told = floor.send("b", action="sell")
    assert (told["action"], told["side"]) == ("opened", "SHORT")
    assert floor.net() == floor.booked() < 0


@pytest.mark.parametrize("path", ["/userTrades", "/forceOrders"])
def test_an_exit_whose_record_cannot_be_read_comes_back(floor: Floor, path: str) -> None:
    floor.send("a")
    by_hand(floor, "SELL", floor.net())
    floor.misbehave({"kind": "status", "status": 503, "path": path, "times": None})
    assert floor.send("x", action="close")["status"] == 503
    floor.misbehave()
    assert floor.send("x", action="close")["action"] == "skipped"
    assert floor.booked() == 0


def test_an_exit_beyond_zero_knows_what_hands_did_and_undid_on_the_account(floor: Floor) -> None:
    a, b = floor.strategy(), floor.strategy()
    floor.send("long", strategy_id=a)
    by_hand(floor, "SELL", Decimal("0.004"))
    floor.send("short", strategy_id=b, action="sell")
    by_hand(floor, "BUY", Decimal("0.004"))
    floor.send("more", strategy_id=b, action="sell", size=560)
    assert floor.send("x", strategy_id=a, action="close")["action"] == "closed"
    assert floor.send("y", strategy_id=b, action="close")["action"] == "closed"
    assert floor.net() == floor.booked() == 0
    (account,) = floor.exchange._accounts.values()
    there = sum((fill.commission for fill in account.fills), Decimal(0))
    assert sum((fee for *_, fee in floor.fills()), Decimal(0)) == there
