"""Every way for one child to go wrong, on a real supervisor and real processes with one known habit each."""

import json
import os
import resource
import signal
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from actors.runtime.os_signals import REPEATED_SIGNAL_S
from tests.support.processes.supervised import (
    PATIENCE_S,
    Supervised,
    fork_servers,
    is_alive,
    spec,
    strategies_file,
    wait_for,
    wait_until_gone,
)


def told_of_parking(wanted: Path) -> dict[str, Any]:
    """What the strategy watcher was told."""
    parked = wanted.with_suffix(".parked")
    deadline = time.monotonic() + PATIENCE_S
    while not (parked.exists() and parked.read_text().endswith("\n")) and time.monotonic() < deadline:
        time.sleep(0.02)
    told: dict[str, Any] = json.loads(parked.read_text().splitlines()[0])
    return told


@pytest.mark.parametrize("habit", ["spinning", "blocked", "deadlocked"])
def test_a_child_that_breaks_its_promise_is_killed_and_its_traceback_logged(run_dir: Path, habit: str) -> None:
    with Supervised(run_dir, [spec("stuck", habit, tick_deadline_s=0.5), spec("other", "steady")]) as running:
        running.wait_for("stuck", "running")
        died = running.wait_for("stuck", "backoff")
        assert died["cause"] == "stalled"
        # Each time it has a moment to write it, which a crowded machine may not give it at once.
        wait_for(lambda: "tests/support/processes/children.py" in running.log(), "the traceback")


def test_a_stopped_process_is_found_and_replaced(run_dir: Path) -> None:
    with Supervised(run_dir, [spec("frozen", "steady", tick_deadline_s=10.0)]) as running:
        first = running.wait_for("frozen", "running")
        seen = len(running.events)
        os.kill(first["pid"], signal.SIGSTOP)
        again = running.wait_for("frozen", "running", after=seen)
        assert again["pid"] != first["pid"]
        assert not is_alive(first["pid"])


def test_a_strategy_that_keeps_crashing_is_parked_with_its_last_traceback(run_dir: Path) -> None:
    strategy_id = str(uuid.uuid4())
    wanted = strategies_file(run_dir, strategy_id)
    with Supervised(run_dir, [spec("strategy-watcher", "file_watcher", argument=str(wanted))], "crashing") as running:
        running.wait_for(f"strategy-{strategy_id}", "parked")
        told = told_of_parking(wanted)
        assert told["name"] == f"strategy-{strategy_id}"
        assert "6 crashes" in told["reason"]
        assert "as it was told to" in told["traceback"]
        seen = len(running.events)
        strategies_file(run_dir, strategy_id, revision="2")
        again = running.wait_for(f"strategy-{strategy_id}", "starting", after=seen)
        assert again["restarts"] == 0


def test_a_child_that_ignores_the_request_to_end_is_killed_and_the_exit_is_unclean(run_dir: Path) -> None:
    with Supervised(run_dir, [spec("deaf", "deaf", grace_s=0.5)]) as running:
        deaf = running.wait_for("deaf", "running")
        assert running.stop() == 1
        assert not is_alive(deaf["pid"])


def test_a_child_over_its_memory_cap_is_replaced(run_dir: Path) -> None:
    with Supervised(run_dir, [spec("hungry", "hungry", memory_mb=150)]) as running:
        assert running.wait_for("hungry", "backoff")["cause"] == "memory"


def test_nothing_outlives_a_killed_supervisor(run_dir: Path) -> None:
    with Supervised(run_dir, [spec("one", "steady"), spec("two", "deaf")]) as running:
        pids = [running.wait_for(name, "running")["pid"] for name in ("one", "two")]
        running.process.send_signal(signal.SIGKILL)
        running.process.wait(PATIENCE_S)
        wait_until_gone(pids)


def test_a_second_supervisor_on_the_same_home_is_refused_with_the_first_ones_pid(run_dir: Path) -> None:
    with Supervised(run_dir, [spec("one", "steady")]) as running:
        running.wait_for("one", "running")
        with Supervised(run_dir, [spec("one", "steady")]) as second:
            assert second.process.wait(PATIENCE_S) != 0
            assert str(running.process.pid) in second.log()
        assert is_alive(running.process.pid)


