"""The answer to an entry tells the whole position, what this order added to it, and why it is less than was asked."""

from decimal import Decimal
from typing import Any

import pytest

from tests.webhook_server.conftest import Site


def test_an_addition_tells_the_whole_position(site: Site) -> None:
    site.sender.post(position_size_usd=500, stop_loss_percent=2)
    site.move("BTCUSDT", "30000.0")
    body = site.sender.post(position_size_usd=300).json()
    (held,) = site.store.list_open_positions()
    told = body["position"]
    assert Decimal(str(told["quantity"])) == held.quantity
    assert told["entry_price"] == pytest.approx(float(held.entry_price), abs=1e-8)
    assert told["position_size_usd"] == pytest.approx(float(held.position_size_usd), abs=1e-8)
    assert told["stop_loss_price"] == pytest.approx(float(held.stop_loss_price or 0))
    assert (body["quantity"], body["fill_price"]) == (0.009, 30006.2)


def test_a_live_addition_tells_the_whole_position(site: Site) -> None:
    site.credentials()
    for size in (500, 300):
        body = site.sender.post(position_size_usd=size, environment="production", stop_loss_percent=2).json()
    (held,) = site.store.list_open_positions()
    assert Decimal(str(body["position"]["quantity"])) == held.quantity
    assert body["quantity"] < body["position"]["quantity"]
    assert body["position"]["stop_loss_price"] == pytest.approx(float(held.stop_loss_price or 0))


def reduction(body: dict[str, Any]) -> tuple[Any, ...]:
    return body["requested_usd"], body["allowed_usd"], body["reduced_by"]


def test_a_size_that_no_lot_hits_is_said_to_be_cut_by_the_lot_step(site: Site) -> None:
    assert reduction(site.sender.post(position_size_usd=1000).json()) == (1000, 1000, ["lot_step"])


def test_a_size_that_a_limit_cuts_names_the_limit(site: Site) -> None:
    site.limits(max_position_size_usd=600)
    assert reduction(site.sender.post(position_size_usd=1000).json()) == (
        1000,
        600,
        ["max_position_size_usd", "lot_step"],
    )
    strategy = str(site.strategy(max_position_usd=400))
    body = site.sender.post(position_size_usd=1000, strategy_id=strategy).json()
    assert reduction(body) == (1000, 400, ["max_position_usd", "lot_step"])


def test_an_ai_entry_that_its_rules_cut_names_the_rule(site: Site) -> None:
    strategy = str(site.strategy(max_position_usd=2000, max_entry_percent=25))
    body = site.sender.engine(position_size_usd=1000, strategy_id=strategy, stop_loss_percent=2).json()
    assert reduction(body) == (1000, 500, ["max_entry_percent", "lot_step"])


def test_a_size_that_fills_whole_is_said_to_be_cut_by_nothing(site: Site) -> None:
    site.move("BTCUSDT", "10000.0")
    body = site.sender.post(position_size_usd="10.0022").json()  # the worst price of one lot: the ask and its slippage
    assert (body["quantity"], body["reduced_by"]) == (0.001, [])


def test_part_of_a_position_that_stays_is_told(site: Site) -> None:
    site.sender.post()
    body = site.sender.post(action="CLOSE", sell_percentage=50).json()
    (held,) = site.store.list_open_positions()
    assert Decimal(str(body["remaining_quantity"])) == held.quantity
    assert site.sender.post(action="CLOSE").json()["remaining_quantity"] == 0


def test_an_addition_that_is_too_small_is_told_so_and_not_that_the_position_is_full(site: Site) -> None:
    site.sender.post(position_size_usd=100)
    small = site.sender.post(position_size_usd=5).json()
    assert (small["success"], "less than" in small["reason"]) == (False, True)
    site.limits(max_position_size_usd=100)
    full = site.sender.post(position_size_usd=500).json()
    assert (full["action"], "largest size" in full["reason"]) == ("skipped", True)


def test_a_fill_that_is_found_later_is_said_to_be_cut_by_what_cut_it(site: Site) -> None:
    site.credentials()
    plain = site.sender.post(environment="production").json()
    site.sender.post(action="CLOSE", environment="production")
    site.account.mood = "lost"
    assert site.sender.post(environment="production", signal_id="q").status_code == 503
    site.account.mood = "fill"
    found = site.sender.post(environment="production", signal_id="q").json()
    assert (found["quantity"], found["reduced_by"]) == (plain["quantity"], plain["reduced_by"])
