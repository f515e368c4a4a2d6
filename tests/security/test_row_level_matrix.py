"""Who may do what: every table, every role, every verb, one's own row and another's, on a real PostgreSQL.

The database is made as a Supabase project is: every new table, function and sequence is open to anon and authenticated
by default, before our migrations come. Callers act as PostgREST lets them: `set role`, and the claims of their token.
"""
# ruff: noqa: S608 - every statement is put together from names that stand in this file

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import UUID

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege
from pydantic import SecretStr

from engine.admin.strategy_checks import NewStrategy
from engine.store.embedded.embedded_postgres import build_dsn
from engine.store.schema.migrate import migrate
from engine.store.store import Store
from engine.store.transport.postgres import PostgresRpc
from tests.support.factories.keys import vault

Connection = psycopg.Connection[tuple[object, ...]]

# Supabase's own defaults for the schema public; the roles are there, they belong to the whole server.
DEFAULTS: Final = """
alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
alter default privileges in schema public grant all on sequences to anon, authenticated, service_role;
"""

# table: (a column to update, what authenticated may do with its own row)
READ: Final = frozenset({"select"})
MANAGE: Final = frozenset({"select", "insert", "update"})
TABLES: Final = {
    "ai_strategies": ("name", MANAGE),
    "ai_trade_log": ("reasoning", READ),
    "bot_credentials": ("label", frozenset({"insert", "update"})),  # and select of its harmless columns
    "equity_points": ("drawdown_percent", frozenset()),
    "fills": ("order_id", frozenset()),
    "funding_payments": ("reason", frozenset()),
    "funding_reads": ("updated_at", frozenset()),
    "kill_switches": ("reason", frozenset()),
    "leases": ("owner", frozenset()),
    "liquidation_costs": ("booked_at", frozenset()),
    "llm_spend": ("decisions", frozenset()),
    "outside_holdings": ("noted_at", frozenset()),
    "paper_funding_reads": ("updated_at", frozenset()),
    "positions": ("notes", READ),
    "reconciliation_differences": ("symbol", frozenset()),
    "signal_attempts": ("reason", frozenset()),
    "signal_outbox": ("last_reason", frozenset()),
    "sparky_migrations": ("checksum", frozenset()),
    "strategy_ledger": ("updated_at", frozenset()),
    "trade_settings_exchange": ("max_trades_per_week", MANAGE),
    "trades": ("notes", READ),
    "venue_records": ("updated_at", frozenset()),
    "webhook_requests": ("error_message", frozenset()),
}
OWNED_BY: Final = {
    "equity_points": "strategy_id",
    "leases": None,
    "strategy_ledger": "strategy_id",
    "llm_spend": "strategy_id",
    "signal_attempts": "signal_id",
    "sparky_migrations": None,
}
VERBS: Final = ("select", "insert", "update", "delete")
INSERTS: Final = {
    "ai_strategies": "(user_id, name) values (%(user)s, 'mine')",
    "bot_credentials": "(user_id, exchange, environment, api_key) values (%(user)s, 'bybit', gen_random_uuid(), 'k')",
    "trade_settings_exchange": "(user_id, exchange) values (%(user)s, gen_random_uuid()::text)",
}
OWNERS: Final = """
insert into public.trade_settings_exchange (user_id, exchange) values (%(user)s, 'aster');
insert into public.ai_trade_log (id, ai_strategy_id, user_id, decision_json)
  values (%(log)s, %(strategy)s, %(user)s, '{}');
insert into public.strategy_ledger (strategy_id, is_paper) values (%(strategy)s, true);
insert into public.llm_spend (strategy_id, day) values (%(strategy)s, '2026-01-01');
insert into public.positions (user_id, exchange, symbol, side, entry_price, quantity, strategy_id)
  values (%(user)s, 'aster', 'BTCUSDT', 'LONG', 1, 1, %(strategy)s);
insert into public.trades (user_id, exchange, symbol, side, entry_price, entry_time, exit_price, quantity, pnl_usd)
  values (%(user)s, 'aster', 'BTCUSDT', 'LONG', 1, now(), 1, 1, 0);
insert into public.fills
  (user_id, request_id, kind, exchange, symbol, side, quantity, price, fee_usd, leverage, is_paper)
  values (%(user)s, 'r', 'open', 'aster', 'BTCUSDT', 'LONG', 1, 1, 0, 1, true);
insert into public.webhook_requests (user_id, request_id, status) values (%(user)s, 'r', 'booked');
insert into public.signal_outbox (id, user_id, strategy_id, exchange, symbol, action, payload, expires_at)
  values (%(log)s, %(user)s, %(strategy)s, 'aster', 'BTCUSDT', 'BUY', '{}', now());
insert into public.signal_attempts (signal_id, attempt, outcome) values (%(log)s, 1, 'retry');
insert into public.leases (name, owner, until) values (%(log)s, 'a server', now());
insert into public.kill_switches (user_id) values (%(user)s);
insert into public.reconciliation_differences (user_id, exchange, symbol, booked, at_venue)
  values (%(user)s, 'aster', 'BTCUSDT', 1, 2);
insert into public.venue_records (user_id, exchange, symbol, last_trade_id) values (%(user)s, 'aster', 'BTCUSDT', 1);
insert into public.liquidation_costs (user_id, exchange, symbol, income_id) values (%(user)s, 'aster', 'BTCUSDT', '1');
insert into public.funding_payments (user_id, exchange, symbol, is_paper, income_id, position_id, at_ms, amount_usd)
  values (%(user)s, 'aster', 'BTCUSDT', false, '1', gen_random_uuid(), 1, 1);
insert into public.funding_reads (user_id, exchange, read_ms) values (%(user)s, 'aster', 1);
insert into public.paper_funding_reads (user_id, exchange, symbol, read_ms) values (%(user)s, 'aster', 'BTCUSDT', 1);
insert into public.outside_holdings (user_id, exchange, symbol, quantity) values (%(user)s, 'aster', 'BTCUSDT', 1);
insert into public.equity_points
  (strategy_id, is_paper, equity_usd, realized_pnl_usd, unrealized_pnl_usd, drawdown_percent)
  values (%(strategy)s, true, 1, 0, 0, 0);
"""


