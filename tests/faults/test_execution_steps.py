"""Killed at every step of a signal's way, just before it takes effect and just after, on real processes.

A gate in the database (a trigger that waits for an advisory lock) holds a step open while its process is killed. Then
either the database's side is ended as well, and the step never happened, or it may go on, and the step happened but
its process never knew. Steps at the venue are held open by the simulated Aster itself.
"""

import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import psycopg
import pytest
import requests

from engine.store.embedded import dsn
from engine.store.store import Store
from tests.faults.test_execution_crash import (
    SETTLED_S,
    all_settled,
    check_books,
    check_signals,
    named,
    people,
    record,
)
from tests.support.sparky import Sparky

LOCK = 77
GATE = """
create or replace function public.gate() returns trigger language plpgsql security definer as $$
begin
  perform set_config('application_name', coalesce(to_jsonb(new) ->> 'ai_strategy_id', ''), false);
  perform pg_advisory_xact_lock_shared({lock});
  return new;
end $$;
create trigger gate before {event} on public.{table} for each row when ({condition}) execute function public.gate();
"""
WAITING = "select pid from pg_locks where locktype = 'advisory' and objid = %s and not granted"


class Step(NamedTuple):
    """What the database does at this step, and whose work it is."""

    event: str
    table: str
    condition: str
    victim: str


STEPS = {
    "claim": Step("update", "signal_outbox", "old.lease_owner is null and new.lease_owner is not null", "dispatcher"),
    "send": Step("insert", "webhook_requests", "true", "dispatcher"),
    "receive": Step("insert", "webhook_requests", "true", "webhook"),
    "submit": Step("update", "webhook_requests", "new.status = 'submitted' and old.status <> new.status", "webhook"),
    "book": Step("insert", "fills", "true", "webhook"),
    "answer": Step("update", "webhook_requests", "new.status = 'booked' and old.status <> new.status", "webhook"),
    "settle": Step("update", "signal_outbox", "old.status = 'pending' and new.status <> old.status", "dispatcher"),
}
VENUE_STEPS: dict[str, dict[str, object]] = {
    "before the venue accepts": {"kind": "hang", "path": "/order", "method": "POST"},
    "after the venue accepted": {"kind": "hang", "path": "/order", "method": "POST", "accept": True},
}


@pytest.fixture
def product() -> Iterator[Sparky]:
    root = Path(tempfile.mkdtemp(prefix="sparky-flt-", dir="/tmp"))
    made = Sparky(root / "home", SPARKY_SIM_SPEED="1", SPARKY_MARK_INTERVAL_S="1")
    try:
        made.start("--no-demo")
        made.wait_for(lambda: named(made, "roster"), "Sparky being up")
        yield made
    finally:
        made.close()
        shutil.rmtree(root, ignore_errors=True)


def control(product: Sparky, what: str, body: object) -> None:
    """Tells the simulated venue how to behave."""
    url = f"http://127.0.0.1:{product.environ['SPARKY_SIM_ASTER_PORT']}/_control/{what}"
    requests.post(url, json=body, timeout=10).raise_for_status()


@contextmanager
def gate_at(product: Sparky, step: Step) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """While entered, whoever comes to `step` waits."""
    with psycopg.connect(dsn(product.home), autocommit=True) as connection:
        connection.execute(f"select pg_advisory_lock({LOCK})")
        connection.execute(
            GATE.format(lock=LOCK, event=step.event, table=step.table, condition=step.condition).encode()
        )
        try:
            yield connection
        finally:
            connection.execute(f"select pg_advisory_unlock({LOCK})")
            connection.execute(f"drop trigger gate on public.{step.table}".encode())


def kill(product: Sparky, name: str) -> None:
    victim = named(product, name)
    assert victim is not None
    victim.kill()
    victim.wait(10)


def kill_at(product: Sparky, step: Step, *, takes_effect: bool) -> None:
    """Kills who has come to `step`; then the step is undone, or done without anybody knowing."""
    with gate_at(product, step) as connection:
        waiting = product.wait_for(
            lambda: connection.execute(WAITING, [LOCK]).fetchall(), f"somebody at {step.table} {step.event}"
        )
        kill(product, step.victim)
        if not takes_effect:
            for (pid,) in waiting:
                connection.execute("select pg_terminate_backend(%s)", [pid])


