"""A strategy to work with, and short ways to say what the tests do to it."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from engine.domain.decision import Action
from engine.domain.positions import Side
from engine.domain.signal import SignalAction
from engine.domain.strategy import StrategyStatus
from engine.platform.settings.settings import Settings
from engine.store.admin_rows import NewStrategy, StrategyRow
from engine.store.cycles import DecisionRecord, RecordedDecision
from engine.store.store import Store, open_store
from engine.store.webhook_rows import BookedFill, Fill
from tests.support.factories.keys import ENCRYPTION_KEY
from tests.support.factories.signals import new_signal
from tests.support.servers.pgbouncer import PgBouncer, pgbouncer

# What the store promises is promised on every transport.
CONTRACT = {
    "test_booking",
    "test_cycles",
    "test_engine_lease",
    "test_outbox",
    "test_admin_store",
    "test_webhook_store",
    "test_signal_payloads",
    "test_credentials",
    "test_demo_data",
    "test_texts",
}

# A pool changes how a call travels and not what it does: these are enough of each kind of call.
POOLED = {"test_cycles", "test_engine_lease", "test_outbox"}

ACTION = {Action.LONG: SignalAction.BUY, Action.SHORT: SignalAction.SELL, Action.CLOSE: SignalAction.CLOSE}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of the contract run on PostgreSQL and on Supabase's API, and those of `POOLED` through a pool as well."""
    name = metafunc.module.__name__.rpartition(".")[2]
    if name in CONTRACT and "store" in metafunc.fixturenames:
        pooler = ["pooler"] if name in POOLED else []
        metafunc.parametrize("transport", ["postgres", *pooler, "supabase"], indirect=True)


@pytest.fixture
def transport(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", "postgres"))


@pytest.fixture
def database_url(transport: str, request: pytest.FixtureRequest) -> str:
    """DSN of a fresh, migrated, empty database, whatever the store's way to it."""
    if transport == "supabase":
        return str(request.getfixturevalue("supabase").database_url)
    return str(request.getfixturevalue("postgres_database_url"))


@pytest.fixture(scope="session")
def transaction_pooler(postgres_home: Path) -> Iterator[PgBouncer]:
    """A PgBouncer in transaction mode with two server connections for each database."""
    with pgbouncer(postgres_home, default_pool_size="2", server_idle_timeout="2") as pooler:
        yield pooler


@pytest.fixture
def store(transport: str, database_url: str, request: pytest.FixtureRequest) -> Iterator[Store]:
    """A store on `database_url`, keeping its connections."""
    if transport == "supabase":
        settings = request.getfixturevalue("supabase").server.settings
    elif transport == "pooler":
        pooled = request.getfixturevalue("transaction_pooler").dsn(database_url)
        settings = Settings(database_url=SecretStr(pooled))
    else:
        settings = Settings(database_url=SecretStr(database_url))
    sealing = settings.model_copy(update={"sparky_encryption_key": ENCRYPTION_KEY})
    with open_store(sealing, keep=True) as opened:
        yield opened


class Desk:
    """One user with strategies, and the verbs of their life."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.user_id = store.ensure_user("trader@example.org")
        self._fills = 0

    def strategy(self, name: str = "one", **values: object) -> StrategyRow:
        fields = {"user_id": self.user_id, "name": name, "status": StrategyStatus.RUNNING, **values}
        return self.store.create_strategy(NewStrategy.from_input(fields))

    def decide(
        self,
        strategy_id: UUID,
        action: Action = Action.LONG,
        symbol: str = "BTCUSDT",
        *,
        ttl_s: float = 60,
        decision_id: UUID | None = None,
        cost_usd: Decimal = Decimal("0.0001"),
    ) -> RecordedDecision:
        size = Decimal("123.45")
        record = DecisionRecord(action=action, symbol=symbol, size_usd=size, confidence=0.7, cost_usd=cost_usd)
        decision_id, signal = decision_id or uuid4(), None
        if action is not Action.HOLD:
            signal = new_signal(
                self.user_id, strategy_id, decision_id, ACTION[action], symbol=symbol, size_usd=size, ttl_s=ttl_s
            )
        return self.store.record_decision(decision_id, strategy_id, record, signal)

    def begin(self, request_id: str, strategy_id: UUID | None = None, fingerprint: str = "f") -> str:
        began = self.store.begin_execution(
            None,
            request_id,
            self.user_id,
            strategy_id,
            "aster",
            "BTCUSDT",
            "BUY",
            fingerprint,
            {"size": 1},
            is_paper=True,
        )
        return began.state

    def fill(
        self,
        kind: str,
        price: str,
        quantity: str = "1",
        *,
        side: Side = Side.LONG,
        fee: str = "0",
        strategy_id: UUID | None = None,
        symbol: str = "BTCUSDT",
        is_paper: bool = True,
        request_id: str | None = None,
    ) -> BookedFill:
        """Begins a request and books its one fill."""
        self._fills += 1
        request_id = request_id or f"request-{self._fills}"
        self.begin(request_id, strategy_id)
        fill = Fill.model_validate(
            {
                "kind": kind,
                "exchange": "aster",
                "symbol": symbol,
                "side": side,
                "quantity": Decimal(quantity),
                "price": Decimal(price),
                "fee_usd": Decimal(fee),
                "is_paper": is_paper,
                "strategy_id": strategy_id,
            }
        )
        return self.store.book_fill(request_id, self.user_id, fill, 200, {"success": True})


@pytest.fixture
def desk(store: Store) -> Desk:
    return Desk(store)
