"""Live orders: whose keys, never blind, never twice, never unprotected."""

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from engine.domain.errors import OrderRejected, VenueUnavailable
from engine.domain.strategy import StrategyStatus
from engine.venues.orders import OrderRequest
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
    assert sent.client_order_id == live.sender.order_id("a", "o")
    assert (sent.is_buy, sent.reduce_only, sent.leverage) == (True, False, 3)
    assert sent.quantity * Decimal("25005.2") <= 1000
    (position,) = live.store.list_open_positions()
    assert (position.is_paper, position.quantity) == (False, sent.quantity)


def test_a_live_exit_is_reduce_only(live: Site) -> None:
    enter(live, "a")
    assert live.sender.post(action="close", signal_id="b").json()["action"] == "closed"
    closing = live.account.requests[-1]
    assert (closing.is_buy, closing.reduce_only, closing.client_order_id) == (
        False,
        True,
        live.sender.order_id("b", "c"),
    )
    assert live.store.list_open_positions() == ()


def test_a_short_whose_target_lies_below_nothing_is_refused_before_anything_is_sent(live: Site) -> None:
    answer = live.sender.post(environment="production", action="SELL", take_profit_percent=136.7)
    assert (answer.status_code, answer.json()["field"]) == (400, "take_profit_percent")
    assert live.account.orders == []


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
    assert live.store.list_open_positions() == ()


def waiting(live: Site) -> dict[str, tuple[Any, ...]]:
    """Protective orders at the venue: id → (side, quantity, stop, target)."""
    return {
        name: (order.side, order.quantity, order.stop_loss_price, order.take_profit_price)
        for name, order in live.account.protections.items()
    }


def test_protection_waits_at_the_venue_from_the_entry_to_the_exit(live: Site) -> None:
    body = enter(live, "a", stop_loss_percent=2, take_profit_percent=4)
    assert body["action"] == "opened"
    assert set(waiting(live)) == {live.sender.order_id("a", "l"), live.sender.order_id("a", "t")}
    (position,) = live.store.list_open_positions()
    assert (position.stop_loss_price, position.take_profit_price) == (Decimal(24_500), Decimal(26_000))
    assert live.request("a")[0] == "booked"
    assert live.sender.post(action="close", environment="production").json()["action"] == "closed"
    assert waiting(live) == {}


def test_an_entry_whose_protection_cannot_be_placed_is_undone_and_that_is_said(live: Site) -> None:
    live.account.protection_fails = OrderRejected("it would trigger at once", "would_trigger")
    body = enter(live, "a", stop_loss_percent=2)
    assert (body["success"], body["action"]) == (False, "rejected")
    assert "undone" in str(body["error"])
    assert live.account.fetch_positions() == ()
    assert live.store.list_open_positions() == ()
    assert [trade.exit_reason for trade in live.store.list_trades()] == ["unprotected"]
    assert enter(live, "a", stop_loss_percent=2) == body
    assert len(live.account.orders) == 2


def test_adding_to_a_protected_position_protects_all_of_it_at_the_old_prices(live: Site) -> None:
    enter(live, "a", stop_loss_percent=2, position_size_usd=500)
    enter(live, "b", position_size_usd=500)
    (position,) = live.store.list_open_positions()
    (only,) = waiting(live).values()
    assert set(waiting(live)) == {live.sender.order_id("b", "l")}
    assert only == (position.side, position.quantity, Decimal(24_500), None)


def test_a_partial_exit_leaves_the_rest_protected(live: Site) -> None:
    enter(live, "a", stop_loss_percent=2)
    live.sender.post(action="close", environment="production", sell_percentage=50)
    (position,) = live.store.list_open_positions()
    (only,) = waiting(live).values()
    assert only[1] == position.quantity


def test_an_exit_that_the_venue_refuses_leaves_the_position_protected(live: Site) -> None:
    enter(live, "a", stop_loss_percent=2)
    live.account.mood = "refuse"
    assert not live.sender.post(action="close", environment="production").json()["success"]
    assert set(waiting(live)) == {live.sender.order_id("a", "l")}


def test_a_stop_that_the_venue_filled_is_booked_as_the_exit_and_nothing_is_sold_twice(live: Site) -> None:
    enter(live, "a", stop_loss_percent=2, take_profit_percent=4)
    live.move("BTCUSDT", "24400.0")
    live.account.trigger(live.sender.order_id("a", "l"))
    live.server.protection_watchdog.run()
    (trade,) = live.store.list_trades()
    assert (trade.exit_reason, trade.exit_price) == ("stop_loss", Decimal(24_400))
    assert len(live.account.orders) == 2
    assert waiting(live) == {}
    assert live.store.list_open_positions() == ()


