"""Which refusal comes first, who waits for whom, and what is asked of a venue before anybody waits."""

from collections.abc import Callable
from typing import Any

import pytest

from engine.domain.errors import VenueUnavailable
from engine.domain.strategy import StrategyStatus
from engine.store.store import Store
from engine.venues.account_setup import AccountSetup
from engine.venues.venue import Credentials, LiveVenue, Venue
from tests.support.factories.entry_values import order
from tests.webhook_server.conftest import Site
from tests.webhook_server.legs import SLIPPAGE_PERCENT
from tests.webhook_server.market import LiveAccount, Venues
from webhook_server.clock import SystemClock
from webhook_server.execution.execution_context import Request
from webhook_server.execution.executor import OrderExecutor
from webhook_server.execution.pipeline import Pipeline
from webhook_server.execution.results import IN_PROGRESS, Booked, Result
from webhook_server.http.responses import encode_for_store
from webhook_server.metrics import Metrics


class SeenVenues(Venues):
    """Notes which venues are opened."""

    def __init__(self, site: Site) -> None:
        super().__init__(site.market, site.account)
        self.opened: list[str] = []

    def paper(self, exchange: str) -> Venue:
        self.opened.append("paper")
        return super().paper(exchange)

    def live(self, exchange: str, credentials: Credentials) -> LiveVenue:
        self.opened.append("live")
        return super().live(exchange, credentials)


class Desk:
    """An executor of its own at the site's venues, whose requests wait a second for each other."""

    def __init__(self, site: Site, venues: SeenVenues | None = None) -> None:
        self.site, self.clock = site, SystemClock()
        self.venues, store, metrics = venues or SeenVenues(site), site.store, Metrics()
        common = (self.clock, metrics)
        self.executor = OrderExecutor(store, self.venues, *common, SLIPPAGE_PERCENT, encode_for_store, lock_wait_s=0)
        self.pipeline = Pipeline(store, self.executor, *common, encode_for_store)

    def execute(self, name: str, **fields: Any) -> Result:
        signal = order(**{"strategy_id": None} | fields)
        request = Request(name, self.site.sender.user_id, signal, self.clock.now(), self.clock.monotonic())
        return self.pipeline.execute_once(request, name)


@pytest.fixture
def desk(site: Site) -> Desk:
    site.credentials()
    return Desk(site)


