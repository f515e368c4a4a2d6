"""Two engines on one database: one runs strategies, whatever is killed or frozen; the other refuses, or stands by."""

import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
import psycopg
import pytest
from psycopg import sql

from actors.engine_lease import TTL_S
from engine.deciding.schedule import build_cadence, find_next_tick
from engine.domain.decision import Action
from engine.domain.signal import SignalAction
from engine.platform.errors import EXIT_CONFIGURATION, EXIT_TRY_AGAIN
from engine.store.cycles import DecisionRecord
from engine.store.store import Store
from tests.faults.conftest import Note
from tests.support.clients.sql import as_owner
from tests.support.factories.keys import ENCRYPTION_KEY, OTHER_KEY
from tests.support.factories.signals import new_signal
from tests.support.processes.directories import short_directory
from tests.support.processes.sparky import PATIENCE_S, Sparky

CADENCE_S = 2.0


class Hosts:
    """Homes that name one database, as on two machines."""

    def __init__(self, root: Path, database_url: str) -> None:
        self._root = root
        self._database_url = database_url
        self.made: list[Sparky] = []

    def host(self, name: str, **more: str) -> Sparky:
        made = Sparky(
            self._root / name,
            DATABASE_URL=self._database_url,
            SPARKY_DEMO_CADENCE_S=f"{CADENCE_S:g}",
            SPARKY_SIM_SPEED="1",
            **{"SPARKY_ENCRYPTION_KEY": ENCRYPTION_KEY.get_secret_value()} | more,
        )
        self.made.append(made)
        return made

    @contextmanager
    def database_away(self) -> Iterator[None]:
        """While entered no connection to it can be made, and those that were made are ended."""
        name = psycopg.conninfo.conninfo_to_dict(self._database_url)["dbname"]
        other = psycopg.conninfo.make_conninfo(self._database_url, dbname="postgres")
        with psycopg.connect(other, autocommit=True) as connection:
            allow = sql.SQL("alter database {} with allow_connections {}")
            connection.execute(allow.format(sql.Identifier(str(name)), sql.SQL("false")))
            try:
                connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
                yield
            finally:
                connection.execute(allow.format(sql.Identifier(str(name)), sql.SQL("true")))

    def close(self) -> None:
        for host in self.made:
            host.close()

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with as_owner(self._database_url) as run:
            return run(statement, *values)

    def decisions(self) -> int:
        return int(self.sql("select count(*) from ai_trade_log")[0][0])

    def epoch(self) -> tuple[int, str]:
        """Of the engine, and where it runs."""
        ((epoch, location),) = self.sql("select epoch, location from leases where name = 'engine'")
        return epoch, location

    def doubled(self) -> list[tuple[UUID, float]]:
        """Strategies and ticks with several decisions. A strategy waits for the first tick after its decision, so one
        that is late takes the place of the ticks that it missed: between two ticks there is one decision at most."""
        rows = self.sql("select ai_strategy_id, extract(epoch from created_at)::float from ai_trade_log")
        behind_s = time.time() - time.monotonic()  # ticks are on the monotonic clock
        ticks = Counter((key, find_next_tick(build_cadence(key, CADENCE_S), at - behind_s)) for key, at in rows)
        return [tick for tick, count in ticks.items() if count > 1]


@pytest.fixture
def hosts(postgres_database_url: str) -> Iterator[Hosts]:
    with short_directory() as root, ExitStack() as closing:
        made = Hosts(root, postgres_database_url)
        closing.callback(made.close)
        yield made


def at_work(hosts: Hosts, host: Sparky) -> None:
    before = hosts.decisions()
    host.wait_for(lambda: hosts.decisions() >= before + 3, "decisions")


def engine(host: Sparky) -> dict[str, Any]:
    """What `status` says of it."""
    found: dict[str, Any] = host.json("status", "--once")["engine"]
    return found


def kill_supervisor(host: Sparky) -> None:
    """Returns when nobody is left of its processes, which end with it."""
    assert host.process is not None
    family = host.family()
    host.process.kill()
    host.process.wait(PATIENCE_S)
    psutil.wait_procs(family, PATIENCE_S)


def kill_everything(host: Sparky) -> None:
    """At once, as when a host loses its power."""
    family = freeze(host)
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    assert host.process is not None
    host.process.wait(PATIENCE_S)
    psutil.wait_procs(family, PATIENCE_S)


