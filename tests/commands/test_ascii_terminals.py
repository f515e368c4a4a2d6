"""A terminal that shows ASCII alone, while strategies have names in other scripts: tables keep their width, and what a
person is told to type can be typed."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.admin.strategy_checks import NewStrategy
from engine.domain.strategy import StrategyStatus
from engine.store.store import Store
from tests.support.factories.monitored import Running, child, report
from tests.support.processes.commands import SPARKY, environment, run
from tests.support.processes.directories import short_directory
from tests.support.processes.supervised import wait_for
from tests.support.processes.terminal import Terminal

COLUMNS = 80
NAMES = ("стратегия роста", "策略一号策略一号", "استراتيجية النمو", "plain")
SEQUENCE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
CUT_ESCAPE = re.compile(r"\\(u[0-9a-f]{0,3}|x[0-9a-f]?|U[0-9a-f]{0,7})?~")


@pytest.fixture
def home() -> Iterator[Path]:
    with short_directory() as root:
        yield root


@pytest.fixture
def world(home: Path, database_url: str, store: Store) -> Iterator[dict[str, str]]:
    """The environment of a home on whose monitor these strategies run."""
    user = store.ensure_user("a@example.org")
    rows = [
        store.create_strategy(NewStrategy(user_id=user, name=name, status=StrategyStatus.RUNNING)) for name in NAMES
    ]
    monitor = Running(home)
    monitor.tell(report(*(child(f"strategy-{row.id}", kind="strategy", title=row.name) for row in rows)))
    port = str(monitor.port)
    yield environment(home, database_url, SPARKY_MONITOR_PORT=port, PYTHONIOENCODING="ascii", TERM="xterm")
    monitor.actor.close(1)
    monitor.ref.stop()


def test_every_frame_of_a_live_table_is_as_wide_as_the_terminal(home: Path, world: dict[str, str]) -> None:
    terminal = Terminal(COLUMNS)
    streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), terminal.slave)
    process = subprocess.Popen([*SPARKY, "status"], env=world, cwd=home, **streams)
    try:
        wait_for(lambda: terminal.told.count(b"model today") >= 3 or process.poll() is not None, "three frames")
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        terminal.close()
    lines = SEQUENCE.sub(b"", terminal.told).decode("ascii").replace("\r", "\n").split("\n")
    assert max(len(line) for line in lines) <= COLUMNS
    rows = [line for line in lines if line.startswith("\\u0441")]
    assert len(rows) >= 3
    assert not [row for row in rows if CUT_ESCAPE.search(row)]


def test_a_terminal_that_cannot_be_drawn_on_gets_the_state_once(home: Path, world: dict[str, str]) -> None:
    terminal = Terminal(COLUMNS)
    streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), terminal.slave)
    process = subprocess.Popen([*SPARKY, "status"], env=world | {"TERM": "dumb"}, cwd=home, **streams)
    try:
        assert process.wait(60) == 0
        wait_for(lambda: b"model today" in terminal.told, "the state")
    finally:
        process.kill()
        terminal.close()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_name_that_the_terminal_cannot_show_is_replaced_by_the_id_where_it_is_to_be_typed(
    home: Path, world: dict[str, str], store: Store, encoding: str
) -> None:
    given = world | {"PYTHONIOENCODING": encoding}
    named = {row.name: row.id for row in store.list_strategies()}
    for name in NAMES:
        assert run(["kill", "--strategy", str(named[name])], given, home).code == 0
    for command in (["status", "--once"], ["doctor"]):
        told = " ".join(run(command, given, home).text.split())
        for name in NAMES:
            typed = name if name.isascii() else str(named[name])
            assert f"`sparky kill --off --strategy {typed}` lifts it" in told, command
    told = run(["kill", "--show"], given, home).text
    assert [str(named[name])[:8] in told for name in NAMES] == [True, True, True, False]
    assert run(["kill", "--off", "--strategy", str(named[NAMES[0]])[:8]], given, home).code == 0


def test_a_name_that_the_terminal_can_show_is_named_where_it_is_to_be_typed(home: Path, world: dict[str, str]) -> None:
    given = world | {"PYTHONIOENCODING": "koi8-r"}
    done = run(["kill", "--strategy", NAMES[0]], given, home)
    assert NAMES[0] in done.stdout.decode("koi8-r")
    told = " ".join(run(["status", "--once"], given, home).stdout.decode("koi8-r").split())
    assert f"`sparky kill --off --strategy '{NAMES[0]}'` lifts it" in told
