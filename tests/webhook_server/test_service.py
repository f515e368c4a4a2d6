"""The service as its process runs it: made from settings, started, watched, stopped."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
import requests
from eth_account import Account

from engine.admin.demo_data import generate_webhook_secret
from engine.platform.errors import ConfigurationError
from engine.platform.http.service import HttpService
from engine.platform.settings.settings import Settings
from engine.store.store import Store
from engine.store.transport.postgres import PostgresRpc
from simulator.service import make_aster
from tests.support.clients.sql import Sql
from tests.support.factories.keys import vault
from tests.support.processes.directories import short_directory
from tests.support.servers.ports import free_port
from tests.webhook_server.conftest import Sender, Site, until
from tests.webhook_server.market import Venues
from webhook_server.app import SLOT_LIMITS, build
from webhook_server.clock import SystemClock
from webhook_server.http.routes import LIVE_PATH
from webhook_server.service import WebhookService, make

LEASE_S = 120.0  # longer than the server can be kept from renewing it: it is the only one here


@pytest.fixture
def settings(database_url: str) -> Iterator[Callable[..., Settings]]:
    """Makes settings with a state directory of the test's own."""
    with short_directory() as home:

        def make_settings(**more: object) -> Settings:
            given = {
                "sparky_home": home,
                "database_url": database_url,
                "sparky_market": "aster",
                "sparky_webhook_port": free_port(),
                "sparky_sim_aster_port": free_port(),
                "sparky_mark_interval_s": 0.05,
                "sparky_sim_speed": 1.0,
            }
            return Settings.model_validate(given | more)

        yield make_settings


def test_it_trades_on_the_simulated_venue_and_marks_what_it_holds(
    settings: Callable[..., Settings], store: Store
) -> None:
    plain = settings()
    venue = make_aster(plain, "")
    venue.start()
    service = make(plain.model_copy(update={"sparky_market_url": venue.url}), "", LEASE_S)
    service.start()
    try:
        until(service.is_healthy)
        user_id, secret = store.ensure_user("owner@example.com"), generate_webhook_secret()
        store.set_webhook_secret(user_id, secret)
        sender = Sender(service.url, user_id, secret)
        opened = sender.post(stop_loss_percent=50)
        assert opened.json()["action"] == "opened", opened.text
        until(lambda: store.list_open_positions()[0].current_price is not None)
        (position,) = store.list_open_positions()
        assert abs(position.entry_price * position.quantity - 1000) < Decimal(100)
        assert sender.post(symbol="NOSUCHUSDT").json()["field"] == "symbol"
        venue.stop(5)
        away = sender.post(action="close", signal_id="later")
        assert away.status_code == 503
        assert away.headers["retry-after"]
    finally:
        service.stop(5)
        venue.stop(5)
    assert not service.is_healthy()
    with pytest.raises(requests.ConnectionError):
        requests.get(service.url, timeout=60)


def test_a_live_signal_goes_to_the_venue_signed_with_the_users_key(
    settings: Callable[..., Settings], store: Store, sql: Sql
) -> None:
    plain = settings()
    venue = make_aster(plain, "")
    venue.start()
    service = make(plain.model_copy(update={"sparky_market_url": venue.url}), "", LEASE_S)
    service.start()
    try:
        user_id, secret = store.ensure_user("owner@example.com"), generate_webhook_secret()
        store.set_webhook_secret(user_id, secret)
        key = Account.create()
        metadata = {"private_key": key.key.hex(), "signer_address": key.address, "user_address": key.address}
        sql(
            "insert into bot_credentials (user_id, exchange, extra_metadata) values (%s, 'aster', %s)",
            user_id,
            json.dumps(metadata),
        )
        sender = Sender(service.url, user_id, secret)
        opened = sender.post(environment="production", leverage=2).json()
        assert (opened["success"], opened["action"], opened["paper"]) == (True, "opened", False), opened
        turned = sender.post(environment="production", action="short").json()
        assert (turned["action"], turned["side"]) == ("opened", "SHORT"), turned
        assert turned["closed"]["quantity"] == opened["quantity"]
        closed = sender.post(action="close").json()
        assert (closed["action"], closed["paper"]) == ("closed", False), closed
        assert store.list_open_positions() == ()
        refused = sender.post(environment="production", position_size_usd=10_000_000).json()
        assert (refused["success"], refused["action"]) == (False, "rejected"), refused
    finally:
        service.stop(5)
        venue.stop(5)


def test_a_taken_port_is_one_clear_sentence(settings: Callable[..., Settings]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        service = make(settings(sparky_webhook_port=taken.getsockname()[1]), "")
        with pytest.raises(ConfigurationError, match="SPARKY_WEBHOOK_PORT"):
            service.start()
        service.stop(1)


def test_it_recovers_at_start_what_a_dead_server_left(settings: Callable[..., Settings], store: Store) -> None:
    user_id = store.ensure_user("owner@example.com")
    payload = {"exchange": "aster", "symbol": "BTCUSDT", "action": "CLOSE"}
    store.begin_execution(None, "left", user_id, None, "aster", "BTCUSDT", "CLOSE", "f", payload, is_paper=True)
    service = make(settings(), "")
    service.start()
    try:
        until(lambda: not store.list_unfinished_requests())
    finally:
        service.stop(5)


def test_stop_sends_away_what_waits_for_a_place_and_lets_what_runs_finish(site: Site, database_url: str) -> None:
    store = Store(PostgresRpc(database_url, keep=True), vault())
    server = build(Settings(), store, Venues(site.market, site.account), SystemClock())
    service = WebhookService(HttpService(server.app, "127.0.0.1", 0, "NONE", LIVE_PATH), server, store)
    service.start()
    sender, admission = Sender(service.url, site.sender.user_id, site.sender.secret), server.signal_receiver.admission
    site.market.gate = threading.Event()
    with ThreadPoolExecutor(SLOT_LIMITS.per_user + 2) as threads:
        strategies = [str(site.strategy()) for _ in range(SLOT_LIMITS.per_user)]
        first = [threads.submit(sender.engine, strategy_id=strategy) for strategy in strategies]
        until(lambda: admission.running == SLOT_LIMITS.per_user)
        waits = threads.submit(sender.post)
        until(lambda: admission.waiting == 1)
        stopped = threads.submit(service.stop, 60.0)
        away = waits.result(60)
        assert (away.status_code, away.json()["error"]) == (503, "This webhook server is stopping")
        site.market.gate.set()
        assert {future.result(60).status_code for future in first} == {200}
        stopped.result(60)