def test_two_strategies_on_opposite_sides_do_not_reduce_each_other(live: Site) -> None:
    buyer, seller = (live.strategy(is_paper_trading=False) for _ in range(2))
    live.sender.post(strategy_id=str(buyer), signal_id="a")
    live.sender.post(strategy_id=str(seller), action="SELL", signal_id="b")
    live.sender.post(strategy_id=str(buyer), action="CLOSE", signal_id="c")
    live.sender.post(strategy_id=str(seller), action="CLOSE", signal_id="d")
    # Of the first the account holds nothing, net of the other; the second is all that the account then holds.
    assert [order.reduce_only for order in live.account.requests] == [False, False, False, True]
    assert live.account.fetch_positions() == ()


def test_an_exit_is_reduce_only_whoever_else_can_trade_the_symbol_on_the_account(live: Site) -> None:
    mine, other = (live.strategy(is_paper_trading=False) for _ in range(2))
    live.sender.post(strategy_id=str(mine), signal_id="a")
    live.sender.post(strategy_id=str(mine), action="CLOSE", signal_id="b")
    live.sql("update ai_strategies set status = 'paused' where id = %s", other)
    live.sender.post(strategy_id=str(mine), signal_id="c")
    live.sender.post(strategy_id=str(mine), action="CLOSE", signal_id="d")
    assert [order.reduce_only for order in live.account.requests] == [False, True, False, True]


def test_a_limit_beyond_the_market_is_skipped(live: Site) -> None:
    assert enter(live, "a", order_type="LIMIT", price=24_000)["action"] == "skipped"
    assert enter(live, "b", order_type="LIMIT", price=25_500)["action"] == "opened"


def test_the_next_signal_waits_until_what_the_last_one_did_is_known(live: Site) -> None:
    live.account.mood = "lost"
    assert live.sender.post(environment="production", signal_id="a").status_code == 503
    held_back = live.sender.post(environment="production", action="close", signal_id="b")
    assert (held_back.status_code, held_back.headers["Retry-After"]) == (503, "1")
    assert "earlier signal" in held_back.json()["error"]
    live.account.mood = "fill"
    assert live.sender.post(environment="production", action="close", signal_id="b").json()["action"] == "closed"
    assert live.request("a")[0] == live.request("b")[0] == "booked"
    assert len(live.account.orders) == 2


def test_what_the_books_and_the_venue_disagree_about_is_reported_and_left_alone(live: Site) -> None:
    enter(live, "a")
    live.sql("update fills set created_at = now() - interval '1 hour'")
    assert live.server.reconciliation.run() == ()
    live.account.requests.append(OrderRequest(client_order_id="x", symbol="ETHUSDT", is_buy=True, quantity=Decimal(1)))
    (found,) = live.server.reconciliation.run()
    assert (found.symbol, found.booked, found.at_venue) == ("ETHUSDT", Decimal(0), Decimal(1))
    assert live.server.metrics.registry.get_sample_value("sparky_webhook_reconciliation_differences") == 1
    assert len(live.store.list_open_positions()) == 1
    live.account.requests.pop()
    assert live.server.reconciliation.run() == ()


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
    assert live.store.list_open_positions() == ()
    assert live.sender.post(environment="production", signal_id="a").status_code == 503
    live.account.mood = "fill"
    body = enter(live, "a")
    assert (body["action"], body["order_id"]) == ("opened", "1000")
    assert len(live.account.orders) == 1
    assert len(live.store.list_open_positions()) == 1


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
        live.sender.order_id("a", "o"),
        live.sender.order_id("turn", "c"),
        live.sender.order_id("turn", "o"),
    ]
    (position,) = live.store.list_open_positions()
    assert position.side == "SHORT"
    assert len(live.store.list_trades()) == 1


def test_a_reversal_whose_exit_is_booked_is_finished_before_anything_else_is_done(live: Site) -> None:
    enter(live, "a")
    live.market.gate = threading.Event()
    live.market.asked.clear()
    with ThreadPoolExecutor(1) as senders:
        turning = senders.submit(live.sender.post, environment="production", action="SELL", signal_id="turn")
        assert live.market.asked.wait(120)  # for the price of the entry: the exit is made
        live.market.away = VenueUnavailable("no connection")
        live.market.gate.set()
        assert turning.result(60).status_code == 503
    assert (live.request("turn")[0], live.store.list_open_positions()) == ("filled", ())
    assert live.sender.post(environment="production", signal_id="b").status_code == 503
    live.market.away = None
    body = live.sender.post(environment="production", signal_id="b").json()
    assert (body["action"], body["side"], "closed" in body) == ("opened", "LONG", True)
    assert live.sender.post(environment="production", action="SELL", signal_id="turn").json()["action"] == "opened"
    legs = [("a", "o"), ("turn", "c"), ("turn", "o"), ("b", "c"), ("b", "o")]
    assert [order.client_order_id for order in live.account.orders] == [live.sender.order_id(*leg) for leg in legs]
    assert live.request("turn")[0] == live.request("b")[0] == "booked"


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
