"""The database goes away in every way it can: strategies skip, nothing trades, no row is paused, and all goes on."""

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from engine.domain.strategy import StrategyStatus
from engine.store.embedded.embedded_postgres import EmbeddedPostgres
from engine.store.schema.migrate import migrate
from tests.support.factories.keys import ENCRYPTION_KEY
from tests.support.processes.directories import short_directory
from tests.support.processes.fleet import Fleet, launched

COUNT = 4
CADENCE_S = 3.0
HELD_S = {"locked": 60.0}  # longer than any call waits, and long enough for breakers to open
RECOVERY_S = 300.0  # a breaker that opened stays so for a minute
MAX_CONNECTIONS = "60"
SMALL_DISK = "320m"
FULL_DISK = """
create function full_disk() returns trigger language plpgsql as $$
begin raise exception 'could not extend file "base/5/16400": No space left on device' using errcode = '53100'; end $$;
create trigger full_disk before insert on ai_trade_log for each row execute function full_disk();
"""


class Database:
    """A PostgreSQL that is not the product's own, and the ways to lose it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.server = EmbeddedPostgres(home, {"max_connections": MAX_CONNECTIONS, "listen_addresses": ""})

    def run(self, *statements: str, options: str = "") -> None:
        with psycopg.connect(self.server.dsn, autocommit=True, options=options) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    @contextmanager
    def gone(self) -> Iterator[None]:
        self.server.stop()
        try:
            yield
        finally:
            self.server.start()

    @contextmanager
    def restarted_hard(self) -> Iterator[None]:
        """Killed in mid-transaction, as by the kernel's memory killer."""
        self.server.stop(grace_s=0)
        try:
            yield
        finally:
            self.server.start()

    @contextmanager
    def locked(self) -> Iterator[None]:
        with psycopg.connect(self.server.dsn) as connection:
            connection.execute("lock table ai_trade_log, signal_outbox, positions, ai_strategies")
            yield

    @contextmanager
    def full_of_connections(self) -> Iterator[None]:
        """Takes every connection there is, and each one that comes free."""
        held: list[psycopg.Connection[tuple[object, ...]]] = []
        enough = threading.Event()

        def take() -> None:
            while not enough.is_set():
                try:
                    held.append(psycopg.connect(self.server.dsn))
                except psycopg.OperationalError:
                    enough.wait(0.02)

        taker = threading.Thread(target=take)
        taker.start()
        try:
            yield
        finally:
            enough.set()
            taker.join()
            for connection in held:
                connection.close()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """As after a failover to a replica: it answers, and takes nothing."""
        others = "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'sparky'"
        others += " and pid <> pg_backend_pid()"
        self.run("alter database sparky set default_transaction_read_only = on", others)
        try:
            yield
        finally:
            mend = "alter database sparky set default_transaction_read_only = off"
            self.run(mend, others, options="-c default_transaction_read_only=off")

    @contextmanager
    def full(self) -> Iterator[None]:
        """To the last byte where a small disk could be mounted; elsewhere a trigger speaks as the full disk would."""
        with self._filled() if self.home.is_mount() else self._said_to_be_full():
            yield

    @contextmanager
    def _filled(self) -> Iterator[None]:
        filler = self.home / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4_096))
        try:
            yield
        finally:
            filler.unlink()
            if not self.server.is_healthy():  # without room for its log PostgreSQL may have given up
                self.server.stop()
                self.server.start()

    @contextmanager
    def _said_to_be_full(self) -> Iterator[None]:
        self.run(FULL_DISK)
        try:
            yield
        finally:
            self.run("drop function full_disk cascade")


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with short_directory() as home:
        is_small = _succeeds("mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK},mode=0755", "tmpfs", str(home))
        made = Database(home)
        made.server.start()
        migrate(made.server.dsn)
        yield made
        made.server.stop()
        if is_small:
            _succeeds("umount", str(home))


def _succeeds(*command: str) -> bool:
    """Only root may mount, and not in every container."""
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def fleet(database: Database) -> Iterator[Fleet]:
    settings = {
        "DATABASE_URL": database.server.dsn,
        "SPARKY_ENCRYPTION_KEY": ENCRYPTION_KEY.get_secret_value(),
        "SPARKY_SIM_SPEED": "120",
    }
    with (
        short_directory() as root,
        launched(Fleet(root / "home", COUNT, CADENCE_S, **settings), ("database",)) as running,
    ):
        yield running


def refused(fleet: Fleet) -> dict[str, float]:
    """How many cycles of each strategy the database has failed so far."""
    counts = dict.fromkeys(fleet.ids, 0.0)
    for labels, value in fleet.samples("sparky_cycles_total").items():
        for key in fleet.ids.intersection(labels):
            counts[key] += value if "upstream_database" in labels else 0.0
    return counts


WAYS: dict[str, Callable[[Database], object]] = {
    "gone": Database.gone,
    "restarted hard": Database.restarted_hard,
    "locked": Database.locked,
    "full of connections": Database.full_of_connections,
    "read only": Database.read_only,
    "a full disk": Database.full,
}


@pytest.mark.parametrize("way", WAYS)
def test_strategies_skip_nothing_is_paused_and_all_goes_on_by_itself(
    fleet: Fleet, database: Database, way: str, measured: Callable[[str], None]
) -> None:
    before = refused(fleet)
    children = {name: (child["pid"], child["restarts"]) for name, child in fleet.strategies().items()}

    with getattr(database, WAYS[way].__name__)():
        until = time.monotonic() + HELD_S.get(way, 0.0)
        fleet.wait_for(
            lambda: time.monotonic() > until and all(n > before[key] for key, n in refused(fleet).items()),
            "failed cycles of all",
            HELD_S.get(way, 0.0) + 240,
        )

    took_s = fleet.wait_for_cycles(RECOVERY_S)

    measured(f"database {way}: every strategy decided again {took_s:.1f} s after it was back")
    after = {name: (child["pid"], child["restarts"]) for name, child in fleet.strategies().items()}
    assert after == children
    with fleet.store() as store:
        rows = [row for row in store.list_strategies() if str(row.id) in fleet.ids]
        assert [(row.status, row.paused_reason) for row in rows] == [(StrategyStatus.RUNNING, None)] * COUNT
    fleet.wait_for(lambda: fleet.status()["healthy"], "good health", RECOVERY_S)


def test_every_trade_has_its_decision_and_none_was_booked_twice(fleet: Fleet, database: Database) -> None:
    """After all of that; a fill without a decision, or two of one, would be a trade that nobody decided."""
    with psycopg.connect(database.server.dsn) as connection:
        orphans = connection.execute(
            "select request_id from fills where request_id not in (select id::text from ai_trade_log)"
            " and request_id !~ '^exit/(stop_loss|take_profit)/'"  # which the code decides, not a strategy
        ).fetchall()
        doubles = connection.execute(
            "select request_id, kind from fills group by user_id, request_id, kind having count(*) > 1"
        ).fetchall()
        filled = connection.execute("select count(*) from fills").fetchone()

    assert (orphans, doubles) == ([], [])
    assert filled is not None
    assert filled[0] > 0