def freeze(host: Sparky) -> list[psutil.Process]:
    """Stops every process of it; the supervisor first, which would replace the others."""
    family = host.family()
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    return family


def leave_signal(store: Store) -> UUID:
    """A decision of one strategy with a signal that lives for ten minutes."""
    row = store.list_strategies()[0]
    record = DecisionRecord(action=Action.CLOSE, symbol="BTCUSDT", confidence=0.9)
    decision_id = uuid4()
    signal = new_signal(row.user_id, row.id, decision_id, SignalAction.CLOSE, ttl_s=600)
    store.record_decision(decision_id, row.id, record, signal)
    return decision_id


def test_a_second_engine_is_refused_with_a_code_that_is_tried_again_and_the_first_one_goes_on(hosts: Hosts) -> None:
    first, second = hosts.host("first"), hosts.host("second")
    first.start()
    at_work(hosts, first)
    epoch, location = hosts.epoch()
    refused = second.run("up", timeout_s=PATIENCE_S)
    assert refused.returncode == EXIT_TRY_AGAIN
    said = refused.stderr.strip().splitlines()[-1]
    assert "another engine runs on this database" in said
    assert str(first.home) in said
    assert "--standby" in said
    assert str(first.home) in location
    at_work(hosts, first)
    assert hosts.epoch()[0] == epoch
    assert hosts.doubled() == []


def test_the_same_home_takes_its_lease_back_after_a_kill(hosts: Hosts) -> None:
    first = hosts.host("first")
    first.start()
    at_work(hosts, first)
    epoch, _ = hosts.epoch()
    kill_supervisor(first)
    # As if nobody had been heard of for an hour: who waits for its end would wait for ever.
    hosts.sql("update leases set until = clock_timestamp() + interval '1 hour' where name = 'engine' returning 1")
    first.start()
    at_work(hosts, first)
    assert hosts.epoch()[0] == epoch + 1
    assert hosts.doubled() == []


def test_a_standby_takes_over_from_an_engine_that_was_killed(hosts: Hosts, measured: Note) -> None:
    first, second = hosts.host("first"), hosts.host("second")
    first.start()
    at_work(hosts, first)
    second.start("--standby")
    second.wait_for(lambda: engine(second)["state"] == "standing by", "standing by")
    second.wait_for(lambda: second.json("status", "--once")["healthy"], "a standby that is well")
    at_work(hosts, first)
    epoch, _ = hosts.epoch()
    kill_everything(first)
    (killed_at,) = hosts.sql("select clock_timestamp()")[0]
    second.wait_for(lambda: str(second.home) in hosts.epoch()[1], "the standby taking over")
    at_work(hosts, second)
    (taken_at,) = hosts.sql("select taken_at from leases where name = 'engine'")[0]
    measured(f"a standby has the lease {(taken_at - killed_at).total_seconds():.1f} s after the kill")
    assert hosts.epoch()[0] == epoch + 1
    second.wait_for(lambda: engine(second)["state"] == "running", "the standby saying that it runs")
    assert hosts.doubled() == []


def test_a_frozen_engine_that_wakes_records_nothing_and_leaves(hosts: Hosts) -> None:
    first, second = hosts.host("first"), hosts.host("second")
    first.start()
    at_work(hosts, first)
    second.start("--standby")
    second.wait_for(lambda: engine(second)["state"] == "standing by", "standing by")
    frozen = freeze(first)
    second.wait_for(lambda: str(second.home) in hosts.epoch()[1], "the standby taking over")
    at_work(hosts, second)
    epoch, _ = hosts.epoch()
    for process in frozen:
        with suppress(psutil.NoSuchProcess):  # the supervisor, which woke first, may have ended it
            process.resume()
    assert first.process is not None
    assert first.process.wait(PATIENCE_S) == EXIT_TRY_AGAIN
    at_work(hosts, second)
    assert hosts.epoch()[0] == epoch
    assert hosts.doubled() == []
    assert hosts.sql("select * from ai_strategies where status <> 'running'") == []


