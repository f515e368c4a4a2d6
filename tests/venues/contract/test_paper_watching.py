"""By which prices paper positions end: the mark price, a last price of now, and all that happened before an order."""

from collections.abc import Callable
from typing import Any

import pytest
import requests

from engine.domain.errors import VenueUnavailable
from engine.domain.positions import Position
from simulator.market.market import Market
from simulator.venue.venue import SimulatedVenue
from tests.support.factories.markets import flat_then_rising
from tests.venues.conftest import Floor

from .test_paper_liquidation import MINUTE_S, ends, entered, move


@pytest.fixture
def make_exchange() -> Callable[..., SimulatedVenue]:
    """A venue that lists ETHUSDT beside the usual one."""

    def made(markets: dict[str, Market], *rest: Any, **more: Any) -> SimulatedVenue:
        return SimulatedVenue({**markets, "ETHUSDT": Market(flat_then_rising())}, *rest, **more)

    return made


def reasons(floor: Floor) -> list[str | None]:
    """Of the trades, without another round."""
    return [trade.exit_reason for trade in floor.store.list_trades()]


def tell_candles(floor: Floor, **wish: Any) -> None:
    requests.post(f"{floor.venue_url}/_control/candles", json=wish, timeout=30).raise_for_status()


def tell_true_candles(floor: Floor) -> None:
    requests.delete(f"{floor.venue_url}/_control/candles", timeout=30).raise_for_status()


def send(floor: Floor, held: Position, **fields: Any) -> dict[str, Any]:
    return floor.send(strategy_id=str(held.strategy_id), leverage=20, **fields)


def fell_while_no_server_ran(floor: Floor) -> Position:
    held = entered(floor)
    move(floor, -12, 14)
    floor.hands.now += 60 * MINUTE_S
    floor.start_anew()
    return held


def test_a_ticker_that_disagrees_with_book_and_mark_price_liquidates_nothing(floor: Floor) -> None:
    entered(floor)
    floor.quote_as(ticker_percent=-5)
    assert ends(floor) == []


@pytest.mark.parametrize(("action", "percent"), [("buy", -12), ("sell", 12)])
def test_the_mark_price_liquidates_while_the_last_price_stands(floor: Floor, action: str, percent: int) -> None:
    held = entered(floor, action=action)
    floor.quote_as(mark_percent=percent)
    ((reason, _),) = ends(floor)
    assert reason == "liquidated"
    (trade,) = floor.store.list_trades()
    assert -(trade.pnl_usd or 0) <= held.position_size_usd / 20 + held.fees_usd


def test_a_mark_price_that_is_old_ends_nothing(floor: Floor) -> None:
    entered(floor)
    floor.quote_as(mark_percent=-12, mark_age_s=31)
    assert ends(floor) == []
    floor.quote_as(mark_age_s=0)
    assert [reason for reason, _ in ends(floor)] == ["liquidated"]


@pytest.mark.parametrize("leverage", [2, 20])
def test_a_last_price_of_ten_minutes_ago_ends_nothing(floor: Floor, leverage: int) -> None:
    entered(floor, leverage=leverage, stop_loss_percent=2)
    old = {"closeTime": floor.exchange.clock.now_ms() - 600_000, "lastPrice": "26600.0"}
    floor.misbehave({"kind": "edit", "path": "/ticker/24hr", "times": None, "replace": old})
    assert ends(floor) == []


def test_without_a_mark_price_the_candles_still_liquidate(floor: Floor) -> None:
    entered(floor)
    floor.quote_as(mark_hidden=True)
    move(floor, -12, 14)
    floor.hands.now += MINUTE_S
    assert [reason for reason, _ in ends(floor)] == ["liquidated"]


@pytest.mark.parametrize("signal", [{"action": "close"}, {"size": 300}, {"action": "sell", "size": 300}])
def test_what_happened_before_an_order_counts_before_it(floor: Floor, signal: dict[str, Any]) -> None:
    held = fell_while_no_server_ran(floor)
    told = send(floor, held, **signal)
    assert reasons(floor) == ["liquidated"]
    assert told.get("action") == ("skipped" if signal.get("action") == "close" else "opened"), told
    assert floor.store.list_open_positions() == () or floor.store.list_open_positions()[0].id != held.id


def test_an_exit_goes_on_where_the_past_is_not_told(floor: Floor) -> None:
    held = fell_while_no_server_ran(floor)
    floor.misbehave({"kind": "status", "status": 503, "path": "/klines", "times": None})
    assert send(floor, held, action="close")["action"] == "closed"


