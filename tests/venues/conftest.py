"""A webhook server with a real database that trades, through ccxt and with real signatures, at a simulated venue."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import pytest
import requests
from pydantic import SecretStr

from engine.admin.demo_data import generate_webhook_secret
from engine.admin.strategy_checks import NewStrategy
from engine.domain.positions import Side
from engine.domain.strategy import StrategyStatus
from engine.platform.http.service import HttpService
from engine.platform.settings.settings import Settings
from engine.store.store import Store
from engine.venues.account_state import OpenOrder
from engine.venues.orders import build_client_order_id
from engine.venues.venue import LiveVenue
from simulator.market.candles import MINUTE_MS
from simulator.market.market import Market, MarketClock
from simulator.venue.venue import SimulatedVenue
from simulator.venue.weight_meter import WeightMeter
from tests.support.clients.sql import Sql
from tests.support.factories.markets import START_MS, Hands, flat_then_rising
from tests.support.servers.simulated import ASTER, VENUES, Simulated
from webhook_server.app import WaitLimits, WebhookServer, build
from webhook_server.clock import SystemClock
from webhook_server.venue_registry import VenueRegistry, Venues

RUNNING_LIVE: Final = {"status": StrategyStatus.RUNNING, "is_paper_trading": False}
# What ends in time on a quiet machine ends in time on a crowded one; tests of a limit choose it by `wait_limits`.
VENUE_TIMEOUT_S: Final = 120.0
PATIENT: Final = WaitLimits(*[VENUE_TIMEOUT_S] * len(WaitLimits._fields))
SIGNAL_TIMEOUT_S: Final = 2 * VENUE_TIMEOUT_S


@dataclass
class Floor:
    """The server, its books, and the venue. BTCUSDT stands at 28,000 until a test moves it; no time passes there."""

    url: str
    server: WebhookServer
    store: Store
    exchange: SimulatedVenue
    venue_url: str
    account: LiveVenue
    user_id: UUID
    secret: SecretStr
    hands: Hands = field(repr=False)

    def send(self, name: str | None = None, **fields: Any) -> dict[str, Any]:
        """What is answered to a live signal: by default to buy for 280 USD. `status` is the HTTP status."""
        body: dict[str, Any] = {
            "secret": self.secret.get_secret_value(),
            "exchange": self.simulated.name,
            "symbol": "BTCUSDT",
            "action": "buy",
            "size": 280,
            "environment": "production",
            "signal_id": name or uuid.uuid4().hex,
        }
        answer = requests.post(f"{self.url}/webhook", json=body | fields, timeout=SIGNAL_TIMEOUT_S)
        told: dict[str, Any] = answer.json()
        return told | {"status": answer.status_code}

    def order_id(self, name: str, leg: str) -> str:
        """The client order id of a leg of the signal `name`."""
        return build_client_order_id(uuid.uuid5(self.user_id, name), leg)

    def strategy(self, **fields: Any) -> str:
        row = {"user_id": self.user_id, "name": uuid.uuid4().hex, "exchange": self.simulated.name}
        return str(self.store.create_strategy(NewStrategy.from_input(row | RUNNING_LIVE | fields)).id)

    def direct_algo(self, **wishes: Any) -> None:
        """What the algo service of a simulated Binance shall do; see `simulator.binance.algo_control`."""
        requests.post(f"{self.venue_url}/_control/algo", json=wishes, timeout=30).raise_for_status()

    def direct(self, **wishes: Any) -> None:
        """What the market shall do; see `simulator.control.market_control`."""
        requests.post(f"{self.venue_url}/_control/market", json=wishes, timeout=30).raise_for_status()

    def quote_as(self, **wishes: Any) -> None:
        """How the market shall be quoted; see `simulator.control.book_control`."""
        requests.post(f"{self.venue_url}/_control/book", json=wishes, timeout=30).raise_for_status()

    def arrange(self, **settings: Any) -> None:
        """How accounts are set up there; see `simulator.venue.account_settings`."""
        requests.post(f"{self.venue_url}/_control/settings", json=settings, timeout=30).raise_for_status()

    def forget_checks(self) -> None:
        """As after ten minutes: the next entry has its account looked at first."""
        self.server.account_checks.invalidate_all()

    def misbehave(self, *faults: dict[str, Any]) -> None:
        """What the venue shall do wrong; see `simulator.faults`."""
        requests.post(f"{self.venue_url}/_control/faults", json=list(faults), timeout=30).raise_for_status()

    def metric(self, name: str, **labels: str) -> float:
        return self.server.metrics.registry.get_sample_value(f"sparky_webhook_{name}", labels) or 0.0

    def waiting(self) -> list[OpenOrder]:
        """Open orders at the venue."""
        return list(self.account.fetch_open_orders("BTCUSDT"))

    def net(self) -> Decimal:
        """What the venue holds of BTCUSDT."""
        return next((held.net for held in self.account.fetch_positions() if held.symbol == "BTCUSDT"), Decimal(0))

    def booked(self) -> Decimal:
        """What the books hold of BTCUSDT."""
        held = self.store.list_open_positions()
        return sum((each.quantity if each.side is Side.LONG else -each.quantity for each in held), Decimal(0))

    def check_books(self) -> None:
        """Every fill at the venue is in the books once, with its price and fee, and both hold the same."""
        (account,) = self.exchange._accounts.values()
        number = self.simulated.order_number
        there = sorted((str(number(f.order)), f.quantity, f.price, f.commission) for f in account.fills)
        assert self.fills() == there
        assert self.booked() == self.net()

    def fills(self) -> list[tuple[str, Decimal, Decimal, Decimal]]:
        rows = self.sql("select order_id, quantity, price, fee_usd from fills where not is_paper order by order_id")
        return sorted((row[0], row[1], row[2], row[3]) for row in rows)

    sql: Sql = field(repr=False, default=lambda *_: [])
    simulated: Simulated = ASTER
    settings: Settings = field(repr=False, default_factory=Settings)
    venues: Venues | None = field(repr=False, default=None)
    wait_limits: WaitLimits = field(repr=False, default=PATIENT)

    def start_anew(self) -> None:
        """As after the server was killed: another one, which remembers nothing, runs beside signals."""
        assert self.venues is not None
        self.server = build(self.settings, self.store, self.venues, SystemClock(), wait_limits=self.wait_limits)

    def build_another(self, lease_owner: str | None = None) -> WebhookServer:
        """Another server on the same books and venue, with clients of its own. Shut its `workers` down."""
        settings = Settings(sparky_market=self.simulated.name, sparky_market_url=self.venue_url)
        venues = VenueRegistry(settings, timeout_s=VENUE_TIMEOUT_S)
        return build(Settings(), self.store, venues, SystemClock(), lease_owner, self.wait_limits)


@pytest.fixture
def make_exchange() -> type[SimulatedVenue]:
    """What the venue is; a test may have one of its own."""
    return SimulatedVenue


@pytest.fixture
def simulated() -> Simulated:
    """Which venue it is; a directory or a test may name another one."""
    return VENUES["aster"]


@pytest.fixture
def wait_limits() -> WaitLimits:
    """How long signals wait; a test may choose other limits."""
    return PATIENT


@pytest.fixture
def floor(
    make_exchange: type[SimulatedVenue], simulated: Simulated, store: Store, sql: Sql, wait_limits: WaitLimits
) -> Iterator[Floor]:
    hands, series = Hands(), flat_then_rising()
    clock = MarketClock(START_MS + 105 * MINUTE_MS, 1.0, series.end_ms, hands)
    exchange = make_exchange({"BTCUSDT": Market(series)}, clock, meter=WeightMeter(monotonic=hands))
    venue = HttpService(simulated.app(exchange), "127.0.0.1", 0, "SPARKY_TEST_PORT", simulated.health)
    venue.start()
    market = Settings(sparky_market=simulated.name, sparky_market_url=venue.url)
    venues = VenueRegistry(market, quote_age_s=0, timeout_s=VENUE_TIMEOUT_S)
    server = build(Settings(), store, venues, SystemClock(), wait_limits=wait_limits)
    http = HttpService(server.app, "127.0.0.1", 0, "SPARKY_WEBHOOK_PORT", "/health")
    http.start()
    user_id, secret = store.ensure_user("trader@example.org"), generate_webhook_secret()
    store.set_webhook_secret(user_id, secret)
    store.put_credentials(user_id, simulated.name, dict(simulated.keys))
    credentials = store.get_venue_credentials(user_id, simulated.name)
    assert credentials is not None
    account = venues.live(simulated.name, credentials)
    yield Floor(
        http.url,
        server,
        store,
        exchange,
        venue.url,
        account,
        user_id,
        secret,
        hands,
        sql,
        simulated,
        venues=venues,
        wait_limits=wait_limits,
    )
    http.stop(5)
    server.workers.shutdown()
    venue.stop(1)
