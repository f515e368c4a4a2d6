"""A database behind PgBouncer in transaction mode: every transaction may run on another server connection, which
strangers use before and after it and which nobody resets."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from engine.platform.errors import ConfigurationError, UpstreamUnavailable
from engine.store.schema.migrate import get_migration_status, migrate, read_migrations
from engine.store.transport.postgres import PostgresRpc
from tests.support.clients.sql import Sql, as_owner
from tests.support.servers.pgbouncer import PgBouncer, pgbouncer

MakePooler = Callable[..., PgBouncer]
EVERYTHING = tuple(migration.name for migration in read_migrations())
PROBES = """
create function public.pid() returns jsonb language sql as $$ select to_jsonb(pg_backend_pid()) $$;
create function public.nap(p_s float) returns jsonb language sql as $$ select to_jsonb(pg_sleep(p_s)::text) $$;
create function public.fail(p_state text) returns jsonb
  language plpgsql as $$ begin raise exception 'it is so' using errcode = p_state; end $$;
create function public.hang_up() returns jsonb
  language sql as $$ select to_jsonb(pg_terminate_backend(pg_backend_pid())) $$;
"""
# What a session may keep: settings (but for those that a pooler itself carries from client to client), locks, plans,
# subscriptions, tables.
LEFTOVERS = """
select 'setting ' || name from pg_settings where source = 'session'
  and name not in ('application_name', 'client_encoding', 'DateStyle', 'TimeZone', 'standard_conforming_strings')
union all select 'lock ' || locktype from pg_locks where locktype = 'advisory'
union all select 'plan ' || name from pg_prepared_statements
union all select 'channel ' || channel from pg_listening_channels() channel
union all select 'table ' || relname from pg_class where relpersistence = 't'
"""


@pytest.fixture
def pooler_with(postgres_home: Path) -> Iterator[MakePooler]:
    """Starts a PgBouncer with these options; all that were started are ended."""
    with ExitStack() as stack:

        def make(**options: str) -> PgBouncer:
            return stack.enter_context(pgbouncer(postgres_home, **options))

        yield make


@pytest.fixture
def probed(database_url: str, sql: Sql) -> str:
    sql(PROBES)
    return database_url


def leftovers(address: str) -> list[str]:
    """Found by a stranger who gets the pool's one server connection next."""
    with as_owner(address) as run:
        return [row[0] for row in run(LEFTOVERS)]


@pytest.mark.parametrize("size", ["1", "2"])
def test_migrating_twice_through_a_pool_leaves_nothing_on_its_connections(
    pooler_with: MakePooler, empty_database_url: str, size: str
) -> None:
    pooler = pooler_with(default_pool_size=size)
    address = pooler.dsn(empty_database_url)

    assert migrate(address) == EVERYTHING
    assert leftovers(address) == []
    assert migrate(address) == ()
    assert get_migration_status(address).pending == ()
    assert leftovers(address) == []


def test_two_who_migrate_through_a_pool_at_once_apply_each_migration_once(
    pooler_with: MakePooler, empty_database_url: str
) -> None:
    address = pooler_with(default_pool_size="2").dsn(empty_database_url)
    barrier = threading.Barrier(3)

    def run(_: int) -> tuple[str, ...]:
        barrier.wait(300)
        return migrate(address)

    with ThreadPoolExecutor(3) as pool:
        applied = list(pool.map(run, range(3)))

    assert sorted(name for names in applied for name in names) == sorted(EVERYTHING)
    assert leftovers(address) == []


@pytest.mark.parametrize("kept", ["keep", "per-call"])
def test_a_call_through_a_pool_leaves_nothing_to_the_next_client(
    pooler_with: MakePooler, probed: str, kept: str
) -> None:
    address = pooler_with().dsn(probed)
    rpc = PostgresRpc(address, keep=kept == "keep")

    mine = rpc.call("pid")

    with as_owner(address) as stranger:
        assert stranger("select pg_backend_pid()") == [(mine,)]
        assert stranger("show statement_timeout") == [("0",)]
    assert leftovers(address) == []
    rpc.close()


