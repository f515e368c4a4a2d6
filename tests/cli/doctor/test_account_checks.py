"""`sparky doctor` looks at every person's live accounts, over the real protocol."""

import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import requests

from engine.admin.strategy_checks import NewStrategy
from engine.domain.strategy import StrategyStatus
from engine.platform.http.service import HttpService
from engine.store.store import Store
from engine.venues.ccxt_client.request_weight import get_shared_limiter
from simulator.aster import aster_app
from simulator.market.candles import create_synthetic_series
from simulator.market.market import Market, MarketClock
from simulator.venue.venue import SimulatedVenue
from tests.cli.conftest import Sparky
from tests.support.factories.keys import ENCRYPTION_KEY, PRIVATE_KEY, aster_keys
from tests.support.servers.ports import free_ports

EMAIL = "trader@example.org"
NAME = f"account of {EMAIL} at aster"


@pytest.fixture
def venue_url() -> Iterator[str]:
    """A venue in real time."""
    clock = MarketClock(time.time_ns() // 1_000_000, 1.0, None)
    exchange = SimulatedVenue({symbol: Market(one) for symbol, one in create_synthetic_series(1).items()}, clock)
    service = HttpService(aster_app.create_aster(exchange), "127.0.0.1", 0, "NONE", aster_app.HEALTH)
    service.start()
    yield service.url
    get_shared_limiter.cache_clear()
    service.stop(1)


@pytest.fixture
def patient(sparky: Sparky, store: Store, venue_url: str) -> Sparky:
    """A healthy installation on ports of its own, and a person with keys for the venue."""
    names = ("SPARKY_MONITOR_PORT", "SPARKY_WEBHOOK_PORT", "SPARKY_SIM_GROQ_PORT", "SPARKY_SIM_ASTER_PORT")
    sparky.environment |= {name: str(port) for name, port in zip(names, free_ports(4), strict=True)}
    sparky.environment["SPARKY_ENCRYPTION_KEY"] = ENCRYPTION_KEY.get_secret_value()
    sparky.environment |= {"SPARKY_MARKET": "aster", "SPARKY_MARKET_URL": venue_url}
    store.put_credentials(store.ensure_user(EMAIL), "aster", aster_keys())
    return sparky


def live_strategy(store: Store, **more: Any) -> None:
    fields = {"user_id": store.ensure_user(EMAIL), "name": "own", "status": StrategyStatus.RUNNING}
    store.create_strategy(NewStrategy.from_input(fields | {"is_paper_trading": False} | more))


def arrange(url: str, **settings: Any) -> None:
    requests.post(f"{url}/_control/settings", json=settings, timeout=30).raise_for_status()


def misbehave(url: str, *faults: dict[str, Any]) -> None:
    requests.post(f"{url}/_control/faults", json=list(faults), timeout=30).raise_for_status()


def examined(sparky: Sparky) -> list[Mapping[str, Any]]:
    """What is found of the account."""
    done = sparky("doctor", "--json")
    checks = json.loads(done.stdout)
    assert done.exit_code == int(any(check["state"] == "fault" for check in checks))
    assert PRIVATE_KEY not in done.stdout
    return [check for check in checks if check["name"] == NAME]


def test_an_account_that_can_trade_is_well(patient: Sparky, store: Store) -> None:
    live_strategy(store)
    (check,) = examined(patient)
    assert check["state"] == "ok"
    assert "one-way mode" in check["found"]
    assert "10,000.00 USD" in check["found"]
    assert "cross margin" in check["found"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hedge_mode": True}, "hedge mode"),
        ({"can_trade": False}, "may not trade"),
        ({"balance": "0"}, "no money"),
        ({"refused_ip": "203.0.113.7"}, "203.0.113.7"),
    ],
)
def test_what_hinders_it_is_a_fault_where_a_live_strategy_runs_and_told_where_none_does(
    patient: Sparky, store: Store, venue_url: str, settings: dict[str, Any], words: str
) -> None:
    arrange(venue_url, **settings)
    (check,) = examined(patient)
    assert check["state"] == "skipped"
    assert words in check["found"]
    live_strategy(store)
    (check,) = examined(patient)
    assert check["state"] == "fault"
    assert words in check["found"]
    assert check["remedy"]


