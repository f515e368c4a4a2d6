"""`sparky reconcile`: what is noted as held outside Sparky, and the words and names that a person uses."""

import json
from decimal import Decimal

import pytest
import requests

from tests.cli.conftest import Sparky, home, own_logging  # noqa: F401 - fixtures
from tests.venues.conftest import Floor
from tests.venues.test_reconcile import ADOPT, account_of, by_hand, compared, sparky  # noqa: F401 - a fixture

OUTSIDE = ("reconcile", "BTCUSDT", "--outside", "--yes")


def noted(floor: Floor) -> Decimal:
    ((found,),) = floor.sql("select outside_quantity(%s, 'aster', 'BTCUSDT')", floor.user_id)
    return Decimal(found)


def vanish(floor: Floor, amount: str = "0") -> None:
    """The venue holds another amount, and its record does not tell why."""
    account_of(floor).get_holding("BTCUSDT").amount = Decimal(amount)


@pytest.mark.parametrize("at_venue", ["0", "0.004", "-0.002"])
def test_what_the_venue_does_not_hold_is_never_noted_as_outside(
    floor: Floor,
    sparky: Sparky,  # noqa: F811
    at_venue: str,
) -> None:
    floor.send("a")
    vanish(floor, at_venue)
    told = sparky("reconcile", "BTCUSDT").stdout
    assert "--adopt" in told
    assert "--outside" not in told
    said = sparky.refused(*OUTSIDE)
    assert f"the venue holds {at_venue}" in said
    assert "--adopt" in said
    assert noted(floor) == 0


def test_a_note_shrinks_or_ends_before_anything_is_booked(floor: Floor, sparky: Sparky) -> None:  # noqa: F811
    by_hand_short = "-0.07"
    assert floor.account.fetch_positions() == ()
    vanish(floor, by_hand_short)
    sparky.ok(*OUTSIDE)
    assert noted(floor) == Decimal(by_hand_short)
    vanish(floor, "-0.05")
    told = sparky("reconcile", "BTCUSDT").stdout
    assert "the note of -0.07 becomes -0.05" in told
    sparky.ok(*ADOPT)
    assert (noted(floor), floor.store.list_open_positions()) == (Decimal("-0.05"), ())
    vanish(floor)
    told = sparky("reconcile", "BTCUSDT").stdout
    assert "the note of -0.05 ends" in told
    assert "LONG" not in told
    sparky.ok(*ADOPT)
    assert (noted(floor), floor.store.list_open_positions()) == (Decimal(0), ())
    assert floor.sql("select count(*) from fills") == [(0,)]


def test_a_hand_that_closes_more_than_the_note_ends_it_and_then_the_position(floor: Floor, sparky: Sparky) -> None:  # noqa: F811
    floor.send("a")
    by_hand(floor, "BUY", "0.005")
    sparky.ok(*OUTSIDE)
    vanish(floor, "0.006")
    sparky.ok(*ADOPT)
    assert noted(floor) == 0
    assert floor.booked() == floor.net() == Decimal("0.006")


def test_notes_are_listed_and_taken_into_the_books_on_request(floor: Floor, sparky: Sparky) -> None:  # noqa: F811
    floor.send("a")
    by_hand(floor, "BUY", "0.005")
    sparky.ok(*OUTSIDE)
    told = sparky.ok("reconcile")
    assert "0.005" in told
    assert "outside Sparky" in told
    assert "trader@example.org" in told
    sparky.ok(*ADOPT)
    assert noted(floor) == Decimal("0.005")
    assert "--noted" in sparky.ok("reconcile", "BTCUSDT")
    sparky.ok(*ADOPT, "--noted")
    assert noted(floor) == 0
    assert floor.booked() == floor.net() == Decimal("0.014")
    assert compared(floor) == 0


def test_the_list_shows_what_the_venue_really_holds(floor: Floor, sparky: Sparky) -> None:  # noqa: F811
    floor.send("a")
    by_hand(floor, "BUY", "0.005")
    sparky.ok(*OUTSIDE)
    by_hand(floor, "BUY", "0.002")
    assert compared(floor) == 1
    done = sparky("reconcile")
    assert done.exit_code == 1
    assert "0.016 at the venue" in done.stdout
    (row,) = json.loads(sparky("reconcile", "--json").stdout)
    assert row["venue_net"] == "0.016"


@pytest.mark.parametrize("written", ["btc/usdt", "BTCUSDT.P", "BINANCE:BTCUSDT", " btcusdt "])
def test_a_symbol_may_be_written_in_other_ways(floor: Floor, sparky: Sparky, written: str) -> None:  # noqa: F811
    floor.send("a")
    by_hand(floor, "BUY", "0.005")
    told = sparky("reconcile", written)
    assert told.exit_code == 1
    assert "BTCUSDT at aster" in told.stdout


def test_a_symbol_that_the_venue_does_not_list_is_told(floor: Floor, sparky: Sparky) -> None:  # noqa: F811
    floor.send("a")
    assert "aster lists no NOPEUSDT" in sparky.refused("reconcile", "NOPEUSDT")
    assert "Name the symbol" in sparky.refused("reconcile", "")
    assert "linear perpetual" in sparky.refused("reconcile", "BTC/USD:BTC")


def test_the_command_that_is_suggested_has_the_options_that_were_given(floor: Floor, sparky: Sparky) -> None:  # noqa: F811
    floor.send("a")
    vanish(floor)
    told = sparky("reconcile", "BTCUSDT", "--price", "27000", "--fee", "-1").stdout
    assert "`sparky reconcile BTCUSDT --price 27000 --fee -1 --adopt`" in " ".join(told.split())
    assert "a rebate of 1 USD" in " ".join(told.split())


def test_a_close_after_the_server_has_booked_what_happened_says_so(floor: Floor) -> None:
    floor.send("a")
    requests.post(f"{floor.venue_url}/_control/account", json={"liquidate": "BTCUSDT"}, timeout=30).raise_for_status()
    assert compared(floor) == 0
    answer = floor.send(action="close")
    assert answer["action"] == "skipped"
    assert "liquidated" in answer["reason"]
    floor.sql("update trades set exit_time = exit_time - interval '2 days'")
    assert "liquidated" not in floor.send(action="close")["reason"]


def test_a_hand_on_nothing_that_is_held_is_an_error_of_the_simulated_venue(floor: Floor) -> None:
    for event in ({"close": "BTCUSDT"}, {"liquidate": "BTCUSDT"}, {"adl": "BTCUSDT"}):
        assert requests.post(f"{floor.venue_url}/_control/account", json=event, timeout=30).status_code == 400
    floor.arrange(refused_ip="203.0.113.7")
    floor.arrange(refused_ip="")
    assert floor.send("a")["action"] == "opened"