@pytest.mark.parametrize("takes_effect", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("names", [("claim", "send", "settle"), ("receive", "submit"), ("book", "answer")])
def test_a_kill_at_any_step_loses_no_signal_and_doubles_none(
    product: Sparky, names: tuple[str, ...], measured: Callable[[str], None], *, takes_effect: bool
) -> None:
    control(product, "market", {"weight_per_minute": 0})
    dice, rounds = random.Random(3), 3
    with product.store() as store:
        _, strategies = people(store)
        for name in names * rounds:
            for strategy_id in strategies[:4]:
                record(store, strategy_id, dice)
            kill_at(product, STEPS[name], takes_effect=takes_effect)
            settled(product, store)
        check(product, store, 4 * rounds * len(names))
    measured(f"killed {'after' if takes_effect else 'before'} {', '.join(names)}, {rounds} times each: books agree")


def test_a_kill_while_the_venue_answers_loses_no_order_and_doubles_none(
    product: Sparky, measured: Callable[[str], None]
) -> None:
    control(product, "market", {"weight_per_minute": 0})
    dice, count = random.Random(4), 0
    with product.store() as store:
        _, strategies = people(store)
        for fault in [*VENUE_STEPS.values()] * 3:
            control(product, "faults", [fault | {"times": 1}])
            count += enter(store, strategies[0], dice)
            product.wait_for(lambda: requested(product), "an order on its way")
            time.sleep(0.3)  # the order leaves a moment after its row is written; either side of it is a fair moment
            kill(product, "webhook")
            settled(product, store)
        check(product, store, count)
    measured("killed while the venue held its answer, 6 times: books equal the venue's record")


def test_a_kill_before_a_late_fill_is_known_books_it_once(product: Sparky) -> None:
    control(product, "market", {"weight_per_minute": 0})
    dice, count = random.Random(5), 0
    with product.store() as store:
        _, strategies = people(store)
        for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
            control(product, "market", {"symbol": symbol, "fill_delay_s": 1.0})
        for _ in range(3):
            count += enter(store, strategies[0], dice)
            product.wait_for(lambda: requested(product), "an order on its way")
            time.sleep(0.5)  # accepted, and not yet filled
            kill(product, "webhook")
            settled(product, store)
        check(product, store, count)


def test_a_strategy_killed_at_its_record_loses_no_decision_and_doubles_none(product: Sparky) -> None:
    """Real strategies: what the database kept of a decision has its signal, and nothing has two."""
    step = Step("insert", "ai_trade_log", "true", "")
    with product.store() as store:
        _, strategies = people(store)
        quick = {str(strategies[-1]), str(strategies[-2])}
        with psycopg.connect(dsn(product.home), autocommit=True) as connection:
            connection.execute("update ai_strategies set cadence_seconds = 1 where id::text = any(%s)", [list(quick)])
        for takes_effect in (True, False, True, False):
            with gate_at(product, step) as connection:
                waiting = product.wait_for(lambda: connection.execute(WAITING, [LOCK]).fetchall(), "a decision")
                kill(product, name_of(connection, waiting[0][0], store))
                if not takes_effect:
                    connection.execute("select pg_terminate_backend(%s)", [waiting[0][0]])
        for strategy_id in strategies:
            store.pause_strategy(strategy_id, "the test is over")
        settled(product, store)
        check_signals(store, len(store.signals(limit=10_000)))
        unpaired = """
          select id from ai_trade_log where suppressed is null and signal_action <> 'HOLD'
          and id not in (select id from signal_outbox)"""
        with psycopg.connect(dsn(product.home)) as connection:
            assert connection.execute(unpaired).fetchall() == []


def name_of(connection: psycopg.Connection[tuple[object, ...]], pid: object, store: Store) -> str:
    found = connection.execute("select application_name from pg_stat_activity where pid = %s", [pid]).fetchone()
    assert found is not None
    row = store.get_strategy(UUID(str(found[0])))
    assert row is not None
    return row.name


def enter(store: Store, strategy_id: UUID, dice: random.Random) -> int:
    """One signal that surely becomes an order: after an entry its opposite, which closes and enters."""
    before = len(store.signals(limit=10_000))
    while True:
        record(store, strategy_id, dice)
        rows = store.signals(limit=10_000)
        if rows[0].action != "CLOSE":
            return len(rows) - before


def requested(product: Sparky) -> bool:
    with psycopg.connect(dsn(product.home)) as connection:
        row = connection.execute("select count(*) from webhook_requests where status = 'submitted'").fetchone()
    return row is not None and bool(row[0])


def settled(product: Sparky, store: Store) -> None:
    product.wait_for(lambda: all_settled(store), "every signal and request having ended", SETTLED_S)


def check(product: Sparky, store: Store, count: int) -> None:
    check_signals(store, count)
    check_books(product, store, least=1)
