"""The server's own threads: a venue that hangs holds up no marks, and they end in the middle of a round."""

import threading
from collections.abc import Callable, Iterator

import pytest

from engine.platform.settings.settings import Settings
from engine.store.store import Store
from engine.venues.account_state import OpenOrder
from tests.webhook_server.conftest import Site, until
from tests.webhook_server.market import LiveAccount, Venues
from webhook_server.app import WebhookServer, build
from webhook_server.clock import SystemClock

GRACE_S = 30.0


class Hanging(LiveAccount):
    """Says which orders wait only once the gate is open; until then whoever asks hangs."""

    def __init__(self, site: Site) -> None:
        super().__init__(site.market)
        self.gate = threading.Event()
        self.questions = 0

    def fetch_open_orders(self, symbol: str | None = None) -> tuple[OpenOrder, ...]:
        self.questions += 1
        assert self.gate.wait(60)
        return super().fetch_open_orders(symbol)


@pytest.fixture
def account(site: Site) -> Iterator[Hanging]:
    """Two live positions that asked for protection, on an account that hangs."""
    site.credentials()
    for symbol in site.market.prices:
        entered = site.sender.post(environment="production", symbol=symbol, stop_loss_percent=50, signal_id=symbol)
        assert entered.json()["action"] == "opened"
    hanging = Hanging(site)
    yield hanging
    hanging.gate.set()


@pytest.fixture
def started(site: Site, store: Store, account: Hanging) -> Iterator[WebhookServer]:
    """A server that holds the lease and is looking at the first of them."""
    settings = Settings(sparky_mark_interval_s=0.05)
    server = build(settings, store, Venues(site.market, account), SystemClock(), "one")
    assert server.lease is not None
    server.lease.start()
    for thread in server.job_runners:
        thread.start()
    until(lambda: account.questions == 1)
    yield server
    account.gate.set()
    ended(server)
    server.lease.stop()
    store.release_webhook_lease("two")
    server.workers.shutdown()


def ended(server: WebhookServer) -> None:
    for thread in server.job_runners:
        thread.stop()
    for thread in server.job_runners:
        thread.join(GRACE_S)
        assert not thread.is_alive()


def marked_at(site: Site, price: str) -> Callable[[], bool]:
    site.move("BTCUSDT", price)
    return lambda: any(str(each.current_price).startswith(price) for each in site.store.list_open_positions())


@pytest.mark.usefixtures("started")
def test_positions_are_marked_while_a_venue_hangs_over_an_account(site: Site, account: Hanging) -> None:
    until(marked_at(site, "25100"))
    until(marked_at(site, "25200"))
    assert account.questions == 1


def test_a_server_that_stops_looks_at_no_further_position(started: WebhookServer, account: Hanging) -> None:
    for thread in started.job_runners:
        thread.stop()
    account.gate.set()
    ended(started)
    assert account.questions == 1


def test_a_server_that_loses_its_lease_looks_at_no_further_position(
    started: WebhookServer, account: Hanging, store: Store
) -> None:
    lease = started.lease
    assert lease is not None

    def is_taken() -> bool:
        store.release_webhook_lease("one")
        return store.hold_webhook_lease("two", 600)

    until(is_taken)  # between two renewals
    until(lambda: not lease.is_held)
    account.gate.set()
    ended(started)
    assert account.questions == 1
