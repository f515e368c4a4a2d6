"""Live orders: whose keys, never blind, never twice, never unprotected."""

from decimal import Decimal

import pytest

from engine.exchanges.venue import client_order_id
from engine.types import StrategyStatus
from tests.webhook_server.conftest import Site


@pytest.fixture
def live(site: Site) -> Site:
    site.credentials()
    return site


def enter(site: Site, name: str, **fields: object) -> dict[str, object]:
    body: dict[str, object] = site.sender.post(environment="production", signal_id=name, **fields).json()
    return body


def test_a_live_entry_goes_out_under_the_signals_own_order_id(live: Site) -> None:
    body = enter(live, "a", leverage=3)
    assert (body["action"], body["paper"], body["order_id"]) == ("opened", False, "1000")
    (sent,) = live.account.requests
    assert sent.client_order_id == client_order_id("a", "o")
    assert (sent.is_buy, sent.reduce_only, sent.leverage) == (True, False, 3)
    assert sent.quantity * Decimal("25005.2") <= 1000
    (position,) = live.store.open_positions()
    assert (position.is_paper, position.quantity) == (False, sent.quantity)


def test_a_live_exit_is_reduce_only(live: Site) -> None:
    enter(live, "a")
    assert live.sender.post(action="close", signal_id="b").json()["action"] == "closed"
    closing = live.account.requests[-1]
    assert (closing.is_buy, closing.reduce_only, closing.client_order_id) == (False, True, client_order_id("b", "c"))
    assert live.store.open_positions() == ()


def test_without_credentials_a_live_signal_is_400_with_a_hint(site: Site) -> None:
    answer = site.sender.post(environment="production")
    assert (answer.status_code, answer.json()["field"]) == (400, "exchange")
    assert "credentials" in answer.json()["error"]
    assert answer.json()["hint"]


def test_credentials_that_the_venue_does_not_accept_are_400(live: Site) -> None:
    live.account.mood = "forbidden"
    answer = live.sender.post(environment="production")
    assert (answer.status_code, answer.json()["field"]) == (400, "exchange")


def test_having_credentials_makes_no_signal_live(live: Site) -> None:
    assert live.sender.post().json()["paper"] is True
    assert live.sender.engine(strategy_id=str(live.strategy())).json()["paper"] is True
    assert live.sender.engine(strategy_id=str(live.strategy()), environment="production").json()["paper"] is True
    assert live.account.requests == []


def test_a_live_strategy_trades_live(live: Site) -> None:
    strategy = str(live.strategy(is_paper_trading=False))
    assert live.sender.engine(strategy_id=strategy).json()["paper"] is False
    assert len(live.account.orders) == 1


def test_an_exit_finds_the_live_position_of_a_strategy_that_went_to_paper(live: Site) -> None:
    strategy = live.strategy(is_paper_trading=False)
    live.sender.engine(strategy_id=str(strategy))
    live.sql("update ai_strategies set is_paper_trading = true")
    assert live.sender.engine(strategy_id=str(strategy), action="CLOSE").json()["paper"] is False
    assert live.store.open_positions() == ()


def test_a_live_entry_that_asks_for_protection_is_not_made_without_it(live: Site) -> None:
    body = enter(live, "a", stop_loss_percent=2)
    assert (body["success"], body["action"]) == (False, "rejected")
    assert "protection" in str(body["reason"])
    assert live.account.requests == []


def test_the_venues_refusal_is_told_with_its_reason(live: Site) -> None:
    live.account.mood = "refuse"
    answer = live.sender.post(environment="production")
    assert answer.status_code == 200
    assert (answer.json()["success"], answer.json()["error"]) == (False, "Margin is insufficient. (-2019)")


def test_a_venue_out_of_reach_is_503_and_the_retry_trades_once(live: Site) -> None:
    live.account.mood = "away"
    assert live.sender.post(environment="production", signal_id="a").status_code == 503
    live.account.mood = "fill"
    assert enter(live, "a")["action"] == "opened"
    assert len(live.account.orders) == 1


def test_an_order_whose_answer_was_lost_is_found_and_never_sent_again(live: Site) -> None:
    live.account.mood = "lost"
    lost = live.sender.post(environment="production", signal_id="a")
    assert lost.status_code == 503
    assert lost.headers["retry-after"]
    assert live.store.open_positions() == ()
    assert live.sender.post(environment="production", signal_id="a").status_code == 503
    live.account.mood = "fill"
    body = enter(live, "a")
    assert (body["action"], body["order_id"]) == ("opened", "1000")
    assert len(live.account.orders) == 1
    assert len(live.store.open_positions()) == 1


def test_a_found_order_is_booked_whatever_the_limits_say_by_now(live: Site) -> None:
    live.account.mood = "lost"
    live.sender.post(environment="production", signal_id="a")
    live.account.mood = "fill"
    live.limits(kill_switch=True)
    assert enter(live, "a")["action"] == "opened"
    assert len(live.account.orders) == 1


def test_a_lost_reversal_is_finished_leg_by_leg(live: Site) -> None:
    enter(live, "a")
    live.account.mood = "lost"
    turn = {"environment": "production", "action": "SELL", "signal_id": "turn"}
    assert live.sender.post(**turn).status_code == 503  # the exit filled, its answer lost
    live.account.mood = "fill"
    body = live.sender.post(**turn).json()
    assert (body["action"], body["side"]) == ("opened", "SHORT")
    assert [order.client_order_id for order in live.account.orders] == [
        client_order_id("a", "o"),
        client_order_id("turn", "c"),
        client_order_id("turn", "o"),
    ]
    (position,) = live.store.open_positions()
    assert position.side == "SHORT"
    assert len(live.store.trades()) == 1


def test_an_order_that_the_venue_never_saw_is_sent_again_by_the_retry(live: Site) -> None:
    live.account.mood = "silent"
    assert live.sender.post(environment="production", signal_id="a").status_code == 503
    live.account.mood = "fill"
    assert enter(live, "a")["action"] == "opened"
    assert len(live.account.orders) == 1


def test_a_live_exit_passes_every_limit(live: Site) -> None:
    strategy = live.strategy(is_paper_trading=False)
    live.sender.engine(strategy_id=str(strategy))
    live.limits(kill_switch=True)
    live.store.set_strategy_status(strategy, StrategyStatus.PAUSED)
    assert live.sender.engine(strategy_id=str(strategy), action="CLOSE").json()["action"] == "closed"
