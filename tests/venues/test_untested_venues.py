"""Where live trading has not been tested, entries are refused with a sentence, and what is held can be closed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from engine.platform.errors import ConfigurationError
from engine.venues import verified_venues
from engine.venues.verified_venues import check_live_trading
from tests.support.servers.simulated import BINANCE, VENUES, Simulated
from tests.venues.conftest import Floor

NAME = "binanceusdm"
STOP: dict[str, Any] = {"stop_loss_percent": 2}


@pytest.fixture
def simulated() -> Simulated:
    """A venue that can be reached and is not among the tested ones."""
    return replace(BINANCE, name=NAME)


@pytest.fixture
def held(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Makes an entry as an earlier release did, which asked nothing."""

    def enter(name: str, **fields: Any) -> dict[str, Any]:
        with monkeypatch.context() as earlier:
            earlier.setattr(verified_venues, "VERIFIED", {NAME: ""})
            return floor.send(name, **fields)

    return enter


def test_an_entry_is_refused_with_a_sentence_and_nothing_is_sent(floor: Floor) -> None:
    told = floor.send("a", **STOP)
    assert (told["status"], told["field"]) == (400, "exchange")
    assert "use that" in told["error"]
    assert floor.net() == 0
    assert floor.send("b", environment="paper")["action"] == "opened"


def test_what_is_held_there_is_protected_and_closed(floor: Floor, held: Callable[..., dict[str, Any]]) -> None:
    assert held("a", **STOP)["action"] == "opened"
    floor.account.cancel_order("BTCUSDT", floor.order_id("a", "l"))
    floor.server.protection_watchdog.run()
    assert [order.client_order_id for order in floor.waiting()] == [floor.order_id("a", "l")]
    assert floor.send("b", action="sell", **STOP)["status"] == 400
    assert floor.send(action="close")["action"] == "closed"
    assert floor.waiting() == []
    floor.check_books()


def test_an_entry_that_was_sent_before_is_still_found_and_booked(
    floor: Floor, held: Callable[..., dict[str, Any]]
) -> None:
    floor.misbehave({"kind": "reset", "path": "/order", "times": None, "accept": True})
    assert held("a")["status"] == 503
    floor.misbehave()
    assert floor.send("a")["action"] == "opened"
    floor.check_books()


def test_every_venue_of_the_contract_suite_is_live_and_no_other_is() -> None:
    assert set(verified_venues.VERIFIED) == set(VENUES)
    for name in VENUES:
        check_live_trading(name)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("kraken", "Live trading at kraken has not been tested"),
        ("astr", "did you mean aster?"),
        ("binanceusdm", "by the name of binance"),
        ("binancecoinm", "has not been tested"),
    ],
)
def test_the_sentence_says_what_to_do(name: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told.replace("?", r"\?")):
        check_live_trading(name)
