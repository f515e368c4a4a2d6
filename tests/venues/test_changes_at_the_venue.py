"""What happens at the venue without us is in the books soon after, at its price, and no order of ours crosses zero."""

from decimal import Decimal
from typing import Any

import pytest

from simulator.venue.trading_account import Order
from tests.venues.conftest import Floor

STOP: dict[str, Any] = {"stop_loss_percent": 2}
LOT = Decimal("0.001")


def by_hand(floor: Floor, side: str, quantity: Decimal, symbol: str = "BTCUSDT") -> Order:
    """An order on the venue's page."""
    (user,) = floor.exchange._accounts
    given = {"symbol": symbol, "side": side, "type": "MARKET", "quantity": f"{quantity:f}"}
    order = floor.exchange.place_order(user, given)
    floor.exchange.save_account(user, is_read_only=False)
    return order


def judged(floor: Floor) -> tuple[Decimal, Decimal]:
    """P&L of all trades in the books, and what the account has gained by its own record (nothing is held)."""
    (account,) = floor.exchange._accounts.values()
    booked = sum((trade.pnl_usd or Decimal(0) for trade in floor.store.list_trades()), Decimal(0))
    return booked, sum((f.realized - f.commission for f in account.fills), Decimal(0))


def reasons(floor: Floor) -> list[tuple[str | None, Decimal]]:
    return sorted((trade.exit_reason, trade.quantity) for trade in floor.store.list_trades())


def test_a_position_that_a_hand_closed_is_booked_at_its_price_and_its_stop_is_cancelled(floor: Floor) -> None:
    floor.send("a", **STOP)
    floor.direct(jump_percent=1)
    order = by_hand(floor, "SELL", floor.net())
    assert floor.server.reconciliation.run() == ()
    (trade,) = floor.store.list_trades()
    assert (trade.exit_reason, trade.exit_price) == ("closed_at_venue", order.average)
    assert floor.waiting() == []
    assert floor.store.list_open_positions() == ()
    booked, at_venue = judged(floor)
    assert booked == at_venue
    assert floor.send(action="close")["action"] == "skipped"


def test_a_part_that_a_hand_closed_is_booked_and_the_rest_is_protected_for_what_it_is(floor: Floor) -> None:
    floor.send("a", **STOP)
    by_hand(floor, "SELL", LOT * 3)
    floor.server.reconciliation.run()
    floor.server.protection_watchdog.run()
    assert floor.booked() == floor.net() > 0
    assert [order.quantity for order in floor.waiting()] == [floor.net()]


def test_an_exit_of_what_is_gone_at_the_venue_books_what_happened_and_sends_nothing(floor: Floor) -> None:
    floor.send("a", **STOP)
    by_hand(floor, "SELL", floor.net())
    told = floor.send(action="close")
    assert (told["success"], told["action"]) == (True, "skipped")
    assert "closed_at_venue" in told["reason"]
    assert reasons(floor) == [("closed_at_venue", Decimal("0.009"))]
    assert floor.net() == floor.booked() == 0
    assert floor.waiting() == []


def two(floor: Floor) -> tuple[str, str]:
    """A long position of 0.018 and a short one of 0.009 on one account."""
    a, b = floor.strategy(), floor.strategy()
    assert floor.send("long", strategy_id=a, size=560)["action"] == "opened"
    assert floor.send("short", strategy_id=b, action="sell")["action"] == "opened"
    return a, b


def test_a_net_that_a_hand_closed_is_taken_from_its_side_and_an_exit_leaves_what_the_other_holds(floor: Floor) -> None:
    a, b = two(floor)
    net = floor.net()
    by_hand(floor, "SELL", net)
    assert floor.send(strategy_id=a, action="close")["action"] == "closed"
    assert floor.net() == floor.booked() < 0
    assert ("closed_at_venue", net) in reasons(floor)
    assert floor.send(strategy_id=b, action="close")["action"] == "closed"
    assert floor.net() == floor.booked() == 0
    booked, at_venue = judged(floor)
    assert booked == at_venue


def test_no_order_that_closes_crosses_zero(floor: Floor) -> None:
    a, b = two(floor)
    assert floor.send(strategy_id=a, action="close")["remaining_quantity"] == 0
    assert floor.send(strategy_id=b, action="close")["remaining_quantity"] == 0
    (account,) = floor.exchange._accounts.values()
    net = Decimal(0)
    for number, fill in enumerate(account.fills):
        before, net = net, net + (fill.quantity if fill.order.is_buy else -fill.quantity)
        is_entry = number < 2
        assert is_entry or before * net >= 0
    floor.check_books()


def test_what_a_hand_added_stays_a_difference_and_what_it_then_closed_is_its_own_first(floor: Floor) -> None:
    floor.send("a", **STOP)
    by_hand(floor, "BUY", LOT * 2)
    (difference,) = floor.server.reconciliation.run()
    assert difference.at_venue - difference.booked == LOT * 2
    by_hand(floor, "SELL", LOT * 3)
    floor.sql("update fills set created_at = now() - interval '1 minute'")
    assert floor.server.reconciliation.run() == ()
    assert reasons(floor) == [("closed_at_venue", LOT)]
    assert floor.net() == floor.booked() > 0


def test_a_position_that_was_closed_and_opened_again_by_hand_is_no_longer_the_strategys(floor: Floor) -> None:
    floor.send("a")
    net = floor.net()
    floor.hands.now += 3  # a change within 2 s of our own fill is taken for that fill
    by_hand(floor, "SELL", net)
    by_hand(floor, "BUY", net)
    floor.server.reconciliation.run()
    assert reasons(floor) == [("closed_at_venue", net)]
    floor.sql("update fills set created_at = now() - interval '1 minute'")
    (difference,) = floor.server.reconciliation.run()
    assert (difference.booked, difference.at_venue) == (Decimal(0), net)


def test_a_stop_never_opens_the_other_side_after_a_hand_has_closed(floor: Floor) -> None:
    a, _ = two(floor)
    floor.send("more", strategy_id=a, size=280, **STOP)
    by_hand(floor, "SELL", floor.net())
    floor.direct(jump_percent=-5)
    floor.net()
    floor.server.reconciliation.run()
    floor.server.mark_to_market.run_once()
    assert floor.net() == floor.booked() < 0


def test_a_reversal_of_what_has_ended_at_the_venue_enters_all_the_same(floor: Floor) -> None:
    floor.send("a")
    by_hand(floor, "SELL", floor.net())
    told = floor.send("b", action="sell")
    assert (told["action"], told["side"]) == ("opened", "SHORT")
    assert reasons(floor) == [("closed_at_venue", Decimal("0.009"))]
    assert floor.net() == floor.booked() < 0


@pytest.mark.usefixtures("one_day")
def test_a_reversal_of_what_has_ended_is_judged_by_the_loss_that_it_brought(floor: Floor) -> None:
    floor.sql(
        "insert into trade_settings_exchange (user_id, exchange, max_daily_loss_usd) values (%s, 'aster', 1)",
        floor.user_id,
    )
    floor.send("a")
    floor.direct(jump_percent=-2)
    by_hand(floor, "SELL", floor.net())
    told = floor.send("b", action="sell")
    assert (told["status"], told["data"]["limitType"]) == (429, "daily_loss")
    assert floor.net() == 0
