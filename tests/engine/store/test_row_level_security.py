"""Who may do what, tried as each role on real tables: people with their JWT's claims, anon, the service role."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from uuid import UUID

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege
from pydantic import SecretStr

from engine.store.store import Store
from engine.types import Action

from .conftest import Desk, Sql

TABLES = (
    "ai_strategies",
    "ai_trade_log",
    "bot_credentials",
    "fills",
    "llm_spend",
    "positions",
    "signal_attempts",
    "signal_outbox",
    "strategy_ledger",
    "trade_settings_exchange",
    "trades",
    "webhook_requests",
)
READABLE = {"ai_strategies", "ai_trade_log", "positions", "trades", "trade_settings_exchange"}

Connection = psycopg.Connection[tuple[object, ...]]
AsRole = Callable[[str, UUID | None], AbstractContextManager[Connection]]


@pytest.fixture
def as_role(database_url: str) -> AsRole:
    """A connection that acts as PostgREST does: the role, and the claims of the caller's token."""

    @contextmanager
    def connected(role: str, user_id: UUID | None = None) -> Iterator[Connection]:
        with psycopg.connect(database_url, autocommit=True) as connection:
            claims = json.dumps({"sub": str(user_id), "role": role}) if user_id else ""
            connection.execute("select set_config('request.jwt.claims', %s, false)", [claims])
            connection.execute(f"set role {role}".encode())
            yield connection

    return connected


@pytest.fixture
def traded(desk: Desk, store: Store, sql: Sql) -> Desk:
    """A row in every table."""
    strategy = desk.strategy()
    store.set_webhook_secret(desk.user_id, SecretStr("whsec_x"))
    desk.decide(strategy.id, Action.LONG)
    (signal,) = store.claim_signals("a", 1, 30)
    sql("insert into signal_attempts (signal_id, attempt, outcome) values (%s, 1, 'retry')", signal.id)
    desk.fill("open", "100", "2", strategy_id=strategy.id)
    desk.fill("close", "100", "1", strategy_id=strategy.id)
    sql("insert into trade_settings_exchange (user_id, exchange) values (%s, 'aster')", desk.user_id)
    return desk


def _count(connection: Connection, table: str) -> int:
    return len(connection.execute(f"select 1 from public.{table}".encode()).fetchall())  # noqa: S608 - our own tables


def test_the_matrix_names_every_table(sql: Sql) -> None:
    secured = sql("select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'")

    assert {row[0] for row in secured} == {*TABLES, "sparky_migrations"}
    assert (
        sql(
            "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' "
            "and not relrowsecurity"
        )
        == []
    )


def test_the_service_role_reads_everything_and_anon_nothing(traded: Desk, as_role: AsRole) -> None:
    with as_role("service_role", None) as service, as_role("anon", None) as anon:
        for table in TABLES:
            assert _count(service, table) >= 1
            with pytest.raises(InsufficientPrivilege):
                _count(anon, table)


def test_people_read_their_own_rows_only(traded: Desk, store: Store, as_role: AsRole) -> None:
    stranger = store.ensure_user("stranger@example.org")

    for user_id, rows in ((traded.user_id, 1), (stranger, 0)):
        with as_role("authenticated", user_id) as connection:
            for table in READABLE:
                assert _count(connection, table) == rows
            assert len(connection.execute("select id, label from bot_credentials").fetchall()) == rows
            for table in set(TABLES) - READABLE:
                with pytest.raises(InsufficientPrivilege):
                    connection.execute(f"select * from public.{table}".encode())  # noqa: S608 - our own tables


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_nobody_deletes(traded: Desk, as_role: AsRole, role: str) -> None:
    with as_role(role, traded.user_id) as connection:
        for table in TABLES:
            with pytest.raises(InsufficientPrivilege):
                connection.execute(f"delete from public.{table}".encode())  # noqa: S608 - our own tables


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_records_are_written_by_the_service_alone(traded: Desk, as_role: AsRole, role: str) -> None:
    columns = {"llm_spend": "day", "strategy_ledger": "is_paper", "signal_attempts": "reason"}
    with as_role(role, traded.user_id) as connection:
        for table in sorted(set(TABLES) - {"ai_strategies", "trade_settings_exchange", "bot_credentials"}):
            column = columns.get(table, "user_id")
            with pytest.raises(InsufficientPrivilege):
                connection.execute(f"insert into public.{table} default values".encode())
            with pytest.raises(InsufficientPrivilege):
                connection.execute(f"update public.{table} set {column} = {column}".encode())  # noqa: S608 - our own


