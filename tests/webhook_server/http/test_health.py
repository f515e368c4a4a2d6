"""Health is 503 where the server cannot trade or the engine makes no decisions, whatever else cannot be read."""

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import requests

from engine.domain.decision import Action
from engine.store.cycles import DecisionRecord
from tests.support.clients.sql import Sql
from tests.webhook_server.conftest import Site
from webhook_server.http.health import classify_engine

ODD_RECORDS = {
    "columns of others": ["create table supabase_migrations.schema_migrations (id int)"],
    "a view that fails": [
        "create view supabase_migrations.schema_migrations as select '1' as version, (1 / 0)::text as name"
    ],
    "a sequence of that name": ["create sequence supabase_migrations.schema_migrations"],
    "another type": ["create table supabase_migrations.schema_migrations (version bytea, name jsonb)"],
    "nothing in it": [],
}


@pytest.fixture
def schema_of_others(sql: Sql) -> Iterator[None]:
    """The schema in which `supabase db push` keeps its record."""
    sql("create schema supabase_migrations")
    yield
    sql("drop schema supabase_migrations cascade")


@pytest.mark.usefixtures("schema_of_others")
@pytest.mark.parametrize("record", ODD_RECORDS.values(), ids=ODD_RECORDS.keys())
def test_a_record_of_migrations_that_cannot_be_read_is_no_illness(site: Site, sql: Sql, record: list[str]) -> None:
    for statement in record:
        sql(statement)

    assert requests.get(f"{site.url}/health", timeout=60).status_code == 200


@pytest.mark.usefixtures("schema_of_others")
def test_a_schema_that_may_not_be_entered_is_no_illness(site: Site, sql: Sql) -> None:
    sql("create role odd_owner_of_health")
    try:
        sql("create table supabase_migrations.schema_migrations (version text, name text)")
        sql("grant all on schema public to odd_owner_of_health")
        sql("grant select on public.sparky_migrations to odd_owner_of_health")
        sql("alter function public.health() owner to odd_owner_of_health")
        sql("alter function public.migration_names(boolean) owner to odd_owner_of_health")

        assert requests.get(f"{site.url}/health", timeout=60).status_code == 200
    finally:
        sql("alter function public.health() owner to postgres")
        sql("alter function public.migration_names(boolean) owner to postgres")
        sql("drop owned by odd_owner_of_health")
        sql("drop role odd_owner_of_health")


@pytest.mark.usefixtures("schema_of_others")
def test_a_record_of_our_own_that_cannot_be_read_is_no_illness(site: Site, sql: Sql) -> None:
    sql("alter table public.sparky_migrations rename column name to label")
    try:
        assert requests.get(f"{site.url}/health", timeout=60).status_code == 200
    finally:
        sql("alter table public.sparky_migrations rename column label to name")


@pytest.mark.usefixtures("schema_of_others")
def test_a_database_that_only_reads_is_an_illness(site: Site, sql: Sql) -> None:
    (name,) = sql("select current_database()")[0]
    sql(f"alter database {name} set default_transaction_read_only = on")
    end_connections = "select pg_terminate_backend(pid, 60000) from pg_stat_activity where application_name = 'sparky'"
    sql(end_connections)  # and waits until they are gone
    try:
        answer = requests.get(f"{site.url}/health", timeout=60)
        assert (answer.status_code, answer.json()["apiStatus"]) == (503, "database is read-only")
    finally:
        sql("set default_transaction_read_only = off")
        sql(f"alter database {name} reset default_transaction_read_only")
        sql(end_connections)


def test_health_is_ok_while_the_database_answers(site: Site) -> None:
    answer = requests.get(f"{site.url}/health", timeout=60)
    assert answer.status_code == 200
    assert set(answer.json()) == {"status", "uptime", "uptimeFormatted", "apiStatus", "openPositions", "timestamp"}
    assert answer.json()["status"] == "ok"


def test_health_tells_no_number_of_positions_that_it_has_not_counted_lately(site: Site) -> None:
    fresh = requests.get(f"{site.url}/health", timeout=60)
    assert (fresh.status_code, fresh.json()["openPositions"]) == (200, None)
    site.server.mark_to_market.run_once()
    assert requests.get(f"{site.url}/health", timeout=60).json()["openPositions"] == 0
    site.server.metrics.last_mark.set(time.time() - 3_600)
    assert requests.get(f"{site.url}/health", timeout=60).json()["openPositions"] is None


def test_a_last_decision_at_a_moment_that_python_lacks_is_no_missing_one(site: Site) -> None:
    strategy = site.strategy()
    site.store.record_decision(uuid.uuid4(), strategy, DecisionRecord(action=Action.HOLD), None)
    site.sql("update ai_trade_log set created_at = 'infinity'")
    answer = requests.get(f"{site.url}/health/ai-worker", timeout=60)
    assert (answer.status_code, answer.json()["status"]) == (503, "unknown")


def test_the_engines_health_knows_idle_and_waiting(site: Site) -> None:
    idle = requests.get(f"{site.url}/health/ai-worker", timeout=60)
    assert (idle.status_code, idle.json()["status"], idle.json()["activeStrategies"]) == (200, "idle", 0)
    site.strategy()
    waiting = requests.get(f"{site.url}/health/ai-worker", timeout=60).json()
    assert (waiting["status"], waiting["activeStrategies"], waiting["lastCycle"]) == ("waiting", 1, None)
    assert waiting["metrics"] == {"signalsPending": 0}


@pytest.mark.parametrize(("silence_s", "status"), [(0, "ok"), (194, "ok"), (196, "stalled")])
def test_the_engine_is_stalled_after_three_of_its_slowest_cadences(silence_s: float, status: str) -> None:
    now = datetime.now(UTC)
    assert classify_engine(now, now - timedelta(seconds=silence_s), [10, 45]) == status
    assert classify_engine(now, now - timedelta(days=1), []) == "idle"
