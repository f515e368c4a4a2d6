"""How fast signals become booked paper fills: a whole `sparky up`, real processes, PostgreSQL and HTTP.

    .venv/bin/python -m benchmarks.execution [--signals 3000] [--rate 25] [--seconds 20] [--profile] [--small]

Saturated: all signals lie in the outbox before the dispatcher is told. Paced: one signal every 1/rate seconds and
announced as a strategy announces it. Time counts from the signal's row to the row of its fill, by the database's clock.
"""

import argparse
import shutil
import tempfile
import time
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid4

import psutil
import psycopg
import zmq

from actors.messages import SignalQueued
from actors.runtime.messaging import MessageClient
from engine.admin.demo_data import generate_webhook_secret
from engine.admin.strategy_checks import NewStrategy
from engine.domain.decision import Action
from engine.domain.signal import SignalAction
from engine.domain.strategy import StrategyStatus
from engine.risk.entry_rules import UNRESTRICTED
from engine.store.cycles import DecisionRecord
from engine.store.embedded.embedded_postgres import build_dsn
from engine.store.store import Store
from tests.support.factories.signals import new_signal
from tests.support.processes.sparky import Sparky

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
STRATEGIES = 100


class Size(NamedTuple):
    """How much is measured: `signals` at once, then `rate` a second for `seconds`, of so many `strategies`. `settle_s`
    is waited where nothing tells when processes or statistics have come to rest."""

    signals: int
    rate: float
    seconds: float
    strategies: int = STRATEGIES
    settle_s: float = 3.0


SMALL = Size(signals=6, rate=10.0, seconds=1.0, strategies=2, settle_s=0.1)
RECORD_DECISIONS = """
  select record_decision(s.decision_id, s.strategy_id, '{"action": "LONG", "size_usd": 100}', s.payload, 3000, %s::uuid)
  from unnest(%s::uuid[], %s::uuid[], %s::text[]) with ordinality as s(decision_id, strategy_id, payload, n)
  order by s.n"""