LIMITS: dict[str, Callable[[Site], object]] = {
    "kill_switch": lambda site: site.limits(kill_switch=True),
    "max_spread": lambda site: site.limits(max_spread_percent="0.0001"),
    "unreadable": lambda site: site.limits(max_daily_loss_usd=-1),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_refuses_before_missing_credentials_do(site: Site, limit: str) -> None:
    LIMITS[limit](site)
    limited = site.sender.post(environment="production", signal_id="a")
    assert (limited.status_code, limited.json()["data"]["limitType"]) == (429, limit)
    site.sql("delete from trade_settings_exchange")
    missing = site.sender.post(environment="production", signal_id="b")
    assert (missing.status_code, missing.json()["field"]) == (400, "exchange")


def test_a_strategy_of_somebody_else_is_refused_before_any_limit(site: Site) -> None:
    theirs = site.strategy(user_id=site.user().user_id)
    site.limits(kill_switch=True)
    answer = site.sender.post(strategy_id=str(theirs))
    assert (answer.status_code, answer.json()["field"]) == (400, "strategy_id")


def test_an_untested_venue_is_refused_before_any_price_is_asked_for(site: Site) -> None:
    site.market.away = AssertionError("asked for a price")
    answer = site.sender.post(environment="production", exchange="kraken")
    assert (answer.status_code, answer.json()["field"]) == (400, "exchange")
    assert "has not been tested" in answer.json()["error"]


def test_an_exit_meets_no_limit_and_needs_its_credentials(site: Site) -> None:
    site.credentials()
    strategy = site.strategy(is_paper_trading=False)
    assert site.sender.engine(strategy_id=str(strategy)).json()["action"] == "opened"
    site.limits(kill_switch=True, max_daily_loss_usd=-1)
    site.store.set_strategy_status(strategy, StrategyStatus.PAUSED)
    site.sql("delete from bot_credentials where exchange = 'aster'")
    missing = site.sender.engine(strategy_id=str(strategy), action="CLOSE")
    assert (missing.status_code, missing.json()["field"]) == (400, "exchange")
    site.credentials()
    assert site.sender.engine(strategy_id=str(strategy), action="CLOSE").json()["action"] == "closed"


def test_a_request_waits_for_the_one_before_it_of_its_strategy_and_not_for_those_of_others(desk: Desk) -> None:
    mine, other = desk.site.strategy(), desk.site.strategy()
    with desk.executor.lock_strategy((desk.site.sender.user_id, "aster", mine), 1):
        assert desk.execute("a", strategy_id=mine) is IN_PROGRESS
        assert desk.execute("b", strategy_id=mine, action="CLOSE") is IN_PROGRESS
        assert isinstance(desk.execute("c", strategy_id=other), Booked)
    assert isinstance(desk.execute("a", strategy_id=mine), Booked)


def test_a_live_entry_waits_for_its_symbol_and_neither_an_exit_nor_paper_does(desk: Desk) -> None:
    assert isinstance(desk.execute("a", environment="production"), Booked)
    with desk.executor.lock_symbol((desk.site.sender.user_id, "aster", "BTCUSDT"), 1):
        assert desk.execute("b", environment="production") is IN_PROGRESS
        assert isinstance(desk.execute("c", environment="paper"), Booked)
        assert isinstance(desk.execute("d", environment="production", symbol="ETHUSDT"), Booked)
        assert isinstance(desk.execute("e", environment="production", action="CLOSE"), Booked)


def test_a_live_exit_beside_an_opposite_position_waits_for_its_symbol(desk: Desk) -> None:
    buyer, seller = (desk.site.strategy(is_paper_trading=False) for _ in range(2))
    assert isinstance(desk.execute("a", strategy_id=buyer), Booked)
    assert isinstance(desk.execute("b", strategy_id=seller, action="SELL"), Booked)
    with desk.executor.lock_symbol((desk.site.sender.user_id, "aster", "BTCUSDT"), 1):
        assert desk.execute("c", strategy_id=buyer, action="CLOSE") is IN_PROGRESS
    assert isinstance(desk.execute("c", strategy_id=buyer, action="CLOSE"), Booked)


def test_a_venue_is_asked_about_the_account_and_the_price_before_a_live_entry_waits(desk: Desk) -> None:
    asked: list[str] = []

    class SeenAccount(LiveAccount):
        def fetch_setup(self) -> AccountSetup:
            asked.append("setup")
            return super().fetch_setup()

    desk.venues.account = SeenAccount(desk.site.market)
    desk.site.market.asked.clear()
    with desk.executor.lock_symbol((desk.site.sender.user_id, "aster", "BTCUSDT"), 1):
        assert desk.execute("a", environment="production") is IN_PROGRESS
    assert (asked, desk.site.market.asked.is_set()) == (["setup"], True)


def test_a_venue_that_is_away_is_waited_for_before_the_locks(desk: Desk) -> None:
    """Its failure is told though the symbol is locked: the entry has not come that far."""
    desk.site.market.away = VenueUnavailable("no connection")
    with desk.executor.lock_symbol((desk.site.sender.user_id, "aster", "BTCUSDT"), 1):
        told = desk.execute("a", environment="production")
    assert told is not IN_PROGRESS
    assert "no connection" in str(told.error)


@pytest.mark.parametrize("environment", ["paper", "production"])
def test_each_request_opens_its_own_venue_once(desk: Desk, environment: str) -> None:
    expected = "paper" if environment == "paper" else "live"
    for number, action in enumerate(("BUY", "BUY", "SELL", "CLOSE")):
        desk.venues.opened.clear()
        assert isinstance(desk.execute(f"{number}", environment=environment, action=action), Booked)
        assert desk.venues.opened == [expected]


def test_an_entry_is_judged_by_what_others_did_until_its_account_was_free(site: Site, store: Store) -> None:
    """The portfolio is read again once the locks are held."""

    class LateVenues(SeenVenues):
        """While its venue is opened, before the locks, another of the person's positions is made."""

        def live(self, exchange: str, credentials: Credentials) -> LiveVenue:
            if not store.list_open_positions():
                other = site.sender.post(symbol="ETHUSDT", environment="production").json()
                assert other["action"] == "opened"
            return super().live(exchange, credentials)

    site.credentials()
    site.limits(max_concurrent_positions=1)
    desk = Desk(site, LateVenues(site))
    told = desk.execute("a", environment="production")
    assert "1 open positions of at most 1" in str(told.error)
    assert [each.symbol for each in site.account.requests] == ["ETHUSDT"]
