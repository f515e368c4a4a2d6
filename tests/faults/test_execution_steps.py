"""Killed at every step of a signal's way, just before it takes effect and just after, on real processes.

A gate in the database (a trigger that waits for an advisory lock) holds a step open while its process is killed. Then
either the database's side is ended as well, and the step never happened, or it may go on, and the step happened but
its process never knew. Steps at the venue are held open by the simulated Aster itself. FAULT_SEED chooses the signals.
"""

import os
import random
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import NamedTuple
from uuid import UUID

import psycopg
import pytest

from engine.domain.signal import SignalAction
from engine.store.embedded.embedded_postgres import build_dsn
from engine.store.store import Store
from engine.venues.live.ccxt_venue import CcxtVenue
from tests.support.clients.book_checks import check_books
from tests.support.clients.trading import SYMBOLS, all_settled, check_signals, people, record
from tests.support.processes.sparky import Sparky, command_lines

SEED = int(os.environ.get("FAULT_SEED", "3"))
SETTLED_S = 600.0
LOCK = 77
GATE = """
create or replace function public.gate() returns trigger language plpgsql security definer as $$
begin
  if tg_table_name = 'ai_trade_log' then  -- a session's name is at most 63 bytes
    perform set_config('application_name',
      encode(uuid_send(new.ai_strategy_id), 'base64') || ' ' || encode(uuid_send(new.id), 'base64'), false);
  end if;
  perform pg_advisory_xact_lock_shared({lock});
  return new;
end $$;
create trigger gate before {event} on public.{table} for each row when ({condition}) execute function public.gate();
"""
WAITING = "select pid from pg_locks where locktype = 'advisory' and objid = %s and not granted"


class Step(NamedTuple):
    """What the database does at this step, and who is killed at it."""

    event: str
    table: str
    condition: str
    victims: tuple[str, ...]


CLAIM = "old.lease_owner is null and new.lease_owner is not null"
SUBMIT = "new.status = 'submitted' and old.status <> new.status"
BOTH = ("dispatcher", "webhook")
STEPS = {
    "claim": Step("update", "signal_outbox", CLAIM, ("dispatcher",)),
    "send": Step("insert", "webhook_requests", "true", ("dispatcher",)),
    "receive": Step("insert", "webhook_requests", "true", ("webhook",)),
    "receive, both": Step("insert", "webhook_requests", "true", BOTH),
    "submit": Step("update", "webhook_requests", SUBMIT, ("webhook",)),
    "book": Step("insert", "fills", "true", ("webhook",)),
    "book, both": Step("insert", "fills", "true", BOTH),
    "answer": Step("update", "webhook_requests", "new.status = 'booked' and old.status <> new.status", ("webhook",)),
    "settle": Step("update", "signal_outbox", "old.status = 'pending' and new.status <> old.status", ("dispatcher",)),
}
GROUPS = (("claim", "send", "settle"), ("receive", "receive, both", "submit"), ("book", "book, both", "answer"))
VENUE_STEPS: dict[str, dict[str, object]] = {
    "before the venue accepts": {"kind": "hang", "path": "/order", "method": "POST", "seconds": 60},
    "after the venue accepted": {"kind": "hang", "path": "/order", "method": "POST", "seconds": 60, "accept": True},
}


@contextmanager
def gate_at(product: Sparky, step: Step) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """While entered, whoever comes to `step` waits."""
    connection = psycopg.connect(build_dsn(product.home), autocommit=True)
    connection.execute(f"select pg_advisory_lock({LOCK})")
    connection.execute(GATE.format(lock=LOCK, event=step.event, table=step.table, condition=step.condition).encode())
    try:
        yield connection
    finally:
        connection.close()
        product.wait_for(lambda: gate_is_gone(product, step), "the gate gone")


def gate_is_gone(product: Sparky, step: Step) -> bool:
    """Takes it away, which a database that is just starting again cannot do yet."""
    with psycopg.connect(build_dsn(product.home), autocommit=True) as connection:
        connection.execute(f"drop trigger if exists gate on public.{step.table}".encode())
    return True


