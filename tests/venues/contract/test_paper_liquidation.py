"""Paper positions are liquidated at the prices of every venue, also between two looks and while no server ran."""

from decimal import Decimal
from typing import Any

import pytest

from engine.domain.positions import Position
from tests.venues.conftest import Floor
from webhook_server.background.protective_exits import ProtectiveExits

MINUTE_S = 60.0


def entered(floor: Floor, mode: str | None = "isolated", leverage: int = 20, **fields: Any) -> Position:
    """A paper position of 1,000 USD."""
    capital = fields.pop("capital_usd", 10_000)
    name = floor.strategy(is_paper_trading=True, leverage_max=leverage, margin_mode=mode, capital_usd=capital)
    told = floor.send(strategy_id=name, leverage=leverage, size=1_000, **fields)
    assert told["action"] == "opened", told
    floor.hands.now += MINUTE_S  # what was before the entry is in no candle that counts
    floor.server.mark_to_market.run_once()
    return next(held for held in floor.store.list_open_positions() if str(held.strategy_id) == name)


def move(floor: Floor, *percents: float) -> None:
    """The price jumps, a second each time after what was before."""
    for percent in percents:
        floor.hands.now += 1
        floor.direct(jump_percent=percent)


def ends(floor: Floor) -> list[tuple[str | None, Decimal | None]]:
    """Of the trades after one round at the price of now."""
    floor.server.mark_to_market.run_once()
    return [(trade.exit_reason, trade.exit_price) for trade in floor.store.list_trades()]


def lost(floor: Floor) -> Decimal:
    (trade,) = floor.store.list_trades()
    return -(trade.pnl_usd or Decimal(0))


@pytest.mark.parametrize("mode", ["isolated", None])
@pytest.mark.parametrize(("action", "percent"), [("buy", -12), ("sell", 12)])
def test_twenty_times_leverage_does_not_survive_twelve_percent(
    floor: Floor, action: str, percent: int, mode: str | None
) -> None:
    held = entered(floor, mode, action=action)
    assert held.margin_mode == "isolated"
    move(floor, percent)
    ((reason, _),) = ends(floor)
    assert reason == "liquidated"
    margin = held.position_size_usd / 20
    assert margin * Decimal("0.99") < lost(floor) <= margin + held.fees_usd


def test_a_person_without_a_strategy_is_liquidated_too(floor: Floor) -> None:
    floor.send(environment="paper", leverage=20)
    move(floor, -12)
    assert [reason for reason, _ in ends(floor)] == ["liquidated"]


def test_the_liquidation_price_is_shown_and_less_than_that_is_survived(floor: Floor) -> None:
    held = entered(floor)
    assert held.liquidation_price is not None
    assert Decimal(27200) < held.liquidation_price < Decimal(27300)  # 2.56 % below the entry
    move(floor, -2)
    assert ends(floor) == []


def test_a_price_that_passed_and_came_back_between_two_looks_has_liquidated(floor: Floor) -> None:
    held = entered(floor)
    move(floor, -12, 14)
    floor.hands.now += MINUTE_S
    ((reason, price),) = ends(floor)
    assert reason == "liquidated"
    assert price is not None
    assert 24_600 <= price <= 27_300
    assert lost(floor) <= held.position_size_usd / 20 + held.fees_usd


def test_what_happened_while_no_server_ran_is_found_by_the_next_one(floor: Floor) -> None:
    entered(floor)
    floor.hands.now += 5 * MINUTE_S
    move(floor, -12, 14)
    floor.hands.now += 55 * MINUTE_S
    another = floor.build_another()
    another.mark_to_market.run_once()
    assert [trade.exit_reason for trade in floor.store.list_trades()] == ["liquidated"]
    another.mark_to_market.run_once()
    assert len(floor.store.list_trades()) == 1
    another.workers.shutdown()


def test_what_was_before_the_entry_liquidates_nothing(floor: Floor) -> None:
    move(floor, -12, 14)
    entered(floor)
    floor.hands.now += 3 * MINUTE_S
    assert ends(floor) == []


def test_a_stop_before_the_liquidation_price_acts_first(floor: Floor) -> None:
    held = entered(floor, stop_loss_percent=2)
    move(floor, -12)
    ((reason, _),) = ends(floor)
    assert reason == "stop_loss"
    assert lost(floor) <= held.position_size_usd / 20 + held.fees_usd * 3


@pytest.mark.parametrize(("percent", "reason"), [(-3, "stop_loss"), (5, "take_profit")])
def test_a_stop_or_target_that_was_passed_between_two_looks_was_executed(
    floor: Floor, percent: float, reason: str
) -> None:
    entered(floor, leverage=2, stop_loss_percent=2, take_profit_percent=4)
    move(floor, percent, -percent)
    floor.hands.now += MINUTE_S
    assert [reason for reason, _ in ends(floor)] == [reason]


def test_cross_margin_survives_with_enough_equity_and_shares_it(floor: Floor) -> None:
    entered(floor, "cross", capital_usd=10_000)
    move(floor, -12)
    assert ends(floor) == []


def test_cross_margin_is_liquidated_when_the_equity_of_its_strategy_is_used_up(floor: Floor) -> None:
    held = entered(floor, "cross", capital_usd=100)
    move(floor, -5)
    assert ends(floor) == []
    move(floor, -7)
    ((reason, _),) = ends(floor)
    assert reason == "liquidated"
    assert lost(floor) <= 100 + held.fees_usd


def test_an_exit_that_broke_off_before_it_was_booked_is_booked_once_at_its_price(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server dies once the request is begun; meanwhile the price has recovered."""
    entered(floor)
    move(floor, -12)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(floor.store, "book_fill", die)
        with pytest.raises(KeyboardInterrupt):
            floor.server.mark_to_market.run_once()
    move(floor, 14)
    another = floor.build_another()
    another.recovery.run()
    another.mark_to_market.run_once()
    (trade,) = floor.store.list_trades()
    assert trade.exit_reason == "liquidated"
    assert trade.exit_price is not None
    assert trade.exit_price < Decimal(27_300)
    assert floor.store.list_open_positions() == ()
    another.workers.shutdown()


def test_an_exit_that_cannot_be_made_now_is_made_in_a_later_round(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered(floor)
    move(floor, -12, 14)
    floor.hands.now += MINUTE_S
    with monkeypatch.context() as busy:
        busy.setattr(ProtectiveExits, "exit", lambda *_, **__: None)
        floor.server.mark_to_market.run_once()
    assert [reason for reason, _ in ends(floor)] == ["liquidated"]
