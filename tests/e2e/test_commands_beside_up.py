"""Commands on a home whose embedded server belongs to a running Sparky, or whose Sparky starts while they work."""

import fcntl
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil
import pytest

from engine.admin.strategy_checks import NewStrategy
from engine.platform.settings.settings import Settings
from engine.store.embedded.command_database import SUPERVISED_TIMEOUT_S
from engine.store.embedded.embedded_postgres import build_dsn, get_data_dir, is_running, make
from engine.store.store import Store
from engine.store.transport.postgres import PostgresRpc
from tests.support.processes.directories import short_directory
from tests.support.processes.sparky import PATIENCE_S, Sparky, without_strategies
from tests.support.processes.supervised import wait_for

ROOT: Final = Path(__file__).parents[2]
# Uses the database as every command does, in steps that the test times: one line on stdin each.
COMMAND: Final = """
import sys
from cli.context import load_settings, open_store_for
with open_store_for(load_settings()) as store:
    for _ in sys.stdin:
        print(store.find_user("a@b.c"), flush=True)
"""
READING: Final = (
    ["strategy", "list"],
    ["strategy", "show", "one"],
    ["decisions", "list"],
    ["decisions", "show", "11111111"],
    ["signals", "list"],
    ["positions"],
    ["trades"],
    ["status", "--once"],
    ["status", "--json"],
    ["doctor"],
    ["kill", "--show"],
    ["credentials", "list"],
)
WRITING: Final = (
    ["migrate"],
    ["strategy", "create", "--name", "two"],
    ["strategy", "start", "one"],
    ["strategy", "restart", "one"],
    ["strategy", "delete", "one", "--yes"],
    ["signals", "retry", "11111111"],
    ["kill"],
    ["credentials", "set", "webhook", "--new"],
    ["credentials", "rotate"],
)


@pytest.fixture(scope="module")
def made() -> Iterator[Sparky]:
    """A home with a migrated embedded database that holds one strategy, where nothing runs."""
    with short_directory() as root:
        sparky = Sparky(root / "home")
        service = make(Settings(sparky_home=sparky.home), "")
        service.start()
        with Store(PostgresRpc(build_dsn(sparky.home))) as store:
            store.create_strategy(NewStrategy(user_id=store.ensure_user("a@b.c"), name="one"))
        service.stop(3)
        yield sparky
        sparky.close()


