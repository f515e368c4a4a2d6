"""An account that cannot trade is found out before its first entry, and the venue's own words reach the sender."""

import re
import time
from typing import Any

import pytest

from engine.platform.errors import UpstreamUnavailable
from simulator.market.market import Market, MarketClock
from simulator.venue.venue import SimulatedVenue
from tests.support.factories.markets import flat_then_rising
from tests.support.servers.simulated import ASTER, BINANCE
from tests.venues.conftest import Floor

STOP: dict[str, Any] = {"stop_loss_percent": 2}
MINUTE_MS = 60_000
AT_BOTH = pytest.mark.parametrize("simulated", [ASTER, BINANCE], ids=["aster", "binance"])
OUTSIDE = '{"code":-1021,"msg":"Timestamp for this request is outside of the recvWindow."}'


def orders(floor: Floor) -> int:
    """How many orders the venue has ever taken."""
    return sum(len(account.orders) for account in floor.exchange._accounts.values())


def state_of(floor: Floor, name: str) -> str:
    return str(floor.sql("select status from webhook_requests where request_id = %s", name)[0][0])


@AT_BOTH
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hedge_mode": True}, ("hedge mode", "one-way")),
        ({"can_trade": False}, ("may not trade",)),
        ({"balance": "0"}, ("no money", "available")),
        ({"refused_ip": "203.0.113.7"}, ("-2015", "203.0.113.7", "address")),
    ],
    ids=["hedge mode", "no permission", "no balance", "address"],
)
def test_an_entry_on_an_account_that_cannot_trade_is_refused_in_words_and_sends_nothing(
    floor: Floor, settings: dict[str, Any], words: tuple[str, ...]
) -> None:
    floor.arrange(**settings)
    told = floor.send("a", **STOP)
    assert (told["status"], told["success"], told["action"]) == (200, False, "rejected")
    assert all(word in told["error"] for word in words), told["error"]
    assert orders(floor) == 0
    assert state_of(floor, "a") == "refused"  # nothing was tried, so it is no failure in a row


@AT_BOTH
def test_an_exit_is_sent_from_an_account_whose_entries_are_refused(floor: Floor) -> None:
    floor.send("a", **STOP)
    floor.arrange(can_trade=False)
    assert floor.send("b")["success"] is False
    assert floor.send(action="close")["action"] == "closed"
    floor.check_books()


def test_the_exit_of_a_reversal_is_made_where_its_entry_is_refused(floor: Floor) -> None:
    floor.send("a", **STOP)
    floor.forget_checks()
    floor.arrange(can_trade=False)
    told = floor.send("b", action="sell", **STOP)
    assert (told["success"], told["action"]) == (False, "rejected")
    assert told["closed"]["quantity"] == 0.009
    assert floor.net() == floor.booked() == 0
    floor.check_books()


@AT_BOTH
def test_a_mode_that_changes_after_the_check_is_found_out_by_the_venues_refusal(floor: Floor) -> None:
    assert floor.send("a")["action"] == "opened"
    floor.send(action="close")
    floor.arrange(hedge_mode=True)
    refused = floor.send("b")
    assert "position side does not match" in refused["error"]
    assert "hedge mode" in refused["error"]
    before = orders(floor)
    assert "hedge mode" in floor.send("c")["error"]
    assert state_of(floor, "c") == "refused"
    assert orders(floor) == before


@AT_BOTH
def test_an_entry_is_made_where_the_account_cannot_be_read(floor: Floor) -> None:
    paths = ("/positionSide/dual", "/multiAssetsMargin", "/account")
    floor.misbehave(*({"kind": "status", "status": 503, "path": path, "times": None} for path in paths))
    assert floor.send("a", **STOP)["action"] == "opened"


@AT_BOTH
def test_one_part_that_cannot_be_read_hides_no_other(floor: Floor) -> None:
    paths = ("/positionSide/dual", "/accountConfig")
    floor.misbehave(*({"kind": "status", "status": 503, "path": path, "times": None} for path in paths))
    floor.arrange(balance="0")
    assert "no money" in floor.send("a")["error"]


