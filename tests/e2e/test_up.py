"""`sparky up` as a new user meets it: one command, no keys, real processes, PostgreSQL, HTTP and signatures."""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import psutil

from tests.e2e.conftest import SparkyMaker
from tests.support.processes.crowding import slowed
from tests.support.processes.sparky import PATIENCE_S, Sparky
from tests.support.processes.supervised import is_alive, wait_until_gone

PROFILES = {"demo-conservative", "demo-balanced", "demo-aggressive"}


def has_traded(sparky: Sparky) -> Callable[[], bool]:
    """All three demo strategies have decided, a signal was delivered and a paper trade was closed."""

    def look() -> bool:
        with sparky.store() as store:
            decided = {row.strategy_name for row in store.list_decisions(limit=500)}
            delivered = [row for row in store.list_signals(limit=500) if row.status == "delivered"]
            return decided == PROFILES and len(delivered) > 0 and len(store.list_trades(limit=1)) > 0

    return look


def read(sparky: Sparky, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{sparky.monitor_port}{path}", timeout=PATIENCE_S) as answer:
        text: str = answer.read().decode()
    return text


def test_one_command_decides_delivers_and_books_and_ctrl_c_leaves_nobody(sparky_at: SparkyMaker) -> None:
    sparky = sparky_at(SPARKY_SIM_SPEED="120")
    sparky.start()
    sparky.wait_for(has_traded(sparky), "a booked paper trade of every profile's decisions")
    family = [process.pid for process in sparky.family()]
    with sparky.store() as store:
        first = {row.id for row in store.list_decisions(limit=1_000)}
        strategies = {row.id for row in store.list_strategies()}

    began = time.monotonic()
    assert sparky.press_ctrl_c() == 0
    assert time.monotonic() - began < slowed(10)
    assert not [pid for pid in family if is_alive(pid)]
    assert "child_died" not in sparky.log()

    sparky.start()
    sparky.wait_for(lambda: continued(sparky, first), "the same database going on")
    with sparky.store() as store:
        assert {row.id for row in store.list_strategies()} == strategies


def continued(sparky: Sparky, first: set[Any]) -> bool:
    with sparky.store() as store:
        now = {row.id for row in store.list_decisions(limit=1_000)}
        return first < now


def test_status_metrics_and_health_tell_what_runs(sparky_at: SparkyMaker) -> None:
    sparky = sparky_at(SPARKY_SIM_SPEED="120")
    sparky.start()
    sparky.wait_for(has_traded(sparky), "a booked paper trade")
    status = sparky.json("status")
    assert {row["name"] for row in status["strategies"]} == PROFILES
    pids = {row["pid"] for row in status["strategies"]}
    assert all(is_alive(pid) for pid in pids)
    metrics = read(sparky, "/metrics")
    for name in ("sparky_cycles_total", "sparky_decisions_total", "sparky_signals_total", "sparky_process_up"):
        assert f"\n{name}{{" in metrics
    assert json.loads(read(sparky, "/healthz"))
    doctor = sparky.run("doctor")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr


def test_a_killed_strategy_decides_again_and_the_others_never_stop(sparky_at: SparkyMaker) -> None:
    sparky = sparky_at()
    sparky.start()
    sparky.wait_for(has_traded(sparky), "a booked paper trade")
    before = {row["name"]: row for row in sparky.json("status")["strategies"]}
    os.kill(before["demo-balanced"]["pid"], signal.SIGKILL)

    def back() -> bool:
        row = next(r for r in sparky.json("status")["strategies"] if r["name"] == "demo-balanced")
        return bool(row["restarts"] == 1 and row["state"] == "running" and row["pid"] != before["demo-balanced"]["pid"])

    sparky.wait_for(back, "the killed strategy running again")
    after = {row["name"]: row for row in sparky.json("status")["strategies"]}
    for other in PROFILES - {"demo-balanced"}:
        assert (after[other]["pid"], after[other]["restarts"]) == (before[other]["pid"], 0)


def test_nothing_outlives_a_killed_supervisor_and_the_next_start_goes_on(sparky_at: SparkyMaker) -> None:
    sparky = sparky_at()
    sparky.start()
    sparky.wait_for(has_traded(sparky), "a booked paper trade")
    family = [process.pid for process in sparky.family()]
    assert sparky.process is not None
    psutil.Process(sparky.process.pid).kill()
    sparky.process.wait()
    wait_until_gone(family)
    sparky.start()
    sparky.wait_for(has_traded(sparky), "trades again")


def test_pausing_and_starting_a_row_stops_and_starts_its_process(sparky_at: SparkyMaker) -> None:
    sparky = sparky_at()
    sparky.start()
    sparky.wait_for(has_traded(sparky), "a booked paper trade")

    def row() -> dict[str, Any]:
        found: dict[str, Any] = next(r for r in sparky.json("status")["strategies"] if r["name"] == "demo-balanced")
        return found

    pid = row()["pid"]
    assert sparky.run("strategy", "pause", "demo-balanced").returncode == 0
    sparky.wait_for(lambda: not is_alive(pid), "the paused strategy's process ending")
    assert sparky.run("strategy", "start", "demo-balanced").returncode == 0
    sparky.wait_for(lambda: row()["state"] == "running" and row()["pid"] != pid, "the strategy running again")