@pytest.mark.parametrize(("offset_s", "where"), [(60, "behind"), (-60, "ahead of")])
def test_a_clock_that_differs_much_is_a_fault_where_a_live_strategy_runs(
    patient: Sparky, store: Store, venue_url: str, offset_s: float, where: str
) -> None:
    arrange(venue_url, clock_offset_s=offset_s)
    assert [check["state"] for check in examined(patient)] == ["skipped"]
    live_strategy(store)
    began = time.monotonic()
    (check,) = examined(patient)
    assert_clock(check["found"], abs(offset_s), where, time.monotonic() - began)
    assert (check["state"], bool(check["remedy"])) == ("fault", True)


def assert_clock(found: str, seconds: float, where: str, elapsed_s: float) -> None:
    """`found` tells the difference as exactly as it can be known: half of the request's time may be on either way."""
    told = re.search(r"this host's clock is ([\d.]+) s (behind|ahead of) the venue's", found)
    assert told is not None, found
    assert told[2] == where
    assert abs(float(told[1]) - seconds) <= 0.1 + elapsed_s / 2


def test_every_fault_of_an_account_is_told_at_once(patient: Sparky, store: Store, venue_url: str) -> None:
    live_strategy(store)
    arrange(venue_url, hedge_mode=True, balance="0")
    assert [("hedge mode" in check["found"], "no money" in check["found"]) for check in examined(patient)] == [
        (True, False),
        (False, True),
    ]


def test_a_part_that_cannot_be_read_is_told_as_not_known_and_hides_no_other(
    patient: Sparky, store: Store, venue_url: str
) -> None:
    live_strategy(store)
    misbehave(venue_url, {"kind": "status", "status": 503, "path": "/positionSide/dual", "times": None})
    (check,) = examined(patient)
    assert check["state"] == "ok"
    assert "position mode is not known" in check["found"]
    assert "10,000.00 USD" in check["found"]


def test_a_small_difference_of_the_clock_and_mixed_margin_are_told_and_no_fault(
    patient: Sparky, store: Store, venue_url: str
) -> None:
    live_strategy(store)
    arrange(venue_url, clock_offset_s=3, isolated=["ETHUSDT"], multi_assets=True)
    began = time.monotonic()
    (check,) = examined(patient)
    assert check["state"] == "ok"
    assert_clock(check["found"], 3, "behind", time.monotonic() - began)
    assert "isolated margin in ETHUSDT" in check["found"]
    assert "multi-assets mode" in check["found"]


def test_a_margin_mode_that_a_strategy_wants_and_the_account_has_not_is_told_and_no_fault(
    patient: Sparky, store: Store, venue_url: str
) -> None:
    live_strategy(store, margin_mode="isolated")
    arrange(venue_url, isolated=[])
    (check,) = examined(patient)
    assert check["state"] == "ok"
    assert "and isolated is wanted: it is set before the next entry" in check["found"]
    arrange(venue_url, multi_assets=True)
    (check,) = examined(patient)
    assert "entries are refused until the account leaves multi-assets mode" in check["found"]


def test_a_venue_that_is_away_is_told_within_its_deadline(patient: Sparky, store: Store, venue_url: str) -> None:
    live_strategy(store)
    misbehave(venue_url, {"kind": "reset", "times": None})
    (check,) = examined(patient)
    assert check["state"] == "fault"
    assert "cannot be looked at" in check["found"]


def test_incomplete_keys_of_another_person_change_nothing_for_this_account(patient: Sparky, store: Store) -> None:
    live_strategy(store)
    other = store.ensure_user("other@example.org")
    store.put_credentials(other, "aster", {"api_key": aster_keys()["private_key"]})
    (check,) = examined(patient)
    assert check["state"] == "ok"


@pytest.mark.parametrize("width", [80, 100])
def test_lines_of_people_show_no_secret_and_every_word_at_any_width(
    patient: Sparky, store: Store, venue_url: str, width: int
) -> None:
    live_strategy(store)
    arrange(venue_url, hedge_mode=True)
    patient.environment |= {"COLUMNS": str(width), "LINES": "50", "TERM": "dumb", "FORCE_COLOR": "1"}
    shown = patient("doctor").stdout
    assert max(len(line) for line in shown.splitlines()) <= width
    assert "hedge mode" in " ".join(shown.split())
    assert PRIVATE_KEY not in shown
