"""The embedded server gets signals that are sent to all processes: its owner has it back at once."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from engine.platform.settings.settings import Settings
from engine.store.embedded import postgres_process
from engine.store.embedded.embedded_postgres import DatabaseService, build_dsn, get_data_dir, make
from tests.support.processes.directories import short_directory

PATIENCE_S = 120.0
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with short_directory() as made:
        yield made


@pytest.fixture
def service(home: Path) -> Iterator[DatabaseService]:
    made = make(Settings(sparky_home=home), "")
    made.start()
    yield made
    made.stop(10)


def server(home: Path) -> psutil.Process:
    return psutil.Process(int((get_data_dir(home) / "postmaster.pid").read_text().splitlines()[0]))


def until(seen: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not seen():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def state(home: Path) -> str:
    """As PostgreSQL's own tool tells it of a server that does not run."""
    told = subprocess.run(
        [postgres_process.get_binary_path("pg_controldata"), get_data_dir(home)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return next(line.partition(":")[2].strip() for line in told.splitlines() if "cluster state" in line)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_server_that_others_stop_is_started_again_by_its_owner(
    home: Path, service: DatabaseService, number: signal.Signals
) -> None:
    first = server(home)
    with psycopg.connect(build_dsn(home)):  # a session that stays, for which PostgreSQL waits after TERM
        first.send_signal(number)
        until(lambda: service.is_healthy() and not first.is_running(), "another server")
    with psycopg.connect(build_dsn(home)) as connection:
        connection.execute("select from ai_strategies")


@pytest.mark.parametrize("number", SIGNALS[:3], ids=lambda number: number.name)
def test_a_stop_after_every_process_of_the_server_was_signalled_is_clean(home: Path, number: signal.Signals) -> None:
    made = make(Settings(sparky_home=home), "")
    made.start()
    first = server(home)
    for process in [*first.children(recursive=True), first]:
        with suppress(psutil.NoSuchProcess):  # the postmaster has ended it already
            process.send_signal(number)
    until(lambda: made.is_healthy() and not first.is_running(), "another server")
    made.stop(10)
    assert state(home) == "shut down"


def test_a_server_that_its_owner_stops_is_not_started_again(home: Path) -> None:
    made = make(Settings(sparky_home=home), "")
    made.start()
    made.stop(10)
    assert not made.is_healthy()
    assert state(home) == "shut down"
