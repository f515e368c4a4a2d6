"""The database's interface on every way to it: PostgreSQL, a pooler in front of it, and Supabase's API."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from engine.platform.settings.settings import Settings
from engine.store.store import Store, open_store
from tests.support.factories.keys import ENCRYPTION_KEY
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
