"""One embedded PostgreSQL for the whole session, and a fresh migrated database for every test that asks for one."""

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from engine.store.embedded import Embedded, dsn
from engine.store.migrate import migrate
from engine.store.postgres import PostgresRpc
from engine.store.store import Store

TEMPLATE = "migrated"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_home() -> Iterator[Path]:
    """State directory of a running embedded server that holds the migrated template database."""
    home = Path(tempfile.mkdtemp(prefix="sparky-test-", dir="/tmp"))  # a socket path must be short
    # Durability is of no use to a database that the tests throw away.
    server = Embedded(home, {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"})
    try:
        server.start()
        with psycopg.connect(dsn(home, "postgres"), autocommit=True) as connection:
            connection.execute(f"create database {TEMPLATE}")
        migrate(dsn(home, TEMPLATE))
        yield home
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


def _fresh(home: Path, template: str) -> Iterator[str]:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(dsn(home, "postgres"), autocommit=True) as connection:
        connection.execute(f"create database {name} template {template} strategy file_copy")
        yield dsn(home, name)
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture
def database_url(postgres_home: Path) -> Iterator[str]:
    """DSN of a fresh, migrated, empty database."""
    yield from _fresh(postgres_home, TEMPLATE)


@pytest.fixture
def empty_database_url(postgres_home: Path) -> Iterator[str]:
    """DSN of a fresh database without any schema of ours."""
    yield from _fresh(postgres_home, "template0")


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store on `database_url`, keeping its connections."""
    with Store(PostgresRpc(database_url, keep=True)) as opened:
        yield opened
