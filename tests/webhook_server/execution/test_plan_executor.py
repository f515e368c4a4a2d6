"""A plan leg by leg: what was made is booked, what was not is told, and a broken attempt goes on where it stopped."""

from decimal import Decimal
from typing import Any

import pytest

from engine.domain.errors import OrderRejected, VenueUnavailable
from engine.domain.positions import Side
from tests.webhook_server.conftest import Site


@pytest.fixture
def live(site: Site) -> Site:
    site.credentials()
    return site


def send(site: Site, name: str, action: str = "BUY", **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = site.sender.post(environment="production", signal_id=name, action=action, **fields).json()
    return body


def count(site: Site, name: str, **labels: str) -> float | None:
    return site.server.metrics.registry.get_sample_value(f"sparky_webhook_{name}_total", labels)


def test_a_reversal_whose_exit_is_made_in_part_enters_nothing(live: Site) -> None:
    send(live, "a")
    live.account.outcomes = [Decimal("0.01")]
    told = send(live, "turn", "SELL")
    assert (told["action"], told["quantity"]) == ("closed", 0.01)
    assert "the venue closed only 0.01" in str(told["entryRefused"])
    (position,) = live.store.list_open_positions()
    assert (position.side, position.quantity) == (Side.LONG, Decimal("0.029"))
    assert live.request("turn")[0] == "booked"


def test_a_reversal_whose_entry_costs_too_much_keeps_its_exit(live: Site) -> None:
    send(live, "a")
    live.limits(max_spread_percent=Decimal("0.0001"))
    told = send(live, "turn", "SELL")
    assert (told["action"], told["entryRefused"]["data"]["limitType"]) == ("closed", "max_spread")
    assert told["pnl"]["usd"] < 0
    assert (live.store.list_open_positions(), len(live.store.list_trades())) == ((), 1)
    assert send(live, "turn", "SELL") == told
    assert len(live.account.orders) == 2
    assert count(live, "risk_refusals", limit_type="max_spread") == 1


def test_a_reversal_whose_entry_the_venue_refuses_tells_both(live: Site) -> None:
    send(live, "a")
    live.account.outcomes = [Decimal(1), OrderRejected("Margin is insufficient. (-2019)", "funds")]
    told = send(live, "turn", "SELL")
    assert (told["action"], told["closed"]["quantity"]) == ("rejected", 0.039)
    assert "Margin is insufficient" in told["reason"]
    assert (live.store.list_open_positions(), len(live.store.list_trades())) == ((), 1)


def test_a_reversal_whose_entry_finds_the_venue_away_is_finished_by_the_next_attempt(live: Site) -> None:
    send(live, "a")
    live.account.outcomes = [Decimal(1), VenueUnavailable("no connection")]
    assert live.sender.post(environment="production", signal_id="turn", action="SELL").status_code == 503
    assert (live.request("turn")[0], len(live.store.list_trades())) == ("filled", 1)
    told = send(live, "turn", "SELL")
    assert (told["action"], told["side"]) == ("opened", "SHORT")
    assert (len(live.account.orders), len(live.store.list_trades())) == (3, 1)


def test_an_exit_that_the_venue_fills_a_part_of_is_booked_as_that_part(live: Site) -> None:
    send(live, "a", stop_loss_percent=2)
    live.account.outcomes = [Decimal("0.01")]
    told = send(live, "b", "CLOSE")
    assert (told["action"], told["quantity"]) == ("closed", 0.01)
    (position,) = live.store.list_open_positions()
    assert position.quantity == Decimal("0.029")
    assert [each.quantity for each in live.account.protections.values()] == [Decimal("0.029")]
    assert send(live, "c", "CLOSE")["quantity"] == 0.029
    assert live.account.fetch_positions() == ()


def test_an_attempt_that_breaks_off_before_the_protection_is_placed_goes_on_there(live: Site) -> None:
    live.account.protection_fails = RuntimeError("the process died here")
    assert live.sender.post(environment="production", signal_id="a", stop_loss_percent=2).status_code == 500
    assert (live.request("a")[0], len(live.store.list_open_positions())) == ("filled", 1)
    live.account.protection_fails = None
    assert send(live, "a", stop_loss_percent=2)["action"] == "opened"
    assert set(live.account.protections) == {live.sender.order_id("a", "l")}
    assert (len(live.account.orders), live.sql("select count(*) from fills")) == (1, [(1,)])
    (position,) = live.store.list_open_positions()
    assert position.stop_loss_client_order_id == live.sender.order_id("a", "l")


def test_an_entry_that_can_be_neither_protected_nor_undone_stands_with_the_prices_that_it_asked_for(live: Site) -> None:
    live.account.protection_fails = OrderRejected("New order is rejected.")
    live.account.outcomes = [Decimal(1), OrderRejected("Reduce only order is rejected.", "reduce_only")]
    told = send(live, "a", stop_loss_percent=2)
    assert not told["success"]
    assert "stands without the protection" in str(told["error"])
    (position,) = live.store.list_open_positions()
    assert (position.quantity, position.stop_loss_price) == (Decimal("0.039"), Decimal(24_500))
    assert count(live, "protection_failures", after="undo") == 1
    assert live.request("a")[0] == "booked"


def test_what_the_venue_does_not_take_back_of_an_entry_keeps_the_prices_that_it_asked_for(live: Site) -> None:
    live.account.protection_fails = OrderRejected("New order is rejected.")
    live.account.outcomes = [Decimal(1), Decimal("0.03")]
    told = send(live, "a", stop_loss_percent=2)
    assert "0.009 that the venue did not take back" in str(told["error"])
    (position,) = live.store.list_open_positions()
    assert (position.quantity, position.stop_loss_price) == (Decimal("0.009"), Decimal(24_500))
    assert [trade.exit_reason for trade in live.store.list_trades()] == ["unprotected"]
    assert count(live, "protection_failures", after="undo") == 1


def test_what_is_not_taken_back_of_an_addition_gives_its_prices_to_the_whole_position(live: Site) -> None:
    send(live, "a")
    live.account.protection_fails = OrderRejected("New order is rejected.")
    live.account.outcomes = [Decimal(1), Decimal("0.03")]
    assert "0.009 that the venue did not take back" in str(send(live, "b", stop_loss_percent=2)["error"])
    (position,) = live.store.list_open_positions()
    assert (position.quantity, position.stop_loss_price) == (Decimal("0.048"), Decimal(24_500))


def test_a_stop_that_filled_before_an_addition_is_booked_and_the_addition_is_a_new_entry(live: Site) -> None:
    send(live, "a", stop_loss_percent=2)
    live.account.trigger(live.sender.order_id("a", "l"))
    assert send(live, "b")["action"] == "opened"
    assert [trade.exit_reason for trade in live.store.list_trades()] == ["stop_loss"]
    (position,) = live.store.list_open_positions()
    assert (position.quantity, position.stop_loss_price) == (Decimal("0.039"), None)
    (net,) = live.account.fetch_positions()
    assert net.quantity == position.quantity


def test_an_undone_addition_leaves_what_was_held_with_its_own_stop(live: Site) -> None:
    send(live, "a", stop_loss_percent=2)
    live.account.protection_fails = OrderRejected("New order is rejected.")
    assert "undone" in send(live, "b", stop_loss_percent=1)["error"]
    (position,) = live.store.list_open_positions()
    assert (position.quantity, position.stop_loss_price) == (Decimal("0.039"), Decimal(24_500))
    assert set(live.account.protections) == {live.sender.order_id("a", "l")}
