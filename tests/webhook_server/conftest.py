"""A webhook server on a free port with a real database; only the market's prices and the live account are made here."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import requests
from pydantic import SecretStr
from standardwebhooks import Webhook

from engine.errors import BadConfiguration, OutcomeUnknown, StrategyFault, UpstreamUnavailable, VenueRefused
from engine.exchanges.paper import PaperVenue
from engine.exchanges.venue import (
    Account,
    Balance,
    Credentials,
    Instrument,
    OpenOrder,
    OrderKind,
    OrderRequest,
    OrderResult,
    OrderStatus,
    Protection,
    Quote,
    Venue,
    VenuePosition,
)
from engine.serving import HttpService
from engine.settings import Settings
from engine.store.embedded import dsn
from engine.store.people_rows import NewStrategy
from engine.store.seed import new_webhook_secret
from engine.store.store import Store
from engine.types import Side, StrategyStatus
from tests.support.sql import Sql, as_owner
from webhook_server.app import Server, build
from webhook_server.clock import SystemClock

TICK, LOT, MIN_NOTIONAL = Decimal("0.1"), Decimal("0.001"), Decimal(5)


@dataclass
class Market:
    """Prices that a test sets; `away` makes the venue unreachable, `gate` holds every quote back until it is set."""

    prices: dict[str, Decimal] = field(
        default_factory=lambda: {"BTCUSDT": Decimal("25000.0"), "ETHUSDT": Decimal("2000.0")}
    )
    away: Exception | None = None
    gate: threading.Event | None = None
    asked: threading.Event = field(default_factory=threading.Event)

    def quote(self, symbol: str) -> Quote:
        self.asked.set()
        if self.gate is not None and not self.gate.wait(30):
            raise AssertionError("the gate never opened")
        price = self._price(symbol)
        return Quote(bid=price - TICK, ask=price + TICK, last=price, at_ms=1_700_000_000_000)

    def instrument(self, symbol: str) -> Instrument:
        self._price(symbol)
        return Instrument(symbol=symbol, tick=TICK, lot=LOT, min_notional=MIN_NOTIONAL, max_leverage=50)

    def _price(self, symbol: str) -> Decimal:
        if self.away is not None:
            raise self.away
        if symbol not in self.prices:
            raise StrategyFault(f"aster lists no perpetual called {symbol}")
        return self.prices[symbol]


class LiveAccount:
    """A venue that keeps its own record of orders, so that tests can compare it with the books.

    `mood` is what the next orders meet: fill, refuse, away (before it is sent), lost (filled, but the answer is lost),
    silent (nothing is filled and nothing is answered) or forbidden (the credentials are not accepted).
    """

    def __init__(self, market: Market) -> None:
        self._market = market
        self.mood = "fill"
        self.orders: list[OrderResult] = []
        self.requests: list[OrderRequest] = []
        self.protections: dict[str, Protection] = {}
        self.triggered: dict[str, OrderResult] = {}
        self.protection_fails: Exception | None = None

    def quote(self, symbol: str) -> Quote:
        return self._market.quote(symbol)

    def instrument(self, symbol: str) -> Instrument:
        return self._market.instrument(symbol)

    def market_order(self, order: OrderRequest) -> OrderResult:
        failures: dict[str, Exception] = {
            "refuse": VenueRefused("Margin is insufficient. (-2019)"),
            "away": UpstreamUnavailable("venue", "no connection"),
            "silent": OutcomeUnknown("timed out"),
            "forbidden": BadConfiguration("The venue does not accept the credentials: key revoked."),
        }
        if self.mood in failures:
            raise failures[self.mood]
        self.requests.append(order)
        price = self._market.prices[order.symbol]
        result = OrderResult(
            order_id=str(1000 + len(self.orders)),
            client_order_id=order.client_order_id,
            status=OrderStatus.FILLED,
            price=price,
            quantity=order.quantity,
            fee_usd=order.quantity * price * Decimal("0.0004"),
            at_ms=1_700_000_000_000,
        )
        self.orders.append(result)
        if self.mood == "lost":
            raise OutcomeUnknown("503 after the order was accepted")
        return result

    def limit_order(self, order: OrderRequest, limit_price: Decimal) -> OrderResult:
        price = self._market.prices[order.symbol]
        if (price > limit_price) if order.is_buy else (price < limit_price):
            raise VenueRefused("the market is beyond the limit price", "not_marketable")
        return self.market_order(order)

    def protect(self, protection: Protection, *, again: bool = False) -> tuple[OrderResult, ...]:  # noqa: ARG002 - the protocol
        """Whatever stands in the way of placing it; `protections` are those that wait, by client order id."""
        if self.protection_fails is not None:
            raise self.protection_fails
        names = [
            name
            for name, price in (
                (protection.stop_loss_id, protection.stop_loss_price),
                (protection.take_profit_id, protection.take_profit_price),
            )
            if price is not None
        ]
        for name in names:
            self.protections[name] = protection
        return tuple(self._waiting(name, OrderStatus.OPEN) for name in names)

    def cancel(self, symbol: str, client_order_id: str) -> OrderResult | None:  # noqa: ARG002 - the protocol
        if client_order_id in self.triggered:
            return self.triggered[client_order_id]
        if self.protections.pop(client_order_id, None) is None:
            return None
        return self._waiting(client_order_id, OrderStatus.REJECTED)

    def trigger(self, client_order_id: str) -> None:
        """The market reaches a waiting order: it closes what it protects."""
        wanted = self.protections.pop(client_order_id)
        order = OrderRequest(
            client_order_id=client_order_id,
            symbol=wanted.symbol,
            is_buy=wanted.side is Side.SHORT,
            quantity=wanted.quantity,
            reduce_only=True,
            leverage=None,
        )
        self.triggered[client_order_id] = self.market_order(order)

    def positions(self) -> tuple[VenuePosition, ...]:
        """The net of all orders, by symbol."""
        nets: dict[str, Decimal] = {}
        for request in self.requests:
            signed = request.quantity if request.is_buy else -request.quantity
            nets[request.symbol] = nets.get(request.symbol, Decimal(0)) + signed
        return tuple(
            VenuePosition(
                symbol=symbol,
                side=Side.LONG if net > 0 else Side.SHORT,
                quantity=abs(net),
                entry_price=self._market.prices[symbol],
                leverage=1,
                unrealized_pnl_usd=None,
            )
            for symbol, net in nets.items()
            if net
        )

    def orders_open(self, symbol: str | None = None) -> tuple[OpenOrder, ...]:
        return tuple(
            OpenOrder(
                order_id=f"w-{name}",
                client_order_id=name,
                symbol=wanted.symbol,
                kind=OrderKind.OTHER,
                is_buy=wanted.side is Side.SHORT,
                quantity=wanted.quantity,
                filled=Decimal(0),
                price=Decimal(1),
                reduce_only=wanted.reduce_only,
                at_ms=0,
            )
            for name, wanted in self.protections.items()
            if wanted.symbol == symbol
        )

    def balance(self) -> Balance:
        raise NotImplementedError

    def _waiting(self, name: str, status: OrderStatus) -> OrderResult:
        zero = Decimal(0)
        return OrderResult(
            order_id=f"w-{name}", client_order_id=name, status=status, price=zero, quantity=zero, fee_usd=zero, at_ms=0
        )

    def order_by_client_id(self, symbol: str, client_order_id: str) -> OrderResult | None:  # noqa: ARG002 - the protocol's
        if self.mood in {"lost", "silent"}:
            raise UpstreamUnavailable("venue", "no connection")
        named = (order for order in self.orders if order.client_order_id == client_order_id)
        return self.triggered.get(client_order_id) or next(named, None)


@dataclass
class Venues:
    """The outermost edge: the venues that the server under test finds."""

    market: Market
    account: LiveAccount

    def quotes(self, exchange: str) -> Market:
        if exchange != "aster":
            raise BadConfiguration(f"No venue is called {exchange!r}; see the list of exchanges that ccxt supports.")
        return self.market

    def paper(self, exchange: str) -> Venue:
        return PaperVenue(self.quotes(exchange), Decimal("0.04"), Decimal("0.02"))

    def live(self, exchange: str, credentials: Credentials) -> Account:
        assert exchange == "aster"
        assert credentials.private_key is not None
        return self.account


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
    server: Server
    store: Store
    market: Market
    account: LiveAccount
    sql: Sql
    sender: Sender

    def user(self, email: str | None = None) -> Sender:
        user_id = self.store.ensure_user(email or f"{uuid.uuid4().hex}@example.com")
        secret = new_webhook_secret()
        self.store.set_webhook_secret(user_id, secret)
        return Sender(self.url, user_id, secret)

    def strategy(self, **fields: Any) -> UUID:
        fields = {"user_id": self.sender.user_id, "name": uuid.uuid4().hex, "status": StrategyStatus.RUNNING} | fields
        return self.store.create_strategy(NewStrategy.of(fields)).id

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


def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Waits for `condition`; fails the test when it does not come."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


@pytest.fixture(scope="package")
def shared_database(postgres_home: Path) -> Iterator[str]:
    """DSN of one migrated database for all tests here; `store` empties it before each."""
    with psycopg.connect(dsn(postgres_home, "postgres"), autocommit=True) as connection:
        connection.execute("create database webhook_tests template migrated")
        yield dsn(postgres_home, "webhook_tests")
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


@pytest.fixture
def site(front: tuple[Front, str], store: Store, sql: Sql) -> Iterator[Site]:
    market = Market()
    account = LiveAccount(market)
    server = build(Settings(), store, Venues(market, account), SystemClock())
    front[0].app = server.app
    nobody = Sender(front[1], uuid.uuid4(), SecretStr(""))
    made = Site(front[1], server, store, market, account, sql, nobody)
    made.sender = made.user("owner@example.com")
    yield made
    server.workers.shutdown()
