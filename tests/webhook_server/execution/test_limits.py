"""Limits over HTTP: entries meet them, exits never do."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import ANY

import pytest

from engine.domain.errors import VenueUnavailable
from engine.domain.strategy import StrategyStatus
from engine.platform.settings.settings import Settings
from engine.risk.limit_breach import LimitType
from engine.risk.strategy_state import find_status_block
from engine.store.store import Store
from tests.webhook_server.conftest import Front, Site
from tests.webhook_server.market import Venues
from webhook_server.app import build
from webhook_server.clock import SystemClock


def test_a_refusal_is_429_with_type_current_and_limit(site: Site) -> None:
    site.limits(max_concurrent_positions=1)
    site.sender.post()
    answer = site.sender.post(symbol="ETHUSDT")
    assert answer.status_code == 429
    assert answer.json() == {
        "success": False,
        "error": "Risk limit exceeded",
        "message": "1 open positions of at most 1",
        "data": {"limitType": "concurrent_positions", "current": 1, "limit": 1},
    }
    assert "retry-after" not in answer.headers


# For each limit type but those that have tests of their own, below or (of a live symbol) in tests/venues:
# columns of the limits, and the entry.
TOLD: dict[str, tuple[dict[str, Any], dict[str, Any], object, object]] = {
    "kill_switch": ({"kill_switch": True}, {}, "on", "off"),
    "stale_signal": ({"max_signal_age_sec": 60}, {"timestamp": "2026-01-01T00:00:00Z"}, ANY, 60),
    "weekend": ({"allow_weekends": False}, {}, "Saturday", "Monday to Friday"),
    "daily_loss": ({"max_daily_loss_usd": 5}, {}, ANY, 5),
    "weekly_loss": ({"max_loss_per_week_usd": 5}, {}, ANY, 5),
    "weekly_trades": ({"max_trades_per_week": 1}, {}, 1, 1),
    "consecutive_failures": ({"max_consecutive_failures": 1}, {}, 1, 1),
    "concurrent_positions": ({"max_concurrent_positions": 1}, {"symbol": "ETHUSDT"}, 1, 1),
    "entry_rules": ({}, {"stop_loss_percent": 0.015}, 0.015, 0.2),
    "max_spread": ({"max_spread_percent": "0.0001"}, {}, 0.0009, 0.0001),
    "leverage": ({}, {"leverage": 20}, 20, 10),
    "unreadable": ({"max_daily_loss_usd": -1}, {}, None, None),
}


@dataclass(frozen=True)
class Saturday(SystemClock):
    """Runs on from a Saturday noon, in UTC."""

    def now(self) -> datetime:
        real = super().now()
        return real.replace(hour=12) + timedelta(days=5 - real.weekday())


@pytest.mark.usefixtures("one_day")
@pytest.mark.parametrize("limit_type", TOLD)
def test_every_limit_is_told_with_its_type_what_is_and_what_may_be(
    site: Site, store: Store, front: tuple[Front, str], limit_type: str
) -> None:
    columns, entry, current, limit = TOLD[limit_type]
    rules = {"min_stop_loss_percent": None} if limit_type == "entry_rules" else {}
    strategy = str(site.strategy(leverage_max=10, **rules))
    if limit_type.endswith("_loss"):
        site.sender.engine(strategy_id=strategy)
        site.move("BTCUSDT", "24000.0")
        site.sender.engine(strategy_id=strategy, action="CLOSE")
    elif limit_type in {"weekly_trades", "concurrent_positions"}:
        site.sender.engine(strategy_id=strategy)
    elif limit_type == "consecutive_failures":
        site.sender.engine(strategy_id=strategy, position_size_usd=1)
    site.limits(**columns)
    clock = Saturday() if limit_type == "weekend" else SystemClock()
    server = build(Settings(), store, Venues(site.market, site.account), clock)
    front[0].app = server.app
    answer = site.sender.engine(strategy_id=strategy, **entry)
    server.workers.shutdown()
    assert answer.status_code == 429, answer.text
    told = answer.json()
    assert (told["success"], told["error"], bool(told["message"])) == (False, "Risk limit exceeded", True)
    assert told["data"] == {"limitType": limit_type, "current": current, "limit": limit}


def test_every_limit_type_is_told_somewhere_here() -> None:
    own = {"strategy_status", "drawdown", "unsettled_difference", "resting_symbol"}
    own |= {"stale_quote", "mark_distance", "max_slippage"}  # tests/venues/contract/test_entry_costs.py
    assert {*TOLD} | own == {each.value for each in LimitType}


@pytest.mark.usefixtures("one_day")
def test_a_realised_loss_closes_the_day_for_entries(site: Site) -> None:
    site.limits(max_daily_loss_usd=5)
    site.sender.post()
    site.move("BTCUSDT", "24800.0")
    assert site.sender.post(action="close").json()["pnl"]["usd"] < -5
    body = site.sender.post().json()
    assert body["data"]["limitType"] == "daily_loss"
    assert body["data"]["limit"] == 5
    assert body["data"]["current"] > 5


def test_failures_in_a_row_at_the_venue_stop_entries(site: Site) -> None:
    site.limits(max_consecutive_failures=2)
    assert site.sender.post(position_size_usd=1).json()["action"] == "rejected"
    site.market.away = VenueUnavailable("no connection")
    assert site.sender.post().status_code == 503
    site.market.away = None
    assert site.sender.post().json()["data"]["limitType"] == "consecutive_failures"


def test_an_expired_signal_is_refused(site: Site) -> None:
    answer = site.sender.post(expires_at="2026-01-01T00:00:00+00:00")
    assert (answer.status_code, answer.json()["data"]["limitType"]) == (429, "stale_signal")


def test_a_limit_that_cannot_be_read_refuses_entries_and_no_exit(site: Site) -> None:
    site.sender.post()
    site.limits(max_daily_loss_usd=-1)
    answer = site.sender.post(symbol="ETHUSDT")
    assert (answer.status_code, answer.json()["data"]["limitType"]) == (429, "unreadable")
    assert site.sender.post(action="CLOSE").json()["action"] == "closed"


@pytest.mark.parametrize(
    "columns",
    [
        {"kill_switch": True},
        {"max_trades_per_week": 1},
        {"max_concurrent_positions": 1},
        {"max_position_size_usd": 1},
        {"max_signal_age_sec": 1},
    ],
    ids=lambda columns: next(iter(columns)),
)
def test_no_limit_blocks_an_exit(site: Site, columns: dict[str, Any]) -> None:
    site.sender.post()
    site.limits(**columns)
    late = {"expires_at": "2026-01-01T00:00:00Z", "timestamp": "2026-01-01T00:00:00Z"}
    assert site.sender.post(action="CLOSE", **late).json()["action"] == "closed"


def test_a_strategy_that_does_not_run_may_only_close(site: Site) -> None:
    strategy = site.strategy()
    site.sender.engine(strategy_id=str(strategy))
    site.store.set_strategy_status(strategy, StrategyStatus.PAUSED)
    entry = site.sender.engine(strategy_id=str(strategy))
    assert entry.status_code == 429
    assert entry.json()["data"] == {"limitType": "strategy_status", "current": "paused", "limit": "running"}
    assert entry.json()["message"] == find_status_block("paused")
    assert site.sender.engine(strategy_id=str(strategy), action="CLOSE").json()["action"] == "closed"


def test_a_strategy_beyond_its_drawdown_may_only_close(site: Site) -> None:
    strategy = str(site.strategy(capital_usd=1000, max_drawdown_percent=5, leverage_max=10))
    site.sender.engine(strategy_id=strategy)
    site.move("BTCUSDT", "23000.0")
    site.server.mark_to_market.run_once()
    entry = site.sender.engine(strategy_id=strategy)
    assert (entry.status_code, entry.json()["data"]["limitType"]) == (429, "drawdown")
    assert site.sender.engine(strategy_id=strategy, action="CLOSE").json()["action"] == "closed"


def test_a_refused_reversal_closes_and_says_why_it_did_not_open(site: Site) -> None:
    site.sender.post()
    site.limits(kill_switch=True)
    answer = site.sender.post(action="SELL")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["success"], body["action"]) == (True, "closed")
    assert body["entryRefused"]["data"]["limitType"] == "kill_switch"
    assert site.store.list_open_positions() == ()


def test_the_entry_of_a_reversal_that_the_venue_refuses_leaves_the_exit_booked(site: Site) -> None:
    site.sender.post()
    answer = site.sender.post(action="SELL", position_size_usd=1, signal_id="turn")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["success"], body["action"]) == (False, "rejected")
    assert body["closed"]["quantity"] == 0.039
    assert site.store.list_open_positions() == ()
    assert site.sender.post(action="SELL", position_size_usd=1, signal_id="turn").json() == body


def test_entries_at_once_do_not_race_past_a_limit(site: Site) -> None:
    from concurrent.futures import ThreadPoolExecutor

    site.limits(max_concurrent_positions=3)
    strategies = [str(site.strategy()) for _ in range(12)]
    with ThreadPoolExecutor(12) as senders:
        answers = list(senders.map(lambda one: site.sender.engine(strategy_id=one).status_code, strategies))
    assert sorted(answers) == [200] * 3 + [429] * 9
    assert len(site.store.list_open_positions()) == 3
