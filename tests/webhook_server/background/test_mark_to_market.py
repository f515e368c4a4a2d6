"""Positions follow the market, and paper stops and targets are executed as any signal is."""

from decimal import Decimal

import pytest

from engine.domain.errors import VenueUnavailable
from tests.webhook_server.conftest import Site


def metric(site: Site, name: str, **labels: str) -> float:
    return site.server.metrics.registry.get_sample_value(f"sparky_webhook_{name}", labels) or 0.0


def test_positions_are_marked_at_the_last_price(site: Site) -> None:
    site.sender.post()
    site.move("BTCUSDT", "25100.0")
    site.server.mark_to_market.run_once()
    (position,) = site.store.list_open_positions()
    assert position.current_price == Decimal("25100.0")
    # (25100 - 25005.2) * 0.039 less the entry fee
    assert position.unrealized_pnl_usd == Decimal("3.30711888")
    assert metric(site, "open_positions") == 1
    assert metric(site, "last_mark_timestamp_seconds") > 0


@pytest.mark.parametrize(
    ("action", "price", "reason"),
    [
        ("BUY", "24000.0", "stop_loss"),
        ("BUY", "27000.0", "take_profit"),
        ("SELL", "26000.0", "stop_loss"),
        ("SELL", "23000.0", "take_profit"),
    ],
)
def test_a_reached_stop_or_target_closes_the_position(site: Site, action: str, price: str, reason: str) -> None:
    strategy = str(site.strategy())
    site.sender.engine(strategy_id=strategy, action=action, stop_loss_percent=2, take_profit_percent=4)
    site.server.mark_to_market.run_once()
    assert len(site.store.list_open_positions()) == 1
    site.move("BTCUSDT", price)
    site.server.mark_to_market.run_once()
    assert site.store.list_open_positions() == ()
    (trade,) = site.store.list_trades()
    assert trade.exit_reason == reason
    assert (trade.pnl_usd or 0) > 0 or reason == "stop_loss"
    assert metric(site, "protective_exits_total", reason=reason) == 1
    site.server.mark_to_market.run_once()
    assert len(site.store.list_trades()) == 1


def test_a_protective_exit_closes_its_own_position_only(site: Site) -> None:
    one, other = str(site.strategy()), str(site.strategy())
    site.sender.engine(strategy_id=one, stop_loss_percent=2)
    site.sender.engine(strategy_id=other)
    site.move("BTCUSDT", "24000.0")
    site.server.mark_to_market.run_once()
    (left,) = site.store.list_open_positions()
    assert str(left.strategy_id) == other


def test_a_protective_exit_passes_the_kill_switch(site: Site) -> None:
    site.sender.post(stop_loss_percent=2)
    site.limits(kill_switch=True)
    site.move("BTCUSDT", "24000.0")
    site.server.mark_to_market.run_once()
    assert site.store.list_open_positions() == ()


def test_a_symbol_without_a_price_does_not_hold_up_the_others(site: Site) -> None:
    site.sender.post()
    site.sender.post(symbol="ETHUSDT")
    site.market.unpriced.add("BTCUSDT")
    site.move("ETHUSDT", "2100.0")
    site.server.mark_to_market.run_once()
    assert {position.current_price for position in site.store.list_open_positions()} >= {Decimal("2100.0")}
    assert metric(site, "mark_errors_total", exchange="aster", symbol="BTCUSDT") == 1


def test_a_venue_that_is_away_leaves_positions_as_they_are(site: Site) -> None:
    site.sender.post()
    before = site.store.list_open_positions()
    site.market.away = VenueUnavailable("no connection")
    site.server.mark_to_market.run_once()
    assert site.store.list_open_positions() == before


def test_a_position_that_cannot_be_exited_does_not_hold_up_the_others(site: Site) -> None:
    site.sender.post(stop_loss_percent=2)
    site.sender.post(symbol="ETHUSDT", stop_loss_percent=2)
    site.sql("update positions set symbol = 'A?B' where symbol = 'BTCUSDT'")  # no order takes such a name
    site.market.prices["A?B"] = Decimal("24000.0")
    site.move("ETHUSDT", "1900.0")
    site.server.mark_to_market.run_once()
    (left,) = site.store.list_open_positions()
    assert left.symbol == "A?B"
    assert metric(site, "last_mark_timestamp_seconds") > 0


def test_a_stop_that_the_venue_refuses_fails_once_a_minute_and_refuses_nobodys_entry(site: Site) -> None:
    site.credentials()
    site.limits(max_consecutive_failures=1)
    site.sender.post(environment="production", stop_loss_percent=2)
    site.move("BTCUSDT", "24000.0")
    site.account.mood = "refuse"
    for _ in range(10):
        site.server.mark_to_market.run_once()
    ((failed,),) = site.sql("select count(*) from webhook_requests where action = 'CLOSE' and status = 'failed'")
    assert 1 <= failed < 10
    assert site.sender.post(symbol="ETHUSDT").json()["action"] == "opened"