def those_at(product: Sparky, step: Step, connection: psycopg.Connection[tuple[object, ...]]) -> list[object]:
    """Sessions that have come to `step`, when there are any."""
    look = f"somebody at {step.event} of {step.table}"
    return [pid for (pid,) in product.wait_for(lambda: connection.execute(WAITING, [LOCK]).fetchall(), look)]


def kill_at(product: Sparky, step: Step, give: Callable[[], None], *, takes_effect: bool) -> None:
    """Kills who has come to `step` with what is given; then it is undone, or done without anybody knowing."""
    with gate_at(product, step) as connection:
        give()
        waiting = those_at(product, step, connection)
        product.kill(*step.victims)
        if not takes_effect:
            for pid in waiting:
                connection.execute("select pg_terminate_backend(%s)", [pid])


@pytest.mark.parametrize("takes_effect", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("names", GROUPS, ids="; ".join)
@pytest.mark.parametrize("seed", [SEED])
def test_a_kill_at_any_step_loses_no_signal_and_doubles_none(
    product: Sparky, names: tuple[str, ...], seed: int, measured: Callable[[str], None], *, takes_effect: bool
) -> None:
    product.control("aster", "market", {"weight_per_minute": 0})
    dice, rounds = random.Random(seed), 2
    with product.store() as store:
        _, strategies = people(store)
        for name in names * rounds:
            give = partial(give_each, product, store, strategies, dice)
            kill_at(product, STEPS[name], give, takes_effect=takes_effect)
            settled(product, store)
        check(product, store, len(strategies) * rounds * len(names))
    measured(f"killed {'after' if takes_effect else 'before'} {'; '.join(names)}, {rounds} times each: books agree")


@pytest.mark.parametrize("seed", [SEED])
def test_a_database_killed_at_any_step_loses_no_signal_and_doubles_none(
    product: Sparky, seed: int, measured: Callable[[str], None]
) -> None:
    """What was held open at that moment never happened; what had been committed did."""
    product.control("aster", "market", {"weight_per_minute": 0})
    dice, names = random.Random(seed), ("claim", "receive", "submit", "book", "answer", "settle")
    with product.store() as store:
        _, strategies = people(store)
        for name in names:
            with gate_at(product, STEPS[name]) as connection:
                give_each(product, store, strategies, dice)
                those_at(product, STEPS[name], connection)
                product.kill("postgres")
            settled(product, store)
        check(product, store, len(strategies) * len(names))
    measured(f"the database killed at {', '.join(names)}: books agree")


@pytest.mark.parametrize("seed", [SEED])
def test_a_kill_while_the_venue_answers_loses_no_order_and_doubles_none(
    product: Sparky, seed: int, measured: Callable[[str], None]
) -> None:
    product.control("aster", "market", {"weight_per_minute": 0})
    dice, count = random.Random(seed), 0
    with product.store() as store:
        _, strategies = people(store)
        for fault in [*VENUE_STEPS.values()] * 3:
            product.control("aster", "faults", [fault | {"times": 1}])
            count += enter(product, store, strategies[0], dice)
            product.wait_for(lambda: product.faults_left("aster") == 0, "an order at the venue")
            product.kill("webhook")
            settled(product, store)
        check(product, store, count)
    measured("killed while the venue held its answer, 6 times: books equal the venue's record")


@pytest.mark.parametrize("seed", [SEED])
def test_a_kill_before_a_late_fill_is_known_books_it_once(product: Sparky, seed: int) -> None:
    product.control("aster", "market", {"weight_per_minute": 0})
    dice, count = random.Random(seed), 0
    with product.store() as store:
        user, strategies = people(store)
        credentials = store.get_venue_credentials(user, "aster")
        assert credentials is not None
        for symbol in SYMBOLS:
            product.control("aster", "market", {"symbol": symbol, "fill_delay_s": 3.0})
        with closing(CcxtVenue("aster", credentials, product.url("sim_aster"))) as venue:
            for _ in range(3):
                before = orders_at(venue)
                count += enter(product, store, strategies[0], dice)
                product.wait_for(partial(has_more_orders, venue, before), "an order accepted")
                product.kill("webhook")
                settled(product, store)
        check(product, store, count)


def has_more_orders(venue: CcxtVenue, than: int) -> bool:
    return orders_at(venue) > than


def orders_at(venue: CcxtVenue) -> int:
    """How many the venue has ever accepted."""
    return sum(len(venue._exchange.fetch_orders(f"{symbol[:-4]}/USDT:USDT", None, 1_000)) for symbol in SYMBOLS)


@pytest.mark.parametrize("takes_effect", [False, True], ids=["before", "after"])
def test_a_strategy_killed_at_its_record_loses_no_decision_and_doubles_none(
    product: Sparky, *, takes_effect: bool
) -> None:
    """Real strategies: a decision that the database had taken stays, with its signal; one that it had not never was."""
    step, rounds = Step("insert", "ai_trade_log", "true", ()), 3
    with product.store() as store, psycopg.connect(build_dsn(product.home), autocommit=True) as reader:
        _, strategies = people(store)
        quick = [str(strategies[-1]), str(strategies[-2])]
        reader.execute("update ai_strategies set cadence_seconds = 1 where id::text = any(%s)", [quick])
        while rounds:
            with gate_at(product, step) as connection:
                (pid, *_) = those_at(product, step, connection)
                strategy_id, decision_id = held_by(connection, pid)
                known = decided(store, strategy_id) | {decision_id}
                row = store.get_strategy(strategy_id)
                assert row is not None
                product.kill(row.name)
                if not takes_effect:
                    connection.execute("select pg_terminate_backend(%s)", [pid])
                # A database that was held for too long has given up the record, and the round tells nothing.
                counts = not takes_effect or (pid,) in connection.execute(WAITING, [LOCK]).fetchall()
            product.wait_for(partial(decides_again, store, strategy_id, known), "another decision of the strategy")
            assert not counts or (decision_id in decided(store, strategy_id)) == takes_effect
            rounds -= counts
        for strategy_id in strategies:
            row = store.get_strategy(strategy_id)
            assert row is not None
            store.pause_strategy(strategy_id, "the test is over")
            product.wait_for(partial(has_ended, product, row.name), f"the end of {row.name}")
        settled(product, store)
        check_signals(store, len(store.list_signals(limit=10_000)))
        unpaired = """
          select id from ai_trade_log where suppressed is null and signal_action <> 'HOLD'
          and id not in (select id from signal_outbox)"""
        assert reader.execute(unpaired).fetchall() == []


def has_ended(product: Sparky, name: str) -> bool:
    return f"sparky: {name}" not in {line.strip() for _, line in command_lines(product.family())}


def decided(store: Store, strategy_id: UUID) -> set[UUID]:
    return {row.id for row in store.list_decisions(strategy_id, limit=10_000)}


def decides_again(store: Store, strategy_id: UUID, known: set[UUID]) -> bool:
    return not decided(store, strategy_id) <= known


def held_by(connection: psycopg.Connection[tuple[object, ...]], pid: object) -> tuple[UUID, UUID]:
    """The strategy and the decision that a session is about to record."""
    found = connection.execute("select application_name from pg_stat_activity where pid = %s", [pid]).fetchone()
    assert found is not None
    strategy_id, decision_id = (UUID(bytes=b64decode(text)) for text in str(found[0]).split())
    return strategy_id, decision_id


def give_each(product: Sparky, store: Store, strategies: list[UUID], dice: random.Random) -> None:
    """A signal for every strategy, live and on paper."""
    for strategy_id in strategies:
        record(product, store, strategy_id, dice)


def enter(product: Sparky, store: Store, strategy_id: UUID, dice: random.Random) -> int:
    """One signal that surely becomes an order: after an entry its opposite, which closes and enters. How many."""
    count = 1
    while record(product, store, strategy_id, dice) is SignalAction.CLOSE:
        count += 1
    return count


def settled(product: Sparky, store: Store) -> None:
    product.wait_for(lambda: all_settled(store), "every signal and request having ended", SETTLED_S)


def check(product: Sparky, store: Store, count: int) -> None:
    check_signals(store, count)
    check_books(product, store, least=1)