def test_a_dead_fork_server_is_replaced_without_touching_living_children(run_dir: Path) -> None:
    with Supervised(run_dir, [spec("one", "steady"), spec("two", "steady")]) as running:
        pids = {name: running.wait_for(name, "running")["pid"] for name in ("one", "two")}
        (server,) = fork_servers(running)
        seen = len(running.events)
        server.kill()
        os.kill(pids["one"], signal.SIGKILL)
        running.wait_for("one", "running", after=seen)
        assert is_alive(pids["two"])
        assert "two" not in {e["name"] for e in running.events[seen:]}


def test_a_second_signal_hurries_the_stop(run_dir: Path) -> None:
    with Supervised(run_dir, [spec("deaf", "deaf", grace_s=600.0)]) as running:
        running.wait_for("deaf", "running")
        running.process.send_signal(signal.SIGTERM)
        running.wait_for("deaf", "stopping")
        time.sleep(REPEATED_SIGNAL_S + 0.1)  # sooner it would be the same order, repeated
        began = time.monotonic()
        assert running.stop() == 1
        assert time.monotonic() - began < PATIENCE_S


def test_without_descriptors_left_children_and_fork_server_are_still_replaced_and_it_is_logged(run_dir: Path) -> None:
    with Supervised(run_dir, [spec("one", "steady"), spec("two", "crashing_later")]) as running:
        one = running.wait_for("one", "running")
        (server,) = fork_servers(running)
        used = [int(link.name) for link in Path(f"/proc/{running.process.pid}/fd").iterdir()]
        limits = (max(used) + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE, limits)
        seen = len(running.events)
        server.kill()
        os.kill(one["pid"], signal.SIGKILL)
        running.wait_for("one", "running", after=seen)
        running.wait_for("two", "backoff", after=seen)
        assert "as it was told to" in running.log()
        assert "child died" in running.log()
        assert running.stop() == 0


def test_a_child_that_leaks_descriptors_ends_alone(run_dir: Path) -> None:
    specs = [spec("leaking", "leaking", memory_mb=256), spec("other", "steady")]
    with Supervised(run_dir, specs) as running:
        other = running.wait_for("other", "running")
        running.wait_for("leaking", "backoff")
        assert "Too many open files" in running.log()
        assert is_alive(other["pid"])


def test_a_child_that_allocates_faster_than_anybody_watches_meets_its_hard_limit(run_dir: Path) -> None:
    with Supervised(run_dir, [spec("hog", "hog", memory_mb=100), spec("other", "steady")]) as running:
        other = running.wait_for("other", "running")
        assert running.wait_for("hog", "backoff")["cause"] == "exit 1"
        assert "MemoryError" in running.log()
        assert is_alive(other["pid"])


def test_six_crashes_each_after_a_life_of_work_park_a_strategy(run_dir: Path) -> None:
    strategy_id = str(uuid.uuid4())
    wanted = strategies_file(run_dir, strategy_id)
    watcher = spec("strategy-watcher", "file_watcher", argument=str(wanted))
    with Supervised(run_dir, [watcher], "crashing_later") as running:
        running.wait_for(f"strategy-{strategy_id}", "parked")
        states = [e["state"] for e in running.events if e["name"] == f"strategy-{strategy_id}"]
        assert states.count("running") == 6


def test_a_strategy_whose_configuration_is_bad_is_parked_at_once(run_dir: Path) -> None:
    strategy_id = str(uuid.uuid4())
    wanted = strategies_file(run_dir, strategy_id)
    watcher = spec("strategy-watcher", "file_watcher", argument=str(wanted))
    with Supervised(run_dir, [watcher], "misconfigured") as running:
        parked = running.wait_for(f"strategy-{strategy_id}", "parked")
        assert (parked["restarts"], parked["cause"]) == (0, "exit 78")
        assert "port 1 is taken" in told_of_parking(wanted)["traceback"]


def test_a_child_that_does_not_become_ready_in_its_time_is_killed_and_counted(run_dir: Path) -> None:
    with Supervised(run_dir, [spec("late", "never_ready", start_deadline_s=0.5)]) as running:
        assert running.wait_for("late", "backoff")["cause"] == "stalled"
