"""One embedded PostgreSQL for the whole session, a fresh migrated database for every test that asks for one, and
properties that are tried on the same examples in every run."""

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psycopg
import pytest

from engine.store.embedded.embedded_postgres import EmbeddedPostgres, build_dsn, get_data_dir
from engine.store.schema.migrate import migrate, read_migrations
from engine.store.store import Store, open_store
from engine.store.transport.postgres import PostgresRpc
from engine.venues.ccxt_client.request_weight import get_shared_limiter
from tests.support.clients.sql import Sql, as_owner
from tests.support.factories.keys import vault
from tests.support.processes.directories import short_directory
from tests.support.servers.forwarder import Forwarder
from tests.support.servers.supabase import PROBES, SupabaseServer, install_or_skip

TEMPLATE = "migrated"
PROJECT = "supabase"
DAY_S, NEAR_S = 86_400, 120
_numbers = itertools.count(1)

# Every run tries the same examples, however busy the machine is: a change that breaks something fails at once, and what
# is right never fails by chance. For a search, run `pytest --hypothesis-profile=search`, or `make fuzz`.
_PATIENT = hypothesis.settings(
    deadline=None,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
)
hypothesis.settings.register_profile("same", _PATIENT, derandomize=True)
hypothesis.settings.register_profile("search", _PATIENT, derandomize=False, print_blob=True)
hypothesis.settings.load_profile("same")


# `make quick` runs what needs no PostgreSQL, no process, no server and no sockets, and is no search by examples
# (hypothesis). `transport` chooses a database only when it is asked for one.
SLOW_FIXTURES = {
    *("postgres_home", "transport", "fleet_of", "fleet", "serve", "stage", "peers", "open_venue", "play", "server"),
}
SLOW_IMPORTS = {
    *("subprocess", "multiprocessing", "EmbeddedPostgres", "HttpService", "Supervised", "Sparky", "GroqDouble"),
    *("receiving", "Running", "RuleBasedStateMachine", "given", "zmq", "LocalPeers"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # One worker has Supabase's server, which takes seconds to start (`--dist loadgroup`).
        callspec = getattr(item, "callspec", None)
        is_chosen = callspec is not None and callspec.params.get("transport") == "supabase"
        if is_chosen or {"supabase", "supabase_session"}.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group("supabase"))
        if isinstance(item, pytest.Function) and not (
            SLOW_FIXTURES.intersection(item.fixturenames) or SLOW_IMPORTS.intersection(vars(item.module))
        ):
            item.add_marker(pytest.mark.quick)


@pytest.fixture(autouse=True)
def _no_memory_of_other_venues() -> None:
    """A simulated venue may stand at a port that another test's had: what the process knows of that one's limits, and
    with them of its list, is forgotten."""
    get_shared_limiter.cache_clear()


@pytest.fixture
def one_day() -> None:
    """Lets midnight UTC pass first when it is near: what is added up by day must not be cut in two by it."""
    left_s = DAY_S - time.time() % DAY_S
    if left_s < NEAR_S:
        time.sleep(left_s + 0.1)


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """Where a supervisor's run directory shall be made."""
    with short_directory() as home:
        yield home / "run"


@pytest.fixture(scope="session")
def postgres_home() -> Iterator[Path]:
    """State directory of a running embedded server that holds the migrated template database."""
    with short_directory() as home:
        # Durability is of no use to a database that the tests throw away.
        server = EmbeddedPostgres(home, {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"})
        try:
            server.start()
            with psycopg.connect(build_dsn(home, "postgres"), autocommit=True) as connection:
                connection.execute(f"create database {TEMPLATE}")
            migrate(build_dsn(home, TEMPLATE))
            yield home
        finally:
            server.stop()


def _fresh(home: Path, template: str) -> Iterator[str]:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(build_dsn(home, "postgres"), autocommit=True) as connection:
        connection.execute(f"create database {name} template {template} strategy file_copy")
        yield build_dsn(home, name)
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture
def postgres_database_url(postgres_home: Path) -> Iterator[str]:
    """DSN of a fresh, migrated, empty database on plain PostgreSQL."""
    yield from _fresh(postgres_home, TEMPLATE)


@pytest.fixture
def database_url(postgres_database_url: str) -> str:
    """DSN of a fresh, migrated, empty database."""
    return postgres_database_url


@pytest.fixture
def empty_database_url(postgres_home: Path) -> Iterator[str]:
    """DSN of a fresh database without any schema of ours."""
    yield from _fresh(postgres_home, "template0")


@pytest.fixture
def sql(database_url: str) -> Iterator[Sql]:
    """Statements on `database_url` as its owner."""
    with as_owner(database_url) as run:
        yield run


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store on `database_url`, keeping its connections."""
    with Store(PostgresRpc(database_url, keep=True), vault()) as opened:
        yield opened


class Project:
    """A Supabase project: the API server, and the database behind it as the project's owner sees it."""

    def __init__(self, server: SupabaseServer, door: Forwarder, home: Path) -> None:
        self.server = server
        self.database_url = build_dsn(home, PROJECT)
        self._door = door
        self._home = home

    def renew(self) -> None:
        """An empty, migrated database in place of the one that was there; the server has found it when this returns."""
        self._door.cut()
        with psycopg.connect(build_dsn(self._home, "postgres"), autocommit=True) as connection:
            connection.execute(f"drop database if exists {PROJECT} with (force)")
            connection.execute(f"create database {PROJECT} template {PROJECT}_template strategy file_copy")
        self.server.await_database()


def _as_left_by_the_migrations(address: str) -> None:
    """@supabase/lite grants every table to people at the first request; Supabase does before migrations come."""
    with psycopg.connect(address, autocommit=True) as connection:
        for migration in read_migrations():
            connection.execute(migration.text.encode())


@pytest.fixture(scope="session")
def supabase_session(postgres_home: Path) -> Iterator[Project]:
    """The project of this session, made as people make one: Supabase's own schemas first, our migrations on top."""
    program = install_or_skip()
    with psycopg.connect(build_dsn(postgres_home, "postgres"), autocommit=True) as connection:
        connection.execute(f"create database {PROJECT}")
    with (
        Forwarder(get_data_dir(postgres_home) / ".s.PGSQL.5432") as door,
        SupabaseServer(program, f"postgres://postgres@127.0.0.1:{door.port}/{PROJECT}") as server,
    ):
        project = Project(server, door, postgres_home)
        migrate(project.database_url)
        with psycopg.connect(project.database_url, autocommit=True) as connection:
            connection.execute(PROBES)
        with open_store(server.settings, keep=False) as first_to_ask:
            first_to_ask.get_database_health()
        _as_left_by_the_migrations(project.database_url)
        door.cut()
        with psycopg.connect(build_dsn(postgres_home, "postgres"), autocommit=True) as connection:
            connection.execute(f"alter database {PROJECT} rename to {PROJECT}_template")
        project.renew()
        yield project


@pytest.fixture
def supabase(supabase_session: Project) -> Project:
    """A project with an empty, migrated database."""
    supabase_session.renew()
    return supabase_session