def test_people_manage_their_own_strategies_only(traded: Desk, store: Store, as_role: AsRole) -> None:
    stranger = store.ensure_user("stranger@example.org")

    with as_role("authenticated", traded.user_id) as connection:
        assert connection.execute("update ai_strategies set status = 'paused', name = 'mine'").rowcount == 1
        connection.execute("insert into ai_strategies (user_id, name) values (%s, 'second')", [traded.user_id])
        with pytest.raises(InsufficientPrivilege):
            connection.execute("insert into ai_strategies (user_id, name) values (%s, 'gift')", [stranger])
    with as_role("authenticated", stranger) as connection:
        assert connection.execute("update ai_strategies set status = 'running'").rowcount == 0
    assert {row.name: row.status for row in store.list_strategies()} == {"mine": "paused", "second": "paused"}


@pytest.mark.parametrize(
    "change",
    [
        "performance_fee_percent = 0",
        "user_id = gen_random_uuid()",
        "paused_reason = 'nothing to see'",
        "paused_at = null",
        "created_at = now()",
        "id = gen_random_uuid()",
    ],
)
def test_people_cannot_forge(traded: Desk, as_role: AsRole, change: str) -> None:
    with as_role("authenticated", traded.user_id) as connection, pytest.raises(InsufficientPrivilege):
        connection.execute(f"update ai_strategies set {change}".encode())  # noqa: S608 - written above


def test_people_write_their_credentials_and_never_read_them(traded: Desk, store: Store, as_role: AsRole) -> None:
    stranger = store.ensure_user("stranger@example.org")
    add = "insert into bot_credentials (user_id, exchange, api_key) values (%s, 'aster', 'k')"

    with as_role("authenticated", traded.user_id) as connection:
        connection.execute(add.encode(), [traded.user_id])
        connection.execute("update bot_credentials set api_secret = 's' where exchange = 'aster'")
        with pytest.raises(InsufficientPrivilege):
            connection.execute(add.encode(), [stranger])
        with pytest.raises(InsufficientPrivilege):
            connection.execute("update bot_credentials set label = api_secret")
    found = store.venue_credentials(traded.user_id, "aster")
    assert found is not None
    assert found.api_secret == SecretStr("s")


def test_the_functions_belong_to_the_service_role_alone(sql: Sql) -> None:
    functions = "from pg_proc p where p.pronamespace = 'public'::regnamespace"

    for role in ("anon", "authenticated"):
        assert sql(f"select proname {functions} and has_function_privilege('{role}', p.oid, 'execute')") == []
    assert sql(f"select proname {functions} and not has_function_privilege('service_role', p.oid, 'execute')") == []


def test_every_function_pins_its_search_path(sql: Sql) -> None:
    unpinned = sql(
        "select proname from pg_proc where pronamespace = 'public'::regnamespace "
        "and not coalesce(proconfig @> array['search_path=\"\"'], false)"
    )

    assert unpinned == []


def test_the_service_role_runs_the_functions(traded: Desk, as_role: AsRole) -> None:
    with as_role("service_role", None) as connection:
        (found,) = connection.execute("select running_strategies(), strategy_overview()").fetchall()

    assert all(isinstance(value, list) and len(value) == 1 for value in found)