def test_the_account_is_read_once_for_many_entries(floor: Floor) -> None:
    for name in "abc":
        assert floor.send(name, size=30)["action"] == "opened"
    weight = floor.exchange.meter.used
    floor.send("d", size=30)
    assert floor.exchange.meter.used - weight < 30


@AT_BOTH
def test_what_a_busy_venue_says_reaches_the_sender(floor: Floor) -> None:
    busy = '{"code":-1008,"msg":"Server is currently overloaded with other requests."}'
    floor.misbehave({"kind": "status", "status": 503, "path": "/leverage", "body": busy, "times": None})
    told = floor.send("a")
    assert told["status"] == 503
    assert floor.simulated.name in told["error"]
    assert "overloaded" in told["error"]
    assert "-1008" in told["error"]


@AT_BOTH
def test_what_the_venue_said_of_an_order_that_may_have_been_taken_reaches_the_sender(floor: Floor) -> None:
    busy = '{"code":-1007,"msg":"Timeout waiting for response from backend server."}'
    floor.misbehave({"kind": "status", "status": 408, "path": "/order", "method": "POST", "body": busy})
    told = floor.send("a")
    assert told["status"] == 503
    assert floor.simulated.name in told["error"]
    assert "Timeout waiting for response from backend server. (-1007)" in told["error"]


class InRealTime(SimulatedVenue):
    """A venue whose market time is this host's, so that its clock can be compared."""

    def __init__(self, _: Any, __: Any, **more: Any) -> None:
        now_ms = time.time_ns() // 1_000_000
        series = flat_then_rising(now_ms - now_ms % MINUTE_MS - 100 * MINUTE_MS)
        super().__init__({"BTCUSDT": Market(series)}, MarketClock(now_ms, 1.0, None), **more)


@AT_BOTH
@pytest.mark.parametrize("make_exchange", [InRealTime], indirect=False)
@pytest.mark.parametrize("offset_s", [-15, -3, 3, 15])
def test_a_clock_that_differs_from_the_venues_stops_no_trading(floor: Floor, offset_s: float) -> None:
    floor.arrange(clock_offset_s=offset_s)
    assert floor.send("a", **STOP)["action"] == "opened"
    assert len(floor.waiting()) == 1
    assert floor.send(action="close")["action"] == "closed"
    floor.check_books()


@pytest.mark.parametrize("make_exchange", [InRealTime], indirect=False)
def test_a_clock_that_is_set_while_the_server_runs_stops_no_trading(floor: Floor) -> None:
    floor.arrange(clock_offset_s=20)
    assert floor.send("a", **STOP)["action"] == "opened"
    floor.arrange(clock_offset_s=0)
    assert floor.send(action="close")["action"] == "closed"
    floor.check_books()


def check_told_difference(words: str, seconds: float, took_s: float) -> None:
    """Told to a tenth, and as exactly as can be known of a time that was read somewhen in `took_s`."""
    told = re.search(r"([0-9.]+) s behind", words)
    assert told is not None, words
    assert abs(float(told[1]) - seconds) < 0.06 + took_s / 2, words


@AT_BOTH
@pytest.mark.parametrize("make_exchange", [InRealTime], indirect=False)
def test_a_clock_that_the_venue_goes_on_refusing_is_told_with_its_difference(floor: Floor) -> None:
    floor.arrange(clock_offset_s=12)
    floor.misbehave({"kind": "status", "status": 400, "path": "/order", "body": OUTSIDE, "times": None})
    began_at = time.monotonic()
    told = floor.send("a")
    assert told["status"] == 503
    assert "-1021" in told["error"]
    assert told["error"].startswith(f"{floor.simulated.name} refuses this host's clock: ")
    check_told_difference(told["error"], 12, time.monotonic() - began_at)
    began_at = time.monotonic()
    with pytest.raises(UpstreamUnavailable) as refused:
        floor.account.find_order("BTCUSDT", "x")
    check_told_difference(str(refused.value), 12, time.monotonic() - began_at)
