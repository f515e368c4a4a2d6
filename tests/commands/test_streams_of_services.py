"""What runs until it is told to stop, without its standard streams or its terminal: trading and serving go on."""

import fcntl
import os
import signal
import subprocess
import termios
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.processes.commands import ROOT, SPARKY
from tests.support.processes.descriptors import CLOSED, FULL, closing
from tests.support.processes.directories import short_directory
from tests.support.processes.sparky import PATIENCE_S, Sparky
from tests.support.processes.supervised import is_alive, wait_for
from tests.support.processes.terminal import Terminal


def started(sparky: Sparky, *words: str, **streams: Any) -> None:
    sparky.process = subprocess.Popen(
        [*SPARKY, *words], env=sparky.environ | {"PYTHONPATH": str(ROOT)}, cwd=sparky.home.parent, **streams
    )


def has_traded(sparky: Sparky) -> bool:
    with sparky.store() as store:
        return any(row.status == "delivered" for row in store.list_signals(limit=100))


def standard_streams(process: psutil.Process) -> set[str]:
    """Where its three streams lead; nothing of a process that is ending, such as a session of the database: it has
    closed its descriptors before it is gone."""
    try:
        return {str(Path(f"/proc/{process.pid}/fd/{number}").readlink()) for number in (0, 1, 2)}
    except OSError:  # "permission denied" where it went between two steps of the kernel
        wait_for(lambda: not is_alive(process.pid), f"the end of {process.pid}, which has closed its streams")
        return set()


def stopped(sparky: Sparky) -> int:
    assert sparky.process is not None
    sparky.process.terminate()
    return sparky.process.wait(120)


def with_terminal(slave: int) -> Callable[[], None]:
    """For `preexec_fn`: a session of its own with this terminal, as at a login."""

    def take() -> None:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    return take


def test_up_starts_trades_and_stops_as_usual_without_its_streams() -> None:
    with short_directory() as root:
        tried = [closed for closed in CLOSED if closed != "<&-"]
        made = {closed: Sparky(root / f"h{number}", SPARKY_SIM_SPEED="120") for number, closed in enumerate(tried)}
        try:
            for closed, sparky in made.items():
                with sparky.log_path.open("wb") as log:
                    streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
                    started(sparky, "up", **streams, preexec_fn=closing(*CLOSED[closed]))
            for closed, sparky in made.items():
                sparky.wait_for(partial(has_traded, sparky), f"a delivered signal with {closed}")
            wholly = made["<&- >&- 2>&-"]
            assert {name for process in wholly.family() for name in standard_streams(process)} <= {
                "/dev/null",
                str(wholly.home / "postgres.log"),
            }
            assert {closed: stopped(sparky) for closed, sparky in made.items()} == dict.fromkeys(tried, 0)
            assert (wholly.home / "run" / "supervisor.lock").read_text().isdigit()
            assert not any("child_died" in sparky.log() for sparky in made.values())
        finally:
            for sparky in made.values():
                sparky.close()


def test_up_goes_on_when_its_terminal_after_nohup_its_reader_or_its_disk_is_gone() -> None:
    terminal = Terminal(80)
    reader, writer = os.pipe()
    with short_directory() as root, Path(FULL).open("wb") as full:
        made = [Sparky(root / f"h{number}", SPARKY_SIM_SPEED="120", SPARKY_LOG_FORMAT="auto") for number in range(3)]
        try:
            on_terminal = dict.fromkeys(("stdin", "stdout", "stderr"), terminal.slave)
            started(made[0], "up", **on_terminal, preexec_fn=after_nohup(with_terminal(terminal.slave)))
            started(made[1], "up", stdin=subprocess.DEVNULL, stdout=writer, stderr=writer)
            started(made[2], "up", stdin=subprocess.DEVNULL, stdout=full, stderr=full)
            os.close(writer)
            for sparky in made:
                sparky.wait_for(lambda: sparky.json("status")["shared"], "the monitor")  # noqa: B023 - called here
            os.close(reader)
            terminal.hang_up()
            before = [_decided(sparky) for sparky in made]
            for sparky, decided in zip(made, before, strict=True):
                sparky.wait_for(lambda: _decided(sparky) > decided + 2, "decisions after that")  # noqa: B023 - as above
                sparky.wait_for(partial(has_traded, sparky), "a delivered signal after that")
            assert [stopped(sparky) for sparky in made] == [0, 0, 0]
        finally:
            for sparky in made:
                sparky.close()
            terminal.close()


def after_nohup(prepare: Callable[[], None]) -> Callable[[], None]:
    """As ``nohup`` starts a program: it is not to hear of its terminal's end."""

    def ignoring() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        prepare()

    return ignoring


@pytest.mark.parametrize("command", ["up", "serve"])
def test_what_a_terminal_runs_stops_in_order_when_it_hangs_up(database_url: str, command: str) -> None:
    terminal = Terminal(80)
    with short_directory() as root:
        sparky = Sparky(root / "home", DATABASE_URL=database_url)
        try:
            on_terminal = dict.fromkeys(("stdin", "stdout", "stderr"), terminal.slave)
            started(sparky, command, **on_terminal, preexec_fn=with_terminal(terminal.slave))
            process = sparky.process
            assert process is not None
            sparky.wait_for(lambda: _answers(sparky), "the webhook server")
            terminal.hang_up()
            assert process.wait(180) == 0  # a patience, for a crowded machine
        finally:
            sparky.close()
            terminal.close()


def _decided(sparky: Sparky) -> int:
    with sparky.store() as store:
        return len(store.list_decisions(limit=1_000))


@pytest.mark.parametrize("closed", [(), (2,)])
def test_serve_goes_on_after_nohup_when_its_terminal_is_gone(database_url: str, closed: Sequence[int]) -> None:
    terminal = Terminal(80)
    with short_directory() as root:
        sparky = Sparky(root / "home", DATABASE_URL=database_url)
        try:
            on_terminal = dict.fromkeys(("stdin", "stdout", "stderr"), terminal.slave)

            def prepare() -> None:
                after_nohup(with_terminal(terminal.slave))()
                closing(*closed)()

            started(sparky, "serve", **on_terminal, preexec_fn=prepare)
            process = sparky.process
            assert process is not None
            sparky.wait_for(lambda: _answers(sparky), "the webhook server")
            terminal.hang_up()
            wait_for(lambda: process.poll() is not None or not _is_pending(process.pid, signal.SIGHUP), "the signal")
            sparky.wait_for(lambda: _answers(sparky), "the webhook server going on")
            assert stopped(sparky) == 0
        finally:
            sparky.close()
            terminal.close()


def _answers(sparky: Sparky) -> bool:
    import requests

    return requests.get(f"{sparky.url('webhook')}/health", timeout=PATIENCE_S).ok


def _is_pending(pid: int, number: int) -> bool:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool((int(status["ShdPnd"], 16) | int(status["SigPnd"], 16)) >> (number - 1) & 1)