@pytest.mark.parametrize("kept", ["keep", "per-call"])
def test_a_call_that_fails_leaves_the_pools_connection_in_order(
    pooler_with: MakePooler, probed: str, kept: str
) -> None:
    rpc = PostgresRpc(pooler_with().dsn(probed), keep=kept == "keep")
    mine = rpc.call("pid")

    with pytest.raises(ConfigurationError, match="it is so"):
        rpc.call("fail", state="23514")
    with pytest.raises(UpstreamUnavailable, match="it is so"):
        rpc.call("fail", state="40001")

    assert rpc.call("pid") == mine
    rpc.close()


def test_a_call_through_a_pool_is_bounded_by_its_own_time(pooler_with: MakePooler, probed: str) -> None:
    rpc = PostgresRpc(pooler_with().dsn(probed), timeout_s=5, keep=True)
    rpc.call("pid")

    with pytest.raises(UpstreamUnavailable, match=r"statement timeout|no answer within"):
        rpc.call("nap", s=600)
    rpc.close()


def test_many_threads_share_two_server_connections(pooler_with: MakePooler, probed: str) -> None:
    rpc = PostgresRpc(pooler_with(default_pool_size="2").dsn(probed), timeout_s=60, keep=True)

    with ThreadPoolExecutor(16) as pool:
        pids = set(pool.map(lambda _: rpc.call("pid"), range(300)))

    assert 1 <= len(pids) <= 2
    rpc.close()


@pytest.mark.parametrize("kept", ["keep", "per-call"])
def test_a_pooler_that_was_restarted_serves_again(pooler_with: MakePooler, probed: str, kept: str) -> None:
    pooler = pooler_with()
    rpc = PostgresRpc(pooler.dsn(probed), keep=kept == "keep")
    rpc.call("pid")

    pooler.kill()
    with pytest.raises(UpstreamUnavailable):
        rpc.call("pid")
    pooler.start()

    assert isinstance(rpc.call("pid"), int)
    rpc.close()


def test_a_pooler_killed_amid_a_call_is_unavailability(pooler_with: MakePooler, probed: str, sql: Sql) -> None:
    pooler = pooler_with()
    rpc = PostgresRpc(pooler.dsn(probed), timeout_s=60, keep=True)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(rpc.call, "nap", s=60)
        await_query(sql, "nap")
        pooler.kill()
        with pytest.raises(UpstreamUnavailable):
            call.result(60)
    pooler.start()

    assert isinstance(rpc.call("pid"), int)
    rpc.close()


def test_a_server_connection_lost_amid_a_call_is_unavailability(pooler_with: MakePooler, probed: str) -> None:
    rpc = PostgresRpc(pooler_with().dsn(probed), keep=True)
    mine = rpc.call("pid")

    with pytest.raises(UpstreamUnavailable):
        rpc.call("hang_up")

    assert rpc.call("pid") != mine
    rpc.close()


@pytest.mark.parametrize("query_wait_timeout", ["1", "120"])
def test_a_pool_that_is_full_is_unavailability_within_the_calls_own_time(
    pooler_with: MakePooler, probed: str, query_wait_timeout: str
) -> None:
    address = pooler_with(query_wait_timeout=query_wait_timeout).dsn(probed)
    rpc = PostgresRpc(address, timeout_s=10, keep=True)
    rpc.call("pid")
    waited = threading.Event()
    with psycopg.connect(address) as holder:
        holder.execute("select 1")  # in a transaction: the pool's only server connection is taken

        def give_up() -> None:
            waited.set()
            holder.cancel()

        late = threading.Timer(110, give_up)
        late.start()
        with pytest.raises(UpstreamUnavailable):
            rpc.call("pid")
        late.cancel()
    assert not waited.is_set()

    assert isinstance(rpc.call("pid"), int)
    rpc.close()


def test_a_pooler_that_takes_no_more_clients_is_unavailability(pooler_with: MakePooler, probed: str) -> None:
    address = pooler_with(max_client_conn="1").dsn(probed)
    rpc = PostgresRpc(address)
    with psycopg.connect(address), pytest.raises(UpstreamUnavailable):
        rpc.call("pid")


def await_query(sql: Sql, text: str) -> None:
    """Returns when some session of this database runs a statement that holds `text`."""
    while not sql(
        "select 1 from pg_stat_activity where state = 'active' and datname = current_database() "
        "and pid <> pg_backend_pid() and query like %s",
        f"%{text}%",
    ):
        pass