@contextmanager
def held(home: Path) -> Iterator[None]:
    """As while a supervisor runs whose database has just died: it holds the home, and no server runs."""
    (home / "run").mkdir(mode=0o700, exist_ok=True)
    with (home / "run" / "supervisor.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def servers(home: Path) -> list[int]:
    """The pids of all PostgreSQL servers that have been given the data directory of this home."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if "-D" in words and str(get_data_dir(home)) in words:
                found.append(process.pid)
    return found


class Watch:
    """Looks for servers of a home all the time, until it is asked what it has seen."""

    def __init__(self, home: Path) -> None:
        self._seen: set[int] = set()
        self._home, self._ends = home, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._ends.wait(0.02):
            self._seen.update(servers(self._home))

    def seen(self) -> set[int]:
        self._ends.set()
        self._thread.join()
        return self._seen


@pytest.mark.parametrize("words", [*READING, *WRITING], ids=" ".join)
def test_no_command_starts_the_server_that_a_supervisor_owns(words: list[str], made: Sparky) -> None:
    log = made.home / "postgres.log"
    before = log.read_bytes()
    with held(made.home):
        watch = Watch(made.home)
        done = made.run(*words)
        assert watch.seen() == set()
    assert log.read_bytes() == before
    told = done.stdout + done.stderr
    assert done.returncode != 0
    if words[0] == "status":
        assert "does not answer" in told
    else:
        assert "Sparky's database does not answer now" in " ".join(told.split()), told
        assert words[0] == "doctor" or (done.stdout, done.stderr.count("\n")) == ("", 1)


def test_a_command_waits_a_short_time_for_the_server_of_the_running_sparky(made: Sparky) -> None:
    code = None
    while code != 0:
        with held(made.home):
            began = time.monotonic()
            command = subprocess.Popen(
                [sys.executable, "-c", "import cli.main; cli.main.main()", "strategy", "list"],
                env=made.environ | {"PYTHONPATH": str(ROOT)},
                cwd=made.home.parent,
                stdout=subprocess.PIPE,
            )
            service = make(Settings(sparky_home=made.home), "")
            service.start()
            is_soon = time.monotonic() - began < SUPERVISED_TIMEOUT_S
            told, code = command.communicate(timeout=PATIENCE_S)[0], command.returncode
            wait_for(service.is_healthy, "the server going on")
            service.stop(3)
        assert code == 0 or not is_soon  # only a crowded machine needs longer to start the server
    assert b"one" in told


def test_a_question_at_a_terminal_holds_no_server(made: Sparky) -> None:
    terminal, slave = pty.openpty()
    command = subprocess.Popen(
        [sys.executable, "-c", "import cli.main; cli.main.main()", "strategy", "delete", "one"],
        env=made.environ | {"PYTHONPATH": str(ROOT)},
        cwd=made.home.parent,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    asked = b""
    while b"for good?" not in asked:
        asked += os.read(terminal, 4_096)
    assert not is_running(made.home)
    service = make(Settings(sparky_home=made.home), "")
    service.start()
    os.write(terminal, b"n\n")
    assert command.wait(PATIENCE_S) == 1
    service.stop(3)
    os.close(terminal)
    os.close(slave)


@contextmanager
def command_with_a_server(sparky: Sparky) -> Iterator["subprocess.Popen[str]"]:
    """A command that has started the server for itself and has not ended."""
    command = subprocess.Popen(
        [sys.executable, "-c", COMMAND],
        env=sparky.environ | {"PYTHONPATH": str(ROOT)},
        cwd=sparky.home.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert answer_of(command) != "None"
        assert is_running(sparky.home)
        yield command
    finally:
        command.send_signal(signal.SIGCONT)
        command.kill()
        command.communicate()


def answer_of(command: "subprocess.Popen[str]") -> str:
    assert command.stdin is not None
    assert command.stdout is not None
    command.stdin.write("\n")
    command.stdin.flush()
    return command.stdout.readline().strip()


def test_a_command_that_has_started_the_server_gives_it_to_the_sparky_that_starts(made: Sparky) -> None:
    with command_with_a_server(made) as command:
        made.start("--no-demo")
        try:
            made.wait_for(lambda: made.process_of("strategy-watcher"), "Sparky being up")
            assert len(answer_of(command)) == 36  # from the same store, which the running Sparky now serves
            assert made.run("strategy", "list").returncode == 0
        finally:
            made.close()


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_a_command_that_was_stopped_or_killed_with_the_server_keeps_no_sparky_from_starting(
    how: signal.Signals, made: Sparky
) -> None:
    with command_with_a_server(made) as command:
        command.send_signal(how)
        made.start("--no-demo")
        try:
            made.wait_for(lambda: made.process_of("strategy-watcher"), "Sparky being up")
        finally:
            made.close()


def test_a_command_killed_at_any_moment_leaves_a_home_that_can_be_used_at_once() -> None:
    with short_directory() as root:
        sparky = Sparky(root / "home")
        for number in range(8):
            with short_directory() as home:
                environ = sparky.environ | {"SPARKY_HOME": str(home), "PYTHONPATH": str(ROOT)}
                command = subprocess.Popen(
                    [sys.executable, "-c", "import cli.main; cli.main.main()", "migrate"],
                    env=environ,
                    cwd=root,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                began = [home / "postgres.lock", *home.glob("postgres.new*"), get_data_dir(home)]
                while command.poll() is None and not any(each.exists() for each in began):
                    pass
                with suppress(subprocess.TimeoutExpired):
                    command.wait(0.15 * number)
                command.kill()
                command.wait()
                service = make(Settings(sparky_home=home), "")
                service.start()
                wait_for(service.is_healthy, "an answer of the server")
                service.stop(3)


def test_while_sparkys_database_is_away_no_command_takes_its_place() -> None:
    with without_strategies() as sparky:
        assert sparky.process is not None
        database = sparky.process_of("database")
        assert database is not None
        sparky.process.send_signal(signal.SIGSTOP)  # so that it restarts nothing for now
        database.kill()
        while servers(sparky.home):
            time.sleep(0.02)
        watch = Watch(sparky.home)
        commands = [sparky.run(*words) for words in (["strategy", "list"], ["decisions", "list"], ["status", "--once"])]
        assert watch.seen() == set()
        assert [done.returncode for done in commands[:2]] == [1, 1]
        sparky.process.send_signal(signal.SIGCONT)
        sparky.wait_for(lambda: is_running(sparky.home), "the database being back")
        sparky.wait_for(lambda: sparky.run("strategy", "list").returncode == 0, "commands being served again")
