"""The transport: values as the functions want them, failures named by what to do, no connection kept unasked."""

import gc
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from pydantic import SecretStr

from engine.platform.errors import ConfigurationError, UpstreamUnavailable
from engine.platform.settings.settings import Settings
from engine.store.embedded.embedded_postgres import build_dsn
from engine.store.store import Store, open_store
from engine.store.transport.postgres import POOL_SIZE, PostgresRpc
from tests.support.clients.sql import Sql
from tests.support.servers.ports import free_port


@pytest.fixture(params=[True, False], ids=["keep", "per-call"])
def rpc(database_url: str, request: pytest.FixtureRequest) -> Iterator[PostgresRpc]:
    made = PostgresRpc(SecretStr(database_url), timeout_s=60, keep=request.param)
    yield made
    made.close()


PROBES = """
create function echo(p_text text, p_number numeric, p_flag boolean, p_id uuid, p_at timestamptz, p_json jsonb)
  returns jsonb language sql as $$ select jsonb_build_array(p_text, p_number, p_flag, p_id, p_at, p_json) $$;
create function nap(p_s float) returns jsonb
  language sql as $$ select to_jsonb(pg_sleep(p_s)::text) $$;
create function hang_up() returns jsonb
  language sql as $$ select to_jsonb(pg_terminate_backend(pg_backend_pid())) $$;
create function fail(p_state text) returns jsonb
  language plpgsql as $$ begin raise exception 'it is so' using errcode = p_state; end $$;
create function pid() returns jsonb
  language sql as $$ select to_jsonb(pg_backend_pid()) $$;
"""


@pytest.fixture(autouse=True)
def probes(database_url: str) -> None:
    """Functions that do what ours never should."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(PROBES)


def test_values_arrive_as_the_function_declares_them(rpc: PostgresRpc) -> None:
    at, someone = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), UUID(int=7)

    answer = rpc.call(
        "echo", text="42", number=Decimal("0.12345678"), flag=False, id=someone, at=at, json={"a": [1, 2.5, None]}
    )

    assert answer[:4] == ["42", Decimal("0.12345678"), False, str(someone)]
    assert datetime.fromisoformat(answer[4]) == at
    assert answer[5] == {"a": [1, Decimal("2.5"), None]}
    assert rpc.call("echo", text=None, number=7, flag=None, id=None, at=None, json=None) == [None, 7, *[None] * 4]


@pytest.mark.parametrize("state", ["53300", "40P01", "40001", "25006", "53100", "57P03", "55P03", "XX000"])
def test_what_may_pass_by_itself_is_unavailability(rpc: PostgresRpc, state: str) -> None:
    with pytest.raises(UpstreamUnavailable, match=r"^database: it is so$"):
        rpc.call("fail", state=state)


@pytest.mark.parametrize("state", ["SK404", "22003", "23514", "42501", "28000"])
def test_what_a_person_must_mend_is_bad_configuration(rpc: PostgresRpc, state: str) -> None:
    with pytest.raises(ConfigurationError, match="it is so"):
        rpc.call("fail", state=state)


def test_a_missing_function_says_to_migrate(rpc: PostgresRpc) -> None:
    with pytest.raises(ConfigurationError, match="run `sparky migrate`"):
        rpc.call("no_such_function", a=1)


def connected(database_url: str) -> PostgresRpc:
    """Its connection stands, and waits patiently for the server's own timeout on a busy machine."""
    made = PostgresRpc(database_url, timeout_s=120, keep=True)
    made.call("pid")
    return made


def test_a_statement_that_takes_too_long_is_given_up(database_url: str) -> None:
    rpc = connected(database_url)
    rpc._timeout_s = 0.2

    with pytest.raises(UpstreamUnavailable, match="statement timeout"):
        rpc.call("nap", s=600)


def test_a_lock_held_by_another_is_given_up(database_url: str, sql: Sql) -> None:
    rpc = connected(database_url)
    with psycopg.connect(database_url) as other, Store(rpc) as store:
        other.execute("lock table auth.users")
        rpc._timeout_s = 0.3

        with pytest.raises(UpstreamUnavailable, match="statement timeout"):
            store.ensure_user("someone@example.org")


