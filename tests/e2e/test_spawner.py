"""What becomes of everybody when no fork server comes to life, on real processes."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from actors.runtime.restart_policy import MAX_RESTARTS
from tests.support.processes.supervised import PATIENCE_S, ROOT, Supervised, spec

# Python runs this first thing, in every process that finds it.
UNFIT = """
import os, sys
if "actors.runtime.forkserver" in sys.orig_argv and not os.path.exists(os.path.join(os.path.dirname(__file__), "well")):
    os._exit(3)
"""
LOST = "fork server lost"


@pytest.fixture
def unfit(home: Path) -> tuple[Path, dict[str, str]]:
    """A file that must exist for a fork server to warm up, and the environment that makes it so."""
    (home / "sitecustomize.py").write_text(UNFIT)
    return home / "well", {"PYTHONPATH": f"{home}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}


def test_a_start_without_any_fork_server_ends_after_some_attempts_with_one_sentence(
    home: Path, unfit: tuple[Path, dict[str, str]]
) -> None:
    with Supervised(home / "run", [spec("one", "steady"), spec("two", "steady")], environ=unfit[1]) as running:
        assert running.process.wait(PATIENCE_S) == 1
        assert running.log().count(LOST) == MAX_RESTARTS + 1
        assert "exit 3" in running.log()
        assert "no child can be started" in running.log()
        assert running.events == []


def test_once_somebody_was_ready_a_fork_server_is_tried_until_it_comes_to_life(
    home: Path, unfit: tuple[Path, dict[str, str]]
) -> None:
    well, environ = unfit
    well.touch()
    with Supervised(home / "run", [spec("one", "steady")], environ=environ) as running:
        one = running.wait_for("one", "running")["pid"]
        seen = len(running.events)
        well.unlink()
        for process in psutil.Process(running.process.pid).children():  # the fork server first: it forks no other
            if process.pid != one:
                process.kill()
        os.kill(one, signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE_S
        while running.log().count(LOST) < MAX_RESTARTS + 2:
            assert running.process.poll() is None, running.log()
            assert time.monotonic() < deadline, running.log()
            time.sleep(0.02)
        well.touch()
        assert running.wait_for("one", "running", after=seen)["pid"] != one
        assert running.stop() == 0


def test_a_fork_server_that_answers_nothing_is_replaced_and_everybody_goes_on(home: Path) -> None:
    with Supervised(home / "run", [spec("one", "steady"), spec("two", "steady")]) as running:
        pids = {name: running.wait_for(name, "running")["pid"] for name in ("one", "two")}
        (server,) = (p for p in psutil.Process(running.process.pid).children() if p.pid not in pids.values())
        seen = len(running.events)
        server.suspend()
        os.kill(pids["one"], signal.SIGKILL)
        assert running.wait_for("one", "running", after=seen)["pid"] != pids["one"]
        assert not server.is_running()
        assert "two" not in {e["name"] for e in running.events[seen:]}
        assert running.log().count(LOST) >= 1  # on a crowded machine its successor may be too slow as well
        assert running.stop() == 0
