"""A webhook server on a free port with a real database; only the market's prices and the live account are made here."""

import socket
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest
import requests
from pydantic import SecretStr
from standardwebhooks import Webhook

from engine.admin.demo_data import generate_webhook_secret
from engine.admin.strategy_checks import NewStrategy
from engine.domain.strategy import StrategyStatus
from engine.platform.http.service import HttpService
from engine.platform.settings.settings import Settings
from engine.risk.entry_rules import UNRESTRICTED
from engine.store.embedded.embedded_postgres import build_dsn
from engine.store.store import Store
from engine.venues.orders import build_client_order_id
from tests.support.clients.sql import Sql, as_owner
from tests.webhook_server.market import LiveAccount, Market, Venues
from webhook_server.app import WaitLimits, WebhookServer, build
from webhook_server.clock import SystemClock
from webhook_server.http.routes import LIVE_PATH


@dataclass
class Sender:
    """A user with a webhook secret, and how such a one sends signals."""

    url: str
    user_id: UUID
    secret: SecretStr

    def body(self, **fields: Any) -> dict[str, Any]:
        """An entry of 1,000 USD into BTCUSDT; `fields` replace its own, None removes one."""
        body: dict[str, Any] = {
            "user_id": str(self.user_id),
            "secret": self.secret.get_secret_value(),
            "exchange": "aster",
            "symbol": "BTCUSDT",
            "action": "BUY",
            "position_size_usd": 1000,
        }
        body.update(fields)
        return {name: value for name, value in body.items() if value is not None}

    def post(self, path: str = "/webhook", /, **fields: Any) -> requests.Response:
        return requests.post(self.url + path, json=self.body(**fields), timeout=60)

    def engine(self, **fields: Any) -> requests.Response:
        return self.post("/webhook/ai-signal", **fields)

    def order_id(self, name: str, leg: str) -> str:
        """The client order id of a leg of the signal `name`."""
        return build_client_order_id(uuid.uuid5(self.user_id, name), leg)

    def signed(self, body: str, name: str, at: datetime | None = None, key: str | None = None) -> dict[str, str]:
        at = at or datetime.now(UTC)
        signature = Webhook(key or self.secret.get_secret_value()).sign(name, at, body)
        return {
            "webhook-id": name,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": signature,
        }


@dataclass
class Site:
    """A running server and what surrounds it."""

    url: str
    server: WebhookServer
    store: Store
    market: Market
    account: LiveAccount
    sql: Sql
    sender: Sender

    def user(self, email: str | None = None) -> Sender:
        user_id = self.store.ensure_user(email or f"{uuid.uuid4().hex}@example.com")
        secret = generate_webhook_secret()
        self.store.set_webhook_secret(user_id, secret)
        return Sender(self.url, user_id, secret)

    def strategy(self, **fields: Any) -> UUID:
        """A running one whose entry rules restrict nothing; None in `fields` leaves a rule to the profile."""
        row = {"user_id": self.sender.user_id, "name": uuid.uuid4().hex, "status": StrategyStatus.RUNNING}
        return self.store.create_strategy(NewStrategy.from_input(row | UNRESTRICTED.model_dump() | fields)).id

    def limits(self, **columns: Any) -> None:
        """Sets columns of the sender's risk limits on aster."""
        self.sql(
            "insert into trade_settings_exchange (user_id, exchange) values (%s, 'aster') on conflict do nothing",
            self.sender.user_id,
        )
        for name, value in columns.items():
            self.sql(f"update trade_settings_exchange set {name} = %s", value)  # noqa: S608 - names are the tests' own

    def credentials(self) -> None:
        self.sql(
            "insert into bot_credentials (user_id, exchange, extra_metadata) values (%s, 'aster', %s)",
            self.sender.user_id,
            '{"user_address": "0x1", "signer_address": "0x2", "private_key": "0x3"}',
        )

    def move(self, symbol: str, price: str) -> None:
        """A new price, and no quote of the old one left anywhere."""
        self.market.prices[symbol] = Decimal(price)

    def request(self, name: str) -> tuple[Any, ...]:
        """status, answer_status, payload of the remembered request."""
        return self.sql("select status, answer_status, payload from webhook_requests where request_id = %s", name)[0]


def until(condition: Callable[[], object], timeout_s: float = 120.0) -> None:
    """Waits for `condition`; fails the test when it does not come."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def hang_up(url: str, body: str, is_taken: Callable[[], object]) -> None:
    """Sends a signal and hangs up as soon as `is_taken`; the server has seen both when this returns."""
    where, raw = urlsplit(url), body.encode()
    with socket.create_connection((where.hostname, where.port), timeout=60) as connection:
        head = f"POST /webhook HTTP/1.1\r\nhost: x\r\ncontent-length: {len(raw)}\r\n\r\n"
        connection.sendall(head.encode() + raw)
        until(is_taken)
    requests.get(url + LIVE_PATH, timeout=60)  # answered by the same loop, after it has read the end of the other one


@pytest.fixture(scope="package")
def shared_database(postgres_home: Path) -> Iterator[str]:
    """DSN of one migrated database for all tests here; `store` empties it before each."""
    with psycopg.connect(build_dsn(postgres_home, "postgres"), autocommit=True) as connection:
        connection.execute("create database webhook_tests template migrated")
        yield build_dsn(postgres_home, "webhook_tests")
        connection.execute("drop database webhook_tests with (force)")


@pytest.fixture(scope="package")
def sql(shared_database: str) -> Iterator[Sql]:
    """Statements on the shared database as its owner."""
    with as_owner(shared_database) as run:
        yield run


@pytest.fixture
def database_url(shared_database: str, sql: Sql) -> str:
    """DSN of an empty database. Deleting the users takes everything of theirs along."""
    sql("delete from auth.users")
    sql("delete from webhook_requests")
    return shared_database


class Front:
    """An ASGI application that is whichever `app` is set: one listening server serves every test's own one."""

    app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError  # the server then goes on without
        await self.app(scope, receive, send)


@pytest.fixture(scope="package")
def front() -> Iterator[tuple[Front, str]]:
    """The front and its URL."""
    made = Front()
    http = HttpService(made, "127.0.0.1", 0, "SPARKY_WEBHOOK_PORT", "/health")
    http.start()
    yield made, http.url
    http.stop(5)


# As on a machine that is busy with ten other things: no signal is sent away because others took long. A repetition is,
# as soon as in production: what is asked of it in most tests is that it is told to come again.
PATIENT = WaitLimits(slot_s=120.0, lock_s=120.0)


@pytest.fixture
def patience(request: pytest.FixtureRequest) -> WaitLimits:
    """How long signals wait for each other; another time only where that is what is tested."""
    return getattr(request, "param", PATIENT)


@pytest.fixture
def site(front: tuple[Front, str], store: Store, sql: Sql, patience: WaitLimits) -> Iterator[Site]:
    market = Market()
    account = LiveAccount(market)
    server = build(Settings(), store, Venues(market, account), SystemClock(), wait_limits=patience)
    front[0].app = server.app
    nobody = Sender(front[1], uuid.uuid4(), SecretStr(""))
    made = Site(front[1], server, store, market, account, sql, nobody)
    made.sender = made.user("owner@example.com")
    yield made
    server.workers.shutdown()