LATENCY_QUERY = """
  select count(*), extract(epoch from max(f.created_at) - min(f.created_at)),
    percentile_cont(0.5) within group (order by f.created_at - o.created_at),
    percentile_cont(0.99) within group (order by f.created_at - o.created_at), max(f.created_at - o.created_at)
  from signal_outbox o join fills f on f.request_id = o.id::text where o.seq > %s"""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--signals", type=int, default=3_000)
    parser.add_argument("--rate", type=float, default=25.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--profile", action="store_true", help="time of each SQL function (slows them down)")
    parser.add_argument("--small", action="store_true", help="two strategies for a second, to see that it runs")
    given = parser.parse_args(arguments)
    size = SMALL if given.small else Size(given.signals, given.rate, given.seconds)
    home = Path(tempfile.mkdtemp(prefix="sparky-bench-", dir="/tmp"))
    sparky = Sparky(home / "home", SPARKY_SIM_SPEED="1")
    try:
        sparky.start("--no-demo")
        sparky.wait_for(lambda: sparky.process_of("strategy-watcher"), "Sparky being up")  # the last of the boot
        _measure(sparky, size, has_profile=given.profile)
    finally:
        sparky.close()
        shutil.rmtree(home, ignore_errors=True)


def _measure(sparky: Sparky, size: Size, *, has_profile: bool) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    client = MessageClient(context, sparky.home / "run")
    with sparky.store() as store, psycopg.connect(build_dsn(sparky.home), autocommit=True) as connection:
        user = store.ensure_user("bench@example.org")
        strategies = _create_strategies(store, user, size.strategies)
        sparky.wait_for(lambda: len(sparky.family()) > size.strategies, "every strategy's process")
        time.sleep(size.settle_s)  # until they have settled: their first decisions are hours away
        print(f"| {'measure':<34} | {'signals':>8} | {'per s':>7} | {'p50 ms':>8} | {'p99 ms':>8} | {'max ms':>8} |")
        print(f"|{'-' * 36}|{'-' * 10}|{'-' * 9}|{'-' * 10}|{'-' * 10}|{'-' * 10}|")
        warm_up = size._replace(seconds=min(2.0, size.seconds))  # warms connections, quotes and caches
        _record_paced(store, user, strategies, warm_up, client)
        last = _fetch_last_seq(connection)
        _record_paced(store, user, strategies, size, client)
        _wait_until_drained(connection)
        _print_row(connection, last, f"paced, {size.rate:g}/s")
        last = _fetch_last_seq(connection)
        if has_profile:
            connection.execute("alter system set track_functions = 'all'")
            connection.execute("select pg_reload_conf()")
        cpu = _measure_cpu(sparky)
        rounds = max(1, size.signals // (len(strategies) * len(SYMBOLS)))
        with connection.transaction():
            connection.execute(RECORD_DECISIONS, [store.engine, *_build_signals(user, strategies, rounds)])
        client.tell("dispatcher", SignalQueued(signal_id=uuid4()))
        _wait_until_drained(connection)
        _print_row(connection, last, "saturated")
        for name, seconds_used in _measure_cpu(sparky).items():
            used_ms = (seconds_used - cpu.get(name, 0.0)) * 1000 / (rounds * len(strategies) * len(SYMBOLS))
            if used_ms > 0.05:
                print(f"  CPU per signal, {name}: {used_ms:.2f} ms")
        time.sleep(size.settle_s)  # the statistics come late
        for row in connection.execute(
            "select funcname, calls, round(self_time::numeric, 1), round((self_time / calls)::numeric, 3) "
            "from pg_stat_user_functions order by self_time desc limit 14"
        ):
            print("  SQL: {:<24} {:>8} calls, {:>9} ms, {:>8} ms each".format(*row))
    context.destroy(linger=0)


def _create_strategies(store: Store, user: UUID, count: int) -> list[UUID]:
    store.set_webhook_secret(user, generate_webhook_secret())
    made = [
        store.create_strategy(
            NewStrategy(
                user_id=user,
                name=f"b{n}",
                status=StrategyStatus.RUNNING,
                cadence_seconds=86_400,
                capital_usd=Decimal(10**6),
                **UNRESTRICTED.model_dump(),
            )
        )
        for n in range(count)
    ]
    return [row.id for row in made]


def _build_signals(user: UUID, strategies: list[UUID], rounds: int) -> list[list[object]]:
    """Ids of decisions and of their strategies, and the payloads: an entry and an exit of each lane in turn."""
    lanes = [(number, strategy, symbol) for number in range(rounds) for strategy in strategies for symbol in SYMBOLS]
    signals = [
        new_signal(user, strategy, uuid4(), SignalAction.CLOSE if number % 2 else SignalAction.BUY, symbol=symbol)
        for number, strategy, symbol in lanes
    ]
    payloads = [signal.payload for signal in signals]
    return [
        [payload.signal_id for payload in payloads],
        [payload.strategy_id for payload in payloads],
        [payload.to_json() for payload in payloads],
    ]


def _record_paced(store: Store, user: UUID, strategies: list[UUID], size: Size, client: MessageClient) -> None:
    began, number = time.monotonic(), 0
    while (due := began + number / size.rate) < began + size.seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        record = DecisionRecord(action=Action.LONG, symbol="BTCUSDT", size_usd=Decimal(100), confidence=0.9)
        lane = number // 2 % len(strategies)
        decision_id, action = uuid4(), SignalAction.CLOSE if number % 2 else SignalAction.BUY
        signal = new_signal(user, strategies[lane], decision_id, action)
        recorded = store.record_decision(decision_id, strategies[lane], record, signal)
        client.tell("dispatcher", SignalQueued(signal_id=recorded.decision_id))
        number += 1


def _fetch_last_seq(connection: psycopg.Connection[tuple[object, ...]]) -> object:
    row = connection.execute("select coalesce(max(seq), 0) from signal_outbox").fetchone()
    return row[0] if row else 0


def _wait_until_drained(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    while connection.execute("select 1 from signal_outbox where status = 'pending' limit 1").fetchone():
        time.sleep(0.1)


def _print_row(connection: psycopg.Connection[tuple[object, ...]], last: object, name: str) -> None:
    row = connection.execute(LATENCY_QUERY, [last]).fetchone()
    assert row is not None
    count, span, *waits = row
    ms = [wait.total_seconds() * 1000 for wait in waits]  # type: ignore[attr-defined] # intervals
    per_s = count / float(span)  # type: ignore[operator, arg-type] # a count and a number of seconds
    print(f"| {name:<34} | {count:>8} | {per_s:>7.1f} | {ms[0]:>8.1f} | {ms[1]:>8.1f} | {ms[2]:>8.1f} |")


def _measure_cpu(sparky: Sparky) -> dict[str, float]:
    used: dict[str, float] = {}
    for process in sparky.family():
        try:
            times = process.cpu_times()
            words = process.cmdline()
        except psutil.Error:
            continue
        name = " ".join(words)[:40] or process.name()
        name = "postgres" if "postgres" in name else name
        used[name] = used.get(name, 0.0) + times.user + times.system
    return used


if __name__ == "__main__":
    main()