def test_a_connection_lost_in_mid_call_is_unavailability_and_the_next_call_connects_anew(rpc: PostgresRpc) -> None:
    with pytest.raises(UpstreamUnavailable):
        rpc.call("hang_up")

    assert isinstance(rpc.call("pid"), int)


def test_a_kept_connection_that_the_server_ended_meanwhile_is_replaced(database_url: str, sql: Sql) -> None:
    rpc = PostgresRpc(database_url, keep=True)
    pid = rpc.call("pid")
    assert rpc.call("pid") == pid

    sql("select pg_terminate_backend(%s, 120000)", pid)

    assert rpc.call("pid") != pid
    rpc.close()


def test_without_keep_no_connection_remains(database_url: str, sql: Sql) -> None:
    with Store(PostgresRpc(database_url)) as store:
        store.count_pending_signals()
        others = (  # without autovacuum's workers, which come when they want to
            "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() "
            "and backend_type = 'client backend'"
        )
        for (pid,) in sql(others):
            sql("select pg_terminate_backend(%s, 120000)", pid)  # the backend may be on its way out; wait for it
        assert sql(others) == []


def test_connections_leave_nothing_behind_in_this_process(database_url: str) -> None:
    with Store(PostgresRpc(database_url)) as store:
        store.count_pending_signals()
        before = classes()
        for _ in range(3):
            store.count_pending_signals()
        assert classes() == before


def classes() -> int:
    """How many of the driver's there are: other threads of this process may be importing something."""
    gc.collect()
    ours = [
        one for one in gc.get_objects() if isinstance(one, type) and "psycopg" in str(getattr(one, "__module__", ""))
    ]
    return len(ours)


def test_threads_share_a_bounded_number_of_connections(database_url: str) -> None:
    rpc = PostgresRpc(database_url, keep=True)

    with ThreadPoolExecutor(24) as pool:
        pids = set(pool.map(lambda _: rpc.call("pid"), range(200)))

    assert 1 <= len(pids) <= POOL_SIZE
    rpc.close()


def test_when_all_connections_are_busy_a_caller_gives_up(database_url: str) -> None:
    rpc = PostgresRpc(database_url, timeout_s=0.5, keep=True)
    for _ in range(POOL_SIZE):
        rpc._slots.acquire()

    with pytest.raises(UpstreamUnavailable, match="busy"):
        rpc.call("pid")


def test_a_server_that_accepts_and_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        rpc = PostgresRpc(f"postgresql://u:hidden@127.0.0.1:{port}/x", timeout_s=2)

        with pytest.raises(UpstreamUnavailable) as caught:
            rpc.call("pid")

    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("this is no address", "not a PostgreSQL connection string"),
        ("postgresql://u:hidden@127.0.0.1:notaport/x", "not a PostgreSQL connection string"),
    ],
)
def test_a_malformed_address_is_bad_configuration_and_never_shown(address: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        PostgresRpc(address).call("pid")

    assert "hidden" not in str(caught.value)


def test_a_missing_database_or_role_is_bad_configuration(postgres_home: Path) -> None:
    with pytest.raises(ConfigurationError, match='database "nowhere" does not exist'):
        PostgresRpc(build_dsn(postgres_home, "nowhere")).call("pid")
    with pytest.raises(ConfigurationError, match='role "nobody" does not exist'):
        PostgresRpc(build_dsn(postgres_home, "migrated").replace("postgres@", "nobody@")).call("pid")


def test_a_refused_connection_is_unavailability() -> None:
    with pytest.raises(UpstreamUnavailable, match="refused"):
        PostgresRpc(f"postgresql://127.0.0.1:{free_port()}/x").call("pid")


def test_a_store_opens_on_the_named_database(database_url: str) -> None:
    with open_store(Settings(database_url=SecretStr(database_url)), keep=False) as store:
        assert store.count_pending_signals() == 0
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        open_store(Settings(), keep=False)