def test_nothing_is_added_where_the_past_is_not_told(floor: Floor) -> None:
    held = fell_while_no_server_ran(floor)
    floor.misbehave({"kind": "status", "status": 503, "path": "/klines", "times": None})
    assert send(floor, held, size=300)["status"] == 503
    floor.misbehave()
    assert [reason for reason, _ in ends(floor)] == ["liquidated"]


@pytest.mark.parametrize("fault", ["missing", "quiet"])
def test_a_candle_that_is_told_late_or_first_told_wrongly_counts_once_it_is_told(floor: Floor, fault: str) -> None:
    entered(floor)
    move(floor, -12, 14)
    floor.hands.now += MINUTE_S
    tell_candles(floor, **{fault: [0]})
    assert ends(floor) == []
    floor.hands.now += MINUTE_S
    assert ends(floor) == []
    tell_true_candles(floor)
    floor.hands.now += MINUTE_S
    assert [reason for reason, _ in ends(floor)] == ["liquidated"]


def test_what_was_before_an_addition_is_not_looked_at_again(floor: Floor) -> None:
    """Bought higher by then, the whole would have been liquidated at prices that the first part survived."""
    name = floor.strategy(is_paper_trading=True, leverage_max=20, margin_mode="isolated", max_position_usd=50_000)
    assert floor.send(strategy_id=name, leverage=20, size=1_000)["action"] == "opened"
    floor.hands.now += MINUTE_S
    move(floor, -2, 10)
    floor.hands.now += 2 * MINUTE_S
    assert ends(floor) == []
    assert floor.send(strategy_id=name, leverage=20, size=900)["action"] == "opened"
    floor.hands.now += 3 * MINUTE_S
    assert ends(floor) == []
    (held,) = floor.store.list_open_positions()
    assert held.liquidation_price is not None
    assert held.liquidation_price > 27_500


@pytest.mark.parametrize("path", ["ticker", "klines"])
def test_a_cross_position_ends_though_another_symbol_of_its_strategy_was_not_told_meanwhile(
    floor: Floor, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = floor.strategy(
        is_paper_trading=True, leverage_max=20, margin_mode="cross", capital_usd=150, max_position_usd=1_000
    )
    assert floor.send(strategy_id=name, leverage=20, size=1_000)["action"] == "opened"
    assert floor.send(strategy_id=name, leverage=20, size=300, symbol="ETHUSDT")["action"] == "opened"
    floor.hands.now += MINUTE_S
    floor.server.mark_to_market.run_once()
    assert floor.venues is not None
    asked = (
        floor.venues.quotes(floor.simulated.name) if path == "ticker" else floor.venues.history(floor.simulated.name)
    )
    method = "fetch_ticker" if path == "ticker" else "fetch_candles"
    real = getattr(asked, method)

    def told(symbol: str, *rest: Any) -> Any:
        if symbol == "ETHUSDT":
            raise VenueUnavailable("no answer")
        return real(symbol, *rest)

    with monkeypatch.context() as broken:
        broken.setattr(asked, method, told)
        for percent in (-40, 70):
            floor.hands.now += 1
            floor.direct(symbol="BTCUSDT", jump_percent=percent)
        floor.hands.now += 2 * MINUTE_S
        assert ends(floor) == []
    floor.hands.now += MINUTE_S
    assert [reason for reason, _ in ends(floor)] == ["liquidated", "liquidated"]


@pytest.mark.parametrize(("capital", "action"), [(100, None), (1_100, "opened")])
def test_paper_asks_for_the_initial_margin_as_the_venue_does(floor: Floor, capital: int, action: str | None) -> None:
    name = floor.strategy(is_paper_trading=True, capital_usd=capital, max_position_usd=5_000)
    told = floor.send(strategy_id=name, leverage=1, size=1_000)
    assert told["status"] == 200
    assert told.get("action") == (action or "rejected"), told
    assert action is not None or "Margin is insufficient" in told["reason"]


def test_what_is_held_leaves_less_margin_for_the_next_entry(floor: Floor) -> None:
    name = floor.strategy(is_paper_trading=True, capital_usd=1_000, max_position_usd=50_000, leverage_max=20)
    assert floor.send(strategy_id=name, leverage=10, size=9_000)["action"] == "opened"
    told = floor.send(strategy_id=name, leverage=10, size=1_500, symbol="ETHUSDT")
    assert told.get("action") == "rejected", told
    assert floor.send(strategy_id=name, leverage=10, size=500, symbol="ETHUSDT")["action"] == "opened"
