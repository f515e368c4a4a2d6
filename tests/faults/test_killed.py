"""kill -9 of each kind of child while 50 strategies work, on the real product."""

import json
import os
import signal
import time
from statistics import quantiles
from typing import Any

import pytest

from tests.faults.conftest import Note
from tests.support.processes.crowding import Metronome, slowed
from tests.support.processes.fleet import FIXED, FORK_SERVER, Fleet
from tests.support.processes.supervised import is_alive, wait_until_gone

PATIENCE_S = 180.0
LATER_S = 0.05  # what is promised of the 99th percentile, on a machine that is late with nothing else
WATCHED_S = 15.0


def pids_of(fleet: Fleet) -> dict[str, int]:
    return {name: child["pid"] for name, child in fleet.strategies().items()}


def killed(fleet: Fleet, name: str) -> float:
    """Kills it and waits for its successor; seconds until that was seen at its work."""
    pid = fleet.living(name)
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)

    def is_replaced() -> bool:
        now = fleet.pid(name)
        return now is not None and now != pid

    fleet.wait_for(is_replaced, f"another {name}", PATIENCE_S)
    assert not is_alive(pid)
    return time.monotonic() - began


def test_killed_strategies_come_back_and_the_others_keep_their_cadence(fleet: Fleet, measured: Note) -> None:
    before = pids_of(fleet)
    victims = list(before)[:5]
    others = fleet.ids - {name.removeprefix("strategy-") for name in victims}
    pending, back = list(victims), []

    def kill_one() -> None:
        if pending:
            back.append(killed(fleet, pending.pop()))

    with Metronome() as machine:
        undisturbed = fleet.lateness_of(others, WATCHED_S)
        disturbed = fleet.lateness_of(others, WATCHED_S, kill_one)
    after = pids_of(fleet)
    assert {name for name in before if before[name] != after[name]} == set(victims)
    assert len(disturbed) >= len(others)
    calm_s, killing_s = (quantiles(late, n=100)[98] for late in (undisturbed, disturbed))
    measured(
        f"lateness p99 {calm_s * 1000:.1f} ms undisturbed ({len(undisturbed)} ticks), {killing_s * 1000:.1f} ms while "
        f"5 others were killed ({len(disturbed)} ticks); the machine itself up to {machine.latest_s * 1000:.1f} ms late"
    )
    assert killing_s <= calm_s + LATER_S + 3 * machine.latest_s
    measured(f"killed strategy reported ready after at most {max(back):.2f} s (reports come once a second)")


def test_a_killed_strategy_has_completed_its_first_tick_within_moments(fleet: Fleet, measured: Note) -> None:
    name = next(iter(fleet.strategies()))
    seen = len(fleet.log_path.read_text())
    killed(fleet, name)
    (ready,) = [line for line in events(fleet, seen) if line["event"] == "ready"]
    assert ready["took_s"] < slowed(5)
    measured(f"a killed strategy had completed its first tick {ready['took_s']:.2f} s after its fork")


def events(fleet: Fleet, seen: int) -> list[dict[str, Any]]:
    lines = fleet.log_path.read_text()[seen:].splitlines()
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


@pytest.mark.parametrize("name", [*FIXED, FORK_SERVER])
def test_whatever_shared_is_killed_no_strategy_is_and_every_one_decides_again_within_its_deadline(
    fleet: Fleet, name: str, measured: Note
) -> None:
    before, counted = pids_of(fleet), sum(fleet.samples("sparky_cycles_total").values())
    restarts = {key: fleet.children()[key]["restarts"] for key in FIXED}
    if name == FORK_SERVER:
        os.kill(fleet.living(FORK_SERVER), signal.SIGKILL)
        took_s = killed(fleet, next(iter(before)))  # the next child that is needed brings another fork server
    else:
        took_s = killed(fleet, name)
    again_s = fleet.wait_for_cycles(300)
    assert again_s < slowed(8 + 5 + 30)  # a cycle's deadline, a cadence, and whoever starts again
    after = pids_of(fleet)
    assert sum(before[key] != after[key] for key in before) == (name == FORK_SERVER)
    assert {key for key in FIXED if fleet.children()[key]["restarts"] != restarts[key]} <= {name}
    assert sum(fleet.samples("sparky_cycles_total").values()) > counted
    measured(f"{name} killed: replaced within {took_s:.1f} s, every strategy decided again within {again_s:.1f} s")


def test_counters_never_fall_while_strategies_and_shared_actors_and_the_monitor_itself_die(fleet: Fleet) -> None:
    names = (
        "sparky_cycles_total",
        "sparky_decisions_total",
        "sparky_llm_requests_total",
        "sparky_process_restarts_total",
    )
    last: dict[tuple[str, ...], float] = {}
    victims = ["limiter", "monitor", "dispatcher", next(iter(fleet.strategies())), "monitor"]

    def look() -> None:
        if victims:
            killed(fleet, victims.pop())
        now = {(name, *labels): value for name in names for labels, value in fleet.samples(name).items()}
        fallen = {key: (value, now.get(key)) for key, value in last.items() if now.get(key, 0.0) < value}
        assert not fallen
        last.update(now)

    fleet.watch(6, look)
    assert last


def test_a_stopped_strategy_is_found_by_its_broken_promise_and_replaced(fleet: Fleet) -> None:
    before = pids_of(fleet)
    name = next(iter(before))
    stalls = stalled(fleet, name)
    os.kill(before[name], signal.SIGSTOP)
    wait_until_gone([before[name]])
    fleet.wait_for(lambda: fleet.pid(name) not in (None, before[name]), "the strategy at its work again", PATIENCE_S)
    assert stalled(fleet, name) == stalls + 1
    after = pids_of(fleet)
    assert {key for key in before if before[key] != after[key]} == {name}


def stalled(fleet: Fleet, name: str) -> int:
    """How often it was killed for a broken promise."""
    return int(fleet.strategies()[name]["restart_reasons"].get("stalled", 0))


def test_a_strategy_that_is_asked_to_restart_gets_another_process(fleet: Fleet) -> None:
    before = fleet.strategies()
    name = next(iter(before))
    done = fleet.run("strategy", "restart", name.removeprefix("strategy-"))
    assert done.returncode == 0, done.stderr
    fleet.wait_for(lambda: fleet.pid(name) not in (None, before[name]["pid"]), "another process", PATIENCE_S)
    assert fleet.strategies()[name]["restarts"] == before[name]["restarts"]


def test_at_last_all_of_it_stops_cleanly(fleet: Fleet) -> None:
    family = [process.pid for process in fleet.family()]
    assert fleet.process is not None
    fleet.process.send_signal(signal.SIGTERM)
    assert fleet.process.wait(PATIENCE_S) == 0
    wait_until_gone(family)
