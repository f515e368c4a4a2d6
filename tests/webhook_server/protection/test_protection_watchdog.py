"""Whose protection the watch looks after while a venue answers for some people and not for others."""

from engine.domain.errors import VenueUnavailable
from engine.platform.settings.settings import Settings
from engine.store.store import Store
from engine.venues.account_state import OpenOrder
from engine.venues.venue import Credentials, LiveVenue
from tests.webhook_server.conftest import Sender, Site
from tests.webhook_server.market import LiveAccount, Venues
from webhook_server.app import build
from webhook_server.clock import SystemClock


class Silent(LiveAccount):
    """An account for which the venue does not answer."""

    asked = 0

    def fetch_open_orders(self, symbol: str | None = None) -> tuple[OpenOrder, ...]:
        self.asked += 1
        raise VenueUnavailable(f"no answer about {symbol}")


class Apart(Venues):
    """One address is the silent account's, every other one the lively one's."""

    def __init__(self, site: Site) -> None:
        super().__init__(site.market, site.account)
        self.silent = Silent(site.market)

    def live(self, exchange: str, credentials: Credentials) -> LiveVenue:
        return self.silent if credentials.user_address == "0xsilent" else super().live(exchange, credentials)


def silent_person(site: Site) -> Sender:
    person = site.user()
    site.sql(
        "insert into bot_credentials (user_id, exchange, extra_metadata) values (%s, 'aster', %s)",
        person.user_id,
        '{"user_address": "0xsilent", "signer_address": "0x2", "private_key": "0x3"}',
    )
    return person


def test_an_account_that_its_venue_does_not_answer_for_hides_nobody_elses(site: Site, store: Store) -> None:
    site.credentials()
    silent = silent_person(site)
    for sender, symbol in ((silent, "ETHUSDT"), (silent, "SOLUSDT"), (site.sender, "BTCUSDT")):
        site.market.prices.setdefault(symbol, site.market.prices["ETHUSDT"])
        entered = sender.post(environment="production", symbol=symbol, stop_loss_percent=2, signal_id=symbol)
        assert entered.json()["action"] == "opened"
    site.account.protections.clear()
    venues = Apart(site)
    server = build(Settings(), store, venues, SystemClock())
    server.protection_watchdog.run()
    assert {order.symbol for order in site.account.protections.values()} == {"BTCUSDT"}
    assert venues.silent.asked == 1
    server.workers.shutdown()


def test_a_venue_that_two_accounts_get_no_answer_from_is_asked_for_others_first_the_next_time(
    site: Site, store: Store
) -> None:
    site.credentials()
    people = [silent_person(site), silent_person(site), site.sender]
    for sender, symbol in zip(people, ("ETHUSDT", "ETHUSDT", "BTCUSDT"), strict=True):
        sender.post(environment="production", symbol=symbol, stop_loss_percent=2)
    site.account.protections.clear()
    server = build(Settings(), store, Apart(site), SystemClock())
    server.protection_watchdog.run()
    assert site.account.protections == {}
    server.protection_watchdog.run()
    assert {order.symbol for order in site.account.protections.values()} == {"BTCUSDT"}
    server.workers.shutdown()
