"""Signals that reach more than the supervisor: a terminal, `timeout`, process managers and control groups send them to
every process. The order of the stop is the supervisor's all the same."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.processes.supervised import (
    PATIENCE_S,
    Supervised,
    fork_servers,
    is_alive,
    spec,
    wait_for,
    wait_until_gone,
)

STOPS = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR2, signal.SIGALRM, signal.SIGPWR]
OTHERS = [signal.SIGHUP, signal.SIGUSR1, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO, signal.SIGRTMIN + 3]
LOST = "fork server lost"

Send = Callable[[Supervised], None]


def to_the_group(number: int) -> Send:
    return lambda running: os.killpg(running.process.pid, number)


def to_each(number: int, seed: int) -> Send:
    """Every process of the tree twice, in an order that `seed` gives; new ones are not looked for."""

    def send(running: Supervised) -> None:
        family = running.family() * 2
        random.Random(seed).shuffle(family)
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    return send


def assert_stops_in_order(run_dir: Path, send: Send, launcher: tuple[str, ...] = ()) -> None:
    """The child of the later stage has all the time that it needs while the one of the earlier stage is there."""
    late, early = run_dir.parent / "late", run_dir.parent / "early"
    specs = [
        spec("early", "slow", argument=str(early), grace_s=60.0),
        spec("late", "slow", argument=str(late), stage=1, grace_s=60.0),
    ]
    with Supervised(run_dir, specs, launcher=launcher) as running:
        running.wait_for("late", "running")
        family = [process.pid for process in running.family()]
        seen = len(running.events)
        send(running)
        running.wait_for("early", "done", after=seen)
        assert running.process.wait(PATIENCE_S) == 0, running.log()
        states = [(event["name"], event["state"]) for event in running.events[seen:]]
        assert states == [("late", "stopping"), ("late", "done"), ("early", "stopping"), ("early", "done")]
        assert float(late.read_text()) < float(early.read_text()) - 1.4
        assert LOST not in running.log()
        wait_until_gone(family)


@pytest.mark.parametrize("number", STOPS, ids=lambda number: number.name)
def test_a_stop_that_is_sent_to_the_whole_group_goes_stage_by_stage(run_dir: Path, number: signal.Signals) -> None:
    assert_stops_in_order(run_dir, to_the_group(number))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_under_timeout_the_stop_goes_stage_by_stage(run_dir: Path, number: signal.Signals) -> None:
    """`timeout` sends what it was sent to its child, and then to the whole group: to the supervisor twice."""
    assert_stops_in_order(run_dir, lambda running: running.process.send_signal(number), ("timeout", "600"))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT], ids=lambda number: number.name)
def test_a_stop_that_is_sent_to_each_process_twice_goes_stage_by_stage(
    run_dir: Path, number: signal.Signals, seed: int
) -> None:
    assert_stops_in_order(run_dir, to_each(number, seed))


def test_a_stop_that_is_repeated_until_the_last_moment_ends_with_0(run_dir: Path) -> None:
    specs = [spec("one", "steady", grace_s=60.0), spec("two", "steady", stage=1, grace_s=60.0)]
    with Supervised(run_dir, specs) as running:
        running.wait_for("two", "running")
        ended = threading.Event()

        def repeat() -> None:
            while not ended.wait(0.01):  # often enough to meet every moment, and leaving the others their time
                with suppress(ProcessLookupError):
                    os.killpg(running.process.pid, signal.SIGTERM)

        repeating = threading.Thread(target=repeat)
        repeating.start()
        code = running.process.wait(PATIENCE_S)
        ended.set()
        repeating.join()
        assert code == 0, running.log()


def test_a_stop_of_the_group_while_children_start_ends_with_0(run_dir: Path) -> None:
    there = run_dir.parent / "there"
    specs = [spec("slow", "slow_to_make", argument=str(there), grace_s=60.0), spec("other", "slow_to_start")]
    with Supervised(run_dir, specs) as running:
        wait_for(there.exists, "the child being there")
        os.killpg(running.process.pid, signal.SIGTERM)
        assert running.process.wait(PATIENCE_S) == 0, running.log()
        assert "child died" not in running.log()


@pytest.mark.parametrize("number", [*STOPS, *OTHERS])
def test_a_child_that_gets_a_signal_of_others_goes_on(run_dir: Path, number: int) -> None:
    there = run_dir.parent / "there"
    specs = [spec("one", "steady"), spec("starting", "slow_to_make", argument=str(there), start_deadline_s=600.0)]
    with Supervised(run_dir, specs) as running:
        one = running.wait_for("one", "running")
        starting = running.wait_for("starting", "starting")
        wait_for(there.exists, "the child being there")
        for pid in (one["pid"], starting["pid"]):
            os.kill(pid, number)
        for process in fork_servers(running):
            process.send_signal(number)
        seen = len(running.events)
        running.plan([*specs, spec("new", "steady")])
        running.process.send_signal(signal.SIGHUP)
        running.wait_for("new", "running", after=seen)
        assert [event["name"] for event in running.events[seen:]] == ["new", "new"]
        assert is_alive(one["pid"])
        assert is_alive(starting["pid"])
        assert running.stop() == 0, running.log()
        assert LOST not in running.log()


def test_a_child_that_ignored_a_signal_can_still_be_killed_and_comes_back(run_dir: Path) -> None:
    with Supervised(run_dir, [spec("one", "steady")]) as running:
        first = running.wait_for("one", "running")
        os.kill(first["pid"], signal.SIGTERM)
        seen = len(running.events)
        os.kill(first["pid"], signal.SIGKILL)
        assert running.wait_for("one", "running", after=seen)["restarts"] == 1


def test_a_child_that_ignored_a_signal_ends_with_its_supervisor(run_dir: Path) -> None:
    specs = [spec("one", "steady"), spec("two", "steady", death_signal=int(signal.SIGTERM))]
    with Supervised(run_dir, specs) as running:
        pids = [running.wait_for(name, "running")["pid"] for name in ("one", "two")]
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        running.process.kill()
        running.process.wait()
        wait_until_gone(pids)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT], ids=lambda number: number.name)
def test_a_fork_server_that_is_signalled_while_it_warms_up_is_not_lost(run_dir: Path, number: signal.Signals) -> None:
    with Supervised(run_dir, [spec("one", "steady")]) as running:
        stop = threading.Event()

        def pester() -> None:
            while not stop.wait(0.01):
                with suppress(psutil.NoSuchProcess):
                    for process in psutil.Process(running.process.pid).children():
                        process.send_signal(number)

        pestering = threading.Thread(target=pester)
        pestering.start()
        try:
            running.wait_for("one", "running")
        finally:
            stop.set()
            pestering.join()
        assert LOST not in running.log()
        assert running.stop() == 0


def test_a_second_order_to_stop_shortens_the_patience_only_when_it_comes_later(run_dir: Path) -> None:
    with Supervised(run_dir, [spec("one", "deaf", grace_s=600.0)]) as running:
        running.wait_for("one", "running")
        running.process.send_signal(signal.SIGTERM)
        running.wait_for("one", "stopping")
        deadline = time.monotonic() + PATIENCE_S
        while running.process.poll() is None and time.monotonic() < deadline:
            with suppress(ProcessLookupError):
                running.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
        assert running.process.wait(PATIENCE_S) == 1