def test_an_engine_that_rereads_its_settings_keeps_the_lease_beside_a_standby(hosts: Hosts) -> None:
    first, second = hosts.host("first"), hosts.host("second")
    first.home.parent.joinpath(".env").write_text("")
    first.start()
    at_work(hosts, first)
    second.start("--standby")
    second.wait_for(lambda: engine(second)["state"] == "standing by", "standing by")
    epoch, _ = hosts.epoch()
    before = first.process_of("engine-lease")
    first.home.parent.joinpath(".env").write_text("SPARKY_LOG_LEVEL=debug\n")
    assert first.process is not None
    first.process.send_signal(signal.SIGHUP)
    first.wait_for(
        lambda: first.process_of("engine-lease") not in (None, before), "the lease's actor being another one"
    )
    at_work(hosts, first)
    second.wait_for(lambda: engine(second)["state"] == "standing by", "still standing by")
    assert hosts.epoch()[0] == epoch


def test_an_engine_that_is_stopped_hands_over_at_once(hosts: Hosts) -> None:
    first, second = hosts.host("first"), hosts.host("second")
    first.start()
    at_work(hosts, first)
    second.start("--standby")
    second.wait_for(lambda: engine(second)["state"] == "standing by", "standing by")
    first.press_ctrl_c()
    second.wait_for(lambda: str(second.home) in hosts.epoch()[1], "the standby taking over")
    at_work(hosts, second)
    assert hosts.doubled() == []


def test_an_engine_with_another_key_takes_nothing_over_and_leaves_signals_to_who_holds_the_key(hosts: Hosts) -> None:
    right, wrong = hosts.host("right"), hosts.host("wrong", SPARKY_ENCRYPTION_KEY=OTHER_KEY.get_secret_value())
    right.start()
    at_work(hosts, right)
    wrong.start("--standby")
    wrong.wait_for(lambda: "sealed with" in str(engine(wrong)["reason"]), "the standby saying what it lacks")
    refused = hosts.host("third", SPARKY_ENCRYPTION_KEY=OTHER_KEY.get_secret_value()).run("up")
    assert refused.returncode == EXIT_CONFIGURATION
    assert "sealed with" in refused.stderr
    kill_everything(right)
    with right.store() as store:
        signal_id = leave_signal(store)
    right.start()
    status = "select status from signal_outbox where id = %s"
    right.wait_for(lambda: hosts.sql(status, signal_id) != [("pending",)], "the signal's end")
    assert hosts.sql(status, signal_id) == [("delivered",)]
    assert str(right.home) in hosts.epoch()[1]


def test_after_an_outage_of_the_database_the_engine_that_ran_goes_on(hosts: Hosts) -> None:
    first, second = hosts.host("first"), hosts.host("second")
    first.start()
    at_work(hosts, first)
    second.start("--standby")
    second.wait_for(lambda: engine(second)["state"] == "standing by", "standing by")
    epoch, _ = hosts.epoch()
    with hosts.database_away():
        first.wait_for(lambda: engine(first)["state"] == "waiting", "the database being away")
        second.wait_for(lambda: engine(second)["state"] == "waiting", "the database being away")
        time.sleep(2 * TTL_S)  # what is tested is that the lease has run out
    at_work(hosts, first)
    second.wait_for(lambda: engine(second)["state"] == "standing by", "standing by again")
    assert hosts.epoch()[0] == epoch


def test_a_webhook_server_that_was_frozen_executes_again_for_its_engine_beside_a_standby(hosts: Hosts) -> None:
    first, second = hosts.host("first"), hosts.host("second")
    first.start()
    at_work(hosts, first)
    second.start("--standby")
    second.wait_for(lambda: engine(second)["state"] == "standing by", "standing by")
    frozen = first.wait_for(lambda: first.process_of("webhook"), "the webhook server")
    assert frozen is not None
    frozen.suspend()
    ended = "select 1 from leases where name = 'webhook' and until < clock_timestamp()"
    first.wait_for(lambda: hosts.sql(ended), "the end of its lease")
    with suppress(psutil.NoSuchProcess):  # the supervisor may have replaced it
        frozen.resume()
    with first.store() as store:
        signal_id = leave_signal(store)
    status = "select status from signal_outbox where id = %s"
    first.wait_for(lambda: hosts.sql(status, signal_id) != [("pending",)], "the signal's end")
    assert hosts.sql(status, signal_id) == [("delivered",)]
