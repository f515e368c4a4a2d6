"""At every venue: paper entries follow the list of instruments, a CLOSE is told how its own book ended, and who holds a
symbol with other margin is named."""

from dataclasses import replace
from decimal import Decimal
from importlib.resources import files
from typing import Any

import pytest

from tests.venues.conftest import Floor
from tests.venues.instruments import change

PAPER: dict[str, Any] = {"environment": "paper"}
STOP: dict[str, Any] = {"stop_loss_percent": 2}


def pass_a_minute(floor: Floor) -> None:
    """The list of instruments was read a minute ago and longer."""
    listing = floor.account._exchange.listing  # type: ignore[attr-defined]
    past = listing._refresh_times
    listing._refresh_times = replace(past, refreshed_at=past.refreshed_at - 61, attempted_at=past.attempted_at - 61)


def readings(floor: Floor) -> int:
    """How often the list has been read."""
    return int(floor.account._exchange.listing._version)  # type: ignore[attr-defined]


def test_a_paper_entry_follows_a_status_of_a_minute_ago(floor: Floor) -> None:
    assert floor.send(**PAPER)["action"] == "opened"
    change(floor, is_read=False, status="BREAK")
    pass_a_minute(floor)
    told = floor.send(**PAPER)
    assert (told["status"], told["success"]) == (200, False), told
    assert "not traded" in told["error"]
    assert floor.send(**PAPER, action="close")["action"] == "closed"


def test_the_paper_entry_of_a_reversal_follows_it_too_and_its_exit_does_not(floor: Floor) -> None:
    floor.send(**PAPER)
    change(floor, is_read=False, status="BREAK")
    pass_a_minute(floor)
    floor.send(**PAPER, action="sell")
    assert floor.store.list_open_positions() == ()
    assert len(floor.store.list_trades()) == 1


def test_a_paper_entry_follows_a_step_of_a_minute_ago(floor: Floor) -> None:
    floor.send(**PAPER, action="close")
    change(floor, is_read=False, step="0.01")
    pass_a_minute(floor)
    told = floor.send(**PAPER, size=260)  # 0.009
    assert (told["status"], told["success"]) == (200, False), told
    assert floor.store.list_open_positions() == ()


def test_the_list_is_read_once_a_minute_for_all_paper_entries_and_for_no_exit(floor: Floor) -> None:
    floor.send(**PAPER)
    before = readings(floor)
    pass_a_minute(floor)
    floor.send(**PAPER, action="close")
    assert readings(floor) == before
    for _ in range(3):
        assert floor.send(**PAPER)["action"] in {"opened", "increased"}
    assert readings(floor) == before + 1


def test_where_the_venue_cannot_say_the_list_that_is_known_counts(floor: Floor) -> None:
    floor.send(**PAPER)
    pass_a_minute(floor)
    floor.misbehave({"kind": "status", "status": 503, "path": "/exchangeInfo", "times": None})
    told = floor.send(**PAPER)
    assert told["success"] is True, told


def test_a_close_after_a_liquidation_on_paper_is_told_of_it_in_that_book_alone(floor: Floor) -> None:
    floor.send(**PAPER, leverage=20)
    floor.hands.now += 1
    floor.direct(jump_percent=-12)
    floor.server.mark_to_market.run_once()
    told = {each: floor.send(environment=each, action="close")["reason"] for each in ("paper", "production", None)}
    assert "liquidated" in told["paper"], told
    assert "ended at the venue" not in told["production"]
    assert "liquidated" in told[None]


def test_a_close_is_told_the_ending_of_the_book_that_it_is_about(floor: Floor) -> None:
    for book in ("production", "paper"):
        floor.send(environment=book)
    change(floor, remove="REALIZED_PNL", price="27000")
    floor.server.reconciliation.run()
    floor.server.mark_to_market.run_once()
    assert floor.store.list_open_positions() == ()
    told = {each: floor.send(environment=each, action="close")["reason"] for each in ("production", "paper")}
    assert ("settled" in told["production"], "delisted" in told["paper"]) == (True, True), told


@pytest.mark.parametrize("is_person", [True, False], ids=["a person", "a strategy without a mode"])
def test_who_holds_the_symbol_with_other_margin_is_told_and_no_stop_is_to_be_taken_off(
    floor: Floor, *, is_person: bool
) -> None:
    who: dict[str, Any] = {} if is_person else {"strategy_id": floor.strategy(name="quiet")}
    floor.send("a", **who, **STOP)
    told = floor.send(strategy_id=floor.strategy(margin_mode="isolated"))
    assert told["action"] == "rejected"
    assert ("the person holds it" if is_person else "strategy quiet holds it") in told["reason"], told
    assert "cancel" not in told["reason"]
    assert len(floor.waiting()) == 1


@pytest.mark.parametrize("is_person", [True, False], ids=["a person", "a strategy"])
def test_a_paper_position_tells_where_it_is_liquidated_as_soon_as_it_is_booked(
    floor: Floor, *, is_person: bool
) -> None:
    own = {"is_paper_trading": True, "leverage_max": 20, "margin_mode": "isolated", "adding": "always"}
    who: dict[str, Any] = PAPER if is_person else {"strategy_id": floor.strategy(**own)}
    told: list[Decimal] = []
    for leverage in (20, 5):
        assert floor.send(**who, leverage=leverage)["success"] is True
        for _ in range(2):  # the second time as a round computes it
            (held,) = floor.store.list_open_positions()
            assert held.liquidation_price is not None
            told.append(held.liquidation_price)
            floor.server.mark_to_market.run_once()
    assert told[0] == told[1]
    assert told[2] == told[3]
    assert told[2] < told[0]


def test_what_is_added_to_live_shows_no_liquidation_price_of_before(floor: Floor) -> None:
    floor.send(leverage=20)
    floor.sql("update positions set liquidation_price = 26700")
    floor.send(leverage=5)
    assert [held.liquidation_price for held in floor.store.list_open_positions()] == [None]


def test_paper_positions_of_older_releases_show_that_they_are_isolated(floor: Floor) -> None:
    for book in ("production", "paper"):
        floor.send(environment=book)
    floor.sql("update positions set margin_mode = null")
    migration = files("migrations").joinpath("20261127002200_margin_and_ends.sql").read_text()
    floor.sql(migration.partition("create or replace function")[0])  # later migrations replaced its functions
    assert {held.is_paper: held.margin_mode for held in floor.store.list_open_positions()} == {
        True: "isolated",
        False: None,
    }
