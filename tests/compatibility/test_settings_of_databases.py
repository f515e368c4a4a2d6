"""Settings that an administrator gave to a role or a database, or that libpq reads from the environment, change neither
what the schema becomes nor what a call answers."""

import threading
from decimal import Decimal
from uuid import uuid4

import psycopg
import pytest

from engine.admin.strategy_checks import NewStrategy
from engine.domain.decision import Action
from engine.domain.strategy import StrategyStatus
from engine.platform.errors import ConfigurationError, UpstreamUnavailable
from engine.store.cycles import DecisionRecord
from engine.store.schema.migrate import migrate, read_migrations
from engine.store.store import Store
from engine.store.transport.postgres import PostgresRpc
from tests.support.clients.sql import Sql, as_owner
from tests.support.factories.signals import new_signal

EVERYTHING = tuple(migration.name for migration in read_migrations())
SETTINGS = [
    ("standard_conforming_strings", "off"),
    ("statement_timeout", "'1s'"),
    ("lock_timeout", "'1ms'"),
    ("idle_in_transaction_session_timeout", "'1ms'"),
    ("transaction_timeout", "'1s'"),
    ("default_transaction_isolation", "'serializable'"),
    ("default_transaction_isolation", "'repeatable read'"),
    ("datestyle", "'German, DMY'"),
    ("intervalstyle", "'sql_standard'"),
    ("timezone", "'Asia/Kolkata'"),
    ("search_path", "'nowhere'"),
    ("bytea_output", "'escape'"),
    ("extra_float_digits", "'-5'"),
    ("transform_null_equals", "on"),
    ("row_security", "off"),
    ("check_function_bodies", "off"),
    ("plpgsql.extra_errors", "'all'"),
]


def give(database_url: str, name: str, value: str) -> None:
    with as_owner(database_url) as sql:
        if not sql("select 1 from pg_settings where lower(name) = %s", name) and "." not in name:
            pytest.skip(f"this PostgreSQL has no {name}")
        (database,) = sql("select current_database()")[0]
        sql(f"alter database {database} set {name} = {value}")


@pytest.mark.parametrize(("name", "value"), SETTINGS)
def test_a_setting_of_the_database_changes_neither_its_schema_nor_an_answer(
    empty_database_url: str, name: str, value: str
) -> None:
    give(empty_database_url, name, value)

    assert migrate(empty_database_url) == EVERYTHING
    assert migrate(empty_database_url) == ()
    assert a_story(empty_database_url) == (
        ["careful {2.0}"],
        [("LONG", 0.123, "pending")],
        True,
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PGOPTIONS", "-c statement_timeout=9s -c standard_conforming_strings=off -c search_path=nowhere"),
        ("PGOPTIONS", "-c default_transaction_isolation=serializable -c timezone=America/St_Johns"),
        ("PGDATESTYLE", "German, DMY"),
        ("PGTZ", "Asia/Kolkata"),
        ("PGAPPNAME", "somebody-else"),
        ("PGDATABASE", "nowhere"),
        ("PGHOST", "/nowhere"),
    ],
)
def test_what_libpq_reads_from_the_environment_changes_no_answer(
    database_url: str, sql: Sql, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql(
        "create function public.shown_limit() returns jsonb language sql as "
        "$$ select to_jsonb(current_setting('statement_timeout')) $$"
    )
    monkeypatch.setenv(variable, value)

    assert PostgresRpc(database_url, timeout_s=50).call("shown_limit") == "50s"
    assert a_story(database_url) == (["careful {2.0}"], [("LONG", 0.123, "pending")], True)


def test_two_calls_that_change_one_row_at_once_both_succeed_where_transactions_are_serializable(
    database_url: str, sql: Sql
) -> None:
    sql("create table public.counted (n int); insert into public.counted values (0)")
    sql(
        "create function public.count_one() returns jsonb language sql as "
        "$$ update public.counted set n = n + 1 returning to_jsonb(n) $$"
    )
    give(database_url, "default_transaction_isolation", "'serializable'")
    rpc = PostgresRpc(database_url, keep=True, timeout_s=300)
    with psycopg.connect(database_url) as other:
        other.execute("update public.counted set n = n + 1")
        done: list[object] = []
        call = threading.Thread(target=lambda: done.append(rpc.call("count_one")))
        call.start()
        while not sql("select 1 from pg_stat_activity where wait_event_type = 'Lock' and query ~ 'count_one'"):
            pass
        other.commit()
        call.join(300)

    assert done == [2]
    rpc.close()


def test_a_failure_to_serialize_may_pass_by_itself(database_url: str, sql: Sql) -> None:
    sql(
        "create function public.fail(p_state text) returns jsonb language plpgsql as "
        "$$ begin raise exception 'it is so' using errcode = p_state; end $$"
    )
    for state in ("40001", "40P01"):
        with pytest.raises(UpstreamUnavailable):
            PostgresRpc(database_url).call("fail", state=state)


def a_story(database_url: str) -> tuple[list[str], list[tuple[str | None, float | None, str]], bool]:
    """Names of strategies, decisions with their signals, and whether a name of hidden letters is refused."""
    with Store(PostgresRpc(database_url, keep=True, timeout_s=60)) as store:
        user_id = store.ensure_user("one@example.org")
        new = NewStrategy(user_id=user_id, name="careful {2.0}", status=StrategyStatus.RUNNING)
        strategy = store.create_strategy(new)
        record = DecisionRecord(action=Action.LONG, symbol="BTCUSDT", size_usd=Decimal(100), confidence=0.123)
        decision_id = uuid4()
        signal = new_signal(user_id, strategy.id, decision_id)
        store.record_decision(decision_id, strategy.id, record, signal)
        decisions = [
            (row.signal_action, row.confidence_score, signals.status)
            for row, signals in zip(store.list_decisions(), store.list_signals(), strict=True)
        ]
        names = [row.name for row in store.list_strategies()]
        hidden = new.model_dump(mode="json") | {"name": "hid\u200bden"}
        try:
            store.rpc.call("create_strategy", strategy=hidden)
        except ConfigurationError:
            return names, decisions, True
    return names, decisions, False