class Project:
    """A migrated project with two people who have a row in every table."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.keys: dict[UUID, dict[str, object]] = {}
        with Store(PostgresRpc(address, keep=True), vault()) as store:
            self.owner, self.stranger = (self._person(store, name) for name in ("owner", "stranger"))

    def _person(self, store: Store, name: str) -> UUID:
        user = store.ensure_user(f"{name}@example.org")
        store.put_credentials(user, "aster", {"api_key": SecretStr("key"), "private_key": SecretStr("private")})
        store.set_webhook_secret(user, SecretStr(f"whsec_{name}"))
        strategy = store.create_strategy(NewStrategy.from_input({"user_id": user, "name": name})).id
        with psycopg.connect(self.address, autocommit=True) as connection:
            (log,) = connection.execute("select gen_random_uuid()").fetchone() or ()
            for statement in OWNERS.strip().rstrip(";").split(";\n"):
                connection.execute(statement.encode(), {"user": user, "strategy": strategy, "log": log})
        self.keys[user] = {"user_id": user, "strategy_id": strategy, "signal_id": log}
        return user

    def row(self, table: str, user: UUID) -> str:
        """The condition that finds the rows of `user`, whoever asks."""
        column = OWNED_BY.get(table, "user_id")
        return "true" if column is None else f"{column} = '{self.keys[user][column]}'"

    @contextmanager
    def acting(self, role: str, user: UUID | None = None) -> Iterator[Connection]:
        """As a request of PostgREST: the role and the claims of the token; what it does is undone."""
        claims = {"role": role} if user is None else {"role": role, "sub": str(user), "aud": "authenticated"}
        with psycopg.connect(self.address) as connection:
            connection.execute("select set_config('request.jwt.claims', %s, true)", [json.dumps(claims)])
            connection.execute(f"set local role {role}".encode())
            yield connection
            connection.rollback()


@pytest.fixture(scope="module")
def project(postgres_home: Path) -> Iterator[Project]:
    with psycopg.connect(build_dsn(postgres_home, "postgres"), autocommit=True) as connection:
        connection.execute("create database matrix template template0")
    address = build_dsn(postgres_home, "matrix")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(DEFAULTS)
    migrate(address)
    yield Project(address)
    with psycopg.connect(build_dsn(postgres_home, "postgres"), autocommit=True) as connection:
        connection.execute("drop database matrix with (force)")


def attempt(connection: Connection, verb: str, table: str, condition: str, user: UUID) -> str:
    """``denied``, ``nothing`` when no row was seen or touched, or ``done``."""
    column = TABLES[table][0]
    insert = INSERTS.get(table, "default values")
    statement = {
        "select": f"select * from public.{table} where {condition}",
        "insert": f"insert into public.{table} {insert}",
        "update": f"update public.{table} set {column} = {column} where {condition}",
        "delete": f"delete from public.{table} where {condition}",
    }[verb]
    try:
        with connection.transaction():
            found = connection.execute(statement.encode(), {"user": user})
    except InsufficientPrivilege:
        return "denied"
    except psycopg.errors.NotNullViolation:
        return "done"  # the door was open; only the row was none
    return "done" if found.rowcount else "nothing"


def test_the_matrix_names_every_table(project: Project) -> None:
    with psycopg.connect(project.address) as connection:
        found = connection.execute(
            "select relname, relrowsecurity from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'"
        ).fetchall()

    assert dict(found) == dict.fromkeys(TABLES, True)


@pytest.mark.parametrize("table", TABLES)
def test_anon_may_nothing(project: Project, table: str) -> None:
    with project.acting("anon") as connection:
        ends = {verb: attempt(connection, verb, table, "true", project.owner) for verb in VERBS}

    assert ends == dict.fromkeys(VERBS, "denied")


@pytest.mark.parametrize("table", TABLES)
def test_people_may_what_the_table_says_with_their_own_row_and_nothing_with_anothers(
    project: Project, table: str
) -> None:
    own, other = project.row(table, project.owner), project.row(table, project.stranger)
    allowed = TABLES[table][1]
    with project.acting("authenticated", project.owner) as connection:
        mine = {verb: attempt(connection, verb, table, own, project.owner) for verb in VERBS}
        theirs = {verb: attempt(connection, verb, table, other, project.stranger) for verb in VERBS}

    assert mine == {verb: "done" if verb in allowed else "denied" for verb in VERBS}
    assert theirs == {verb: "nothing" if verb in allowed and verb != "insert" else "denied" for verb in VERBS}


@pytest.mark.parametrize("table", sorted(set(TABLES) - {"sparky_migrations"}))
def test_the_service_role_may_everything_with_everybodys_rows(project: Project, table: str) -> None:
    for user in (project.owner, project.stranger):
        with project.acting("service_role") as connection:
            ends = {verb: attempt(connection, verb, table, project.row(table, user), user) for verb in VERBS}
        assert ends == dict.fromkeys(VERBS, "done")


def test_a_token_without_a_person_is_nobody(project: Project) -> None:
    with project.acting("authenticated") as connection:
        for table, (_, allowed) in TABLES.items():
            if "select" in allowed:
                assert attempt(connection, "select", table, "true", project.owner) == "nothing"


def test_secrets_are_read_by_nobody_not_even_their_owner(project: Project) -> None:
    secrets = ("api_key", "api_secret", "passphrase", "webhook_secret", "webhook_secret_sha256", "extra_metadata")
    with project.acting("authenticated", project.owner) as connection:
        assert len(connection.execute("select id, exchange, last_tested from public.bot_credentials").fetchall()) == 2
        for column in secrets:
            for statement in (
                f"select {column} from public.bot_credentials",
                f"select 1 from public.bot_credentials where {column} is not null",
                f"update public.bot_credentials set label = {column}",
                f"update public.bot_credentials set label = 'x' returning {column}",
            ):
                with pytest.raises(InsufficientPrivilege), connection.transaction():
                    connection.execute(statement.encode())


@pytest.mark.parametrize(
    "change",
    [
        "performance_fee_percent = 0",
        "user_id = gen_random_uuid()",
        "is_prop_allocation = true",
        "paused_reason = 'nothing to see'",
        "paused_at = null",
        "paused_traceback = 'x'",
        "running_since = now()",
        "created_at = now()",
        "updated_at = now()",
        "id = gen_random_uuid()",
    ],
)
def test_what_people_may_not_forge(project: Project, change: str) -> None:
    with project.acting("authenticated", project.owner) as connection, pytest.raises(InsufficientPrivilege):
        connection.execute(f"update public.ai_strategies set {change}".encode())


def test_people_set_the_entry_rules_of_their_strategies_and_of_no_others(project: Project) -> None:
    rules = "stop_loss_required, max_entry_percent, adding, min_stop_loss_percent"
    change = f"update public.ai_strategies set ({rules}) = (false, 10, 'always', 0.5) where user_id = %s"
    insert = f"insert into public.ai_strategies (user_id, name, {rules}) values (%s, 'x', true, 10, 'never', 0.5)"
    with project.acting("authenticated", project.owner) as connection:
        assert connection.execute(change.encode(), [project.owner]).rowcount == 1
        assert connection.execute(change.encode(), [project.stranger]).rowcount == 0
        assert connection.execute(insert.encode(), [project.owner]).rowcount == 1


@pytest.mark.parametrize("column", ["performance_fee_percent", "is_prop_allocation", "paused_reason", "id"])
def test_what_people_may_not_begin_with(project: Project, column: str) -> None:
    insert = f"insert into public.ai_strategies (user_id, name, {column}) values (%s, 'x', default)"
    with project.acting("authenticated", project.owner) as connection, pytest.raises(InsufficientPrivilege):
        connection.execute(insert.encode(), [project.owner])


@pytest.mark.parametrize("column", ["performance_fee_percent = 0", "paused_reason = 'x'", "running_since = now()"])
def test_whole_tables_granted_by_somebody_open_no_way_to_forge_or_to_others_rows(project: Project, column: str) -> None:
    """As recipes say: grant all on all tables in schema public to anon, authenticated."""
    with psycopg.connect(project.address) as connection:
        connection.execute("grant all on all tables in schema public to anon, authenticated")
        connection.execute(
            "select set_config('request.jwt.claims', %s, true)", [json.dumps({"sub": str(project.owner)})]
        )
        connection.execute("set local role authenticated")
        with pytest.raises(InsufficientPrivilege), connection.transaction():
            connection.execute(f"update public.ai_strategies set {column}".encode())
        assert connection.execute("update public.ai_strategies set status = 'running'").rowcount == 1
        for table in TABLES:
            other = project.row(table, project.stranger) if OWNED_BY.get(table, "user_id") else "true"
            assert attempt(connection, "select", table, other, project.stranger) == "nothing"
        connection.execute("set local role anon")
        for table in TABLES:
            assert attempt(connection, "select", table, "true", project.owner) == "nothing"
        connection.rollback()


def test_people_pause_resume_edit_and_end_their_strategies_and_what_has_ended_stays_so(project: Project) -> None:
    change = "update public.ai_strategies set status = %s, custom_prompt = 'be careful' where user_id = %s"
    with project.acting("authenticated", project.owner) as connection:
        for status in ("running", "paused", "running", "terminated"):
            assert connection.execute(change.encode(), [status, project.owner]).rowcount == 1
        assert connection.execute(change.encode(), ["running", project.owner]).rowcount == 0


def test_every_function_is_the_service_roles_alone_or_nobodys_and_pins_its_search_path(project: Project) -> None:
    with psycopg.connect(project.address) as connection:
        found = connection.execute(
            "select proname, coalesce(proconfig @> array['search_path=\"\"'], false), "
            "has_function_privilege('anon', oid, 'execute'), has_function_privilege('authenticated', oid, 'execute'), "
            "has_function_privilege('service_role', oid, 'execute') "
            "from pg_proc where pronamespace = 'public'::regnamespace"
        ).fetchall()

    assert len(found) > 50
    # What checks no engine is called by the function that does, which is its owner's.
    wrong = [row for row in found if row[1:] != (True, False, False, not row[0].endswith("_unchecked"))]
    assert wrong == []


def test_no_sequence_is_open_to_people(project: Project) -> None:
    with psycopg.connect(project.address) as connection:
        found = connection.execute(
            "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'S' "
            "and (has_sequence_privilege('anon', oid, 'usage, update, select') "
            "or has_sequence_privilege('authenticated', oid, 'usage, update, select'))"
        ).fetchall()

    assert found == []


def test_the_service_role_runs_the_functions(project: Project) -> None:
    with project.acting("service_role") as connection:
        (found,) = connection.execute("select running_strategies(), strategy_overview(), health()").fetchall()

    assert found[0] == []
    assert isinstance(found[1], list)
    assert len(found[1]) == 2
