"""What ends at the venue while several strategies hold the symbol: each bears its share, and nothing ends twice."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from cli.commands.close_positions import close_positions
from tests.venues.conftest import Floor
from tests.venues.test_outside_ends import (
    STOP,
    ZERO,
    check_nothing_is_left,
    ends,
    happen,
    look,
    settings_of,
    there,
)


def three(floor: Floor) -> list[str]:
    """Two long positions, of 0.018 and 0.009 in two entries, and a short one of 0.009 on one account."""
    made = [floor.strategy() for _ in range(3)]
    for strategy, action, size in zip(
        (*made, made[1]), ("buy", "buy", "sell", "buy"), (560, 140, 280, 140), strict=True
    ):
        floor.hands.now += 2
        assert floor.send(strategy_id=strategy, action=action, size=size)["success"] is True
    return made


@pytest.mark.parametrize("manners", [{}, {"trades_hidden": True}], ids=["plain", "trades hidden"])
@pytest.mark.parametrize("pieces", [1, 3])
def test_a_liquidation_is_shared_over_the_long_positions_to_the_last_digit(
    floor: Floor, manners: dict[str, Any], pieces: int
) -> None:
    made = three(floor)
    net, opposite = (
        floor.net(),
        next(each for each in floor.store.list_open_positions() if str(each.strategy_id) == made[2]),
    )
    happen(floor, **manners)
    happen(floor, liquidate="BTCUSDT", pieces=pieces)
    assert look(floor) == []
    trades = floor.store.list_trades()
    assert {trade.exit_reason for trade in trades} == {"liquidated"}
    assert sum((trade.quantity for trade in trades), ZERO) == net
    assert {str(trade.strategy_id) for trade in trades} == set(made[:2])
    assert [each for each in floor.store.list_open_positions() if each.id == opposite.id] == [opposite]
    for strategy in made:
        floor.send(strategy_id=strategy, action="close")
    check_nothing_is_left(floor)


def test_what_a_hand_had_added_bears_its_own_share_of_a_liquidation(floor: Floor) -> None:
    floor.send("a")
    happen(floor, trade={"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.003"})
    (reason,) = look(floor)
    assert reason is not None
    happen(floor, liquidate="BTCUSDT")
    assert look(floor) == []
    (trade,) = floor.store.list_trades()
    (cost,) = (-each.amount for each in there(floor).incomes if each.kind == "INSURANCE_CLEAR")
    entry, _, end = there(floor).fills
    assert trade.fees_usd == entry.commission + (end.commission + cost) * trade.quantity / end.quantity


@pytest.mark.parametrize("percent", [0, 30, 75])
def test_a_stop_that_others_cut_short_is_booked_once_and_what_it_left_is_closed(floor: Floor, percent: int) -> None:
    a, b = floor.strategy(), floor.strategy()
    floor.send(strategy_id=a, size=560, **STOP)
    floor.send(strategy_id=b, action="sell")
    floor.direct(jump_percent=-5)
    floor.hands.now += 2
    if percent:
        assert floor.send(strategy_id=a, action="close", sell_percentage=percent)["action"] == "closed"
    for _ in range(2):
        floor.server.protection_watchdog.run()
        look(floor)
        floor.server.mark_to_market.run_once()
    assert {each.strategy_id for each in floor.store.list_open_positions()} == {UUID(b)}
    floor.check_books()
    assert floor.send(strategy_id=b, action="close")["action"] == "closed"
    check_nothing_is_left(floor)


def test_what_a_hand_had_closed_unseen_is_not_closed_again_by_the_second_order_of_an_exit(floor: Floor) -> None:
    a, b = floor.strategy(), floor.strategy()
    floor.send(strategy_id=a, size=560)
    floor.send(strategy_id=b, action="sell")
    happen(floor, trade={"symbol": "BTCUSDT", "side": "SELL", "quantity": "0.004"})
    assert floor.send(strategy_id=a, action="close")["action"] == "closed"
    assert floor.booked() == floor.net() < 0
    assert floor.send(strategy_id=b, action="close")["action"] == "closed"
    floor.check_books()
    check_nothing_is_left(floor)


@pytest.mark.parametrize("manners", [{}, {"trades_hidden": True}], ids=["plain", "trades hidden"])
def test_what_ended_before_another_strategy_took_the_other_side_has_ended(
    floor: Floor, manners: dict[str, Any]
) -> None:
    a, b = floor.strategy(), floor.strategy()
    floor.send(strategy_id=a)
    happen(floor, **manners)
    happen(floor, adl="BTCUSDT")
    floor.send(strategy_id=b, action="sell")
    assert look(floor) == []
    assert ends(floor) == [("adl", Decimal("0.009"))]
    assert {each.strategy_id for each in floor.store.list_open_positions()} == {UUID(b)}
    assert floor.send(strategy_id=b, action="close")["action"] == "closed"
    check_nothing_is_left(floor)


def test_closing_all_ends_where_a_hand_has_closed_the_net_of_two_sides(floor: Floor) -> None:
    three(floor)
    happen(floor, close="BTCUSDT")
    assert close_positions(settings_of(floor), floor.store, floor.user_id, None).is_complete
    check_nothing_is_left(floor)
