"""The supervisor on real processes and real signals."""

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

from actors.runtime.process_manager import ORPHAN_GRACE_S
from tests.support.processes.supervised import (
    PATIENCE_S,
    ROOT,
    Supervised,
    is_alive,
    spec,
    strategies_file,
    wait_for,
    wait_until_gone,
)


def test_children_start_stage_by_stage_and_stop_in_reverse(run_dir: Path) -> None:
    specs = [spec("late", "steady", stage=2), spec("early", "steady", stage=1)]
    with Supervised(run_dir, specs) as running:
        running.wait_for("late", "running")
        assert [e["name"] for e in running.events if e["state"] == "running"] == ["early", "late"]
        pids = [e["pid"] for e in running.events if e["state"] == "running"]
        assert running.stop() == 0
        running.wait_for("early", "done")
        assert [e["name"] for e in running.events if e["state"] == "done"] == ["late", "early"]
        assert not any(is_alive(pid) for pid in pids)


def test_a_killed_child_is_started_again_and_the_others_are_left_alone(run_dir: Path) -> None:
    with Supervised(run_dir, [spec("one", "steady"), spec("two", "steady")]) as running:
        first = running.wait_for("one", "running")
        other = running.wait_for("two", "running")
        seen = len(running.events)
        os.kill(first["pid"], signal.SIGKILL)
        again = running.wait_for("one", "running", after=seen)
        assert again["pid"] != first["pid"]
        assert again["restarts"] == 1
        assert is_alive(other["pid"])
        assert "two" not in {e["name"] for e in running.events[seen:]}


def test_strategies_come_and_go_with_the_watcher(run_dir: Path) -> None:
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    wanted = strategies_file(run_dir, first)
    with Supervised(run_dir, [spec("strategy-watcher", "file_watcher", argument=str(wanted))]) as running:
        one = running.wait_for(f"strategy-{first}", "running")
        strategies_file(run_dir, second)
        running.wait_for(f"strategy-{second}", "running")
        wait_until_gone([one["pid"]])


def test_a_shared_child_that_can_never_run_ends_the_whole_start(run_dir: Path) -> None:
    with Supervised(run_dir, [spec("fine", "steady"), spec("unfit", "misconfigured", stage=1)]) as running:
        fine = running.wait_for("fine", "running")
        assert running.process.wait(PATIENCE_S) == 78
        assert "port 1 is taken" in running.log()
        assert not is_alive(fine["pid"])


def test_a_child_that_ends_well_is_not_started_again(run_dir: Path) -> None:
    specs = [spec("once", "finishing", restart="transient"), spec("after", "steady", stage=1)]
    with Supervised(run_dir, specs) as running:
        running.wait_for("after", "running")
        running.wait_for("once", "done")  # which may be heard of later than that the next stage runs
        seen = len(running.events)
        assert running.stop() == 0
        assert "once" not in {e["name"] for e in running.events[seen:]}


def test_hup_restarts_only_the_children_whose_spec_has_changed(run_dir: Path) -> None:
    specs = [spec("same", "steady"), spec("other", "steady", grace_s=1.0), spec("gone", "steady")]
    with Supervised(run_dir, specs) as running:
        before = {name: running.wait_for(name, "running")["pid"] for name in ("same", "other", "gone")}
        seen = len(running.events)
        running.plan([spec("same", "steady"), spec("other", "steady", grace_s=2.0), spec("new", "steady")])
        running.process.send_signal(signal.SIGHUP)
        after = {name: running.wait_for(name, "running", after=seen) for name in ("other", "new")}
        assert after["other"]["pid"] != before["other"]
        assert after["other"]["restarts"] == 0
        wait_until_gone([before["gone"]])
        assert is_alive(before["same"])
        assert "same" not in {e["name"] for e in running.events[seen:]}
        assert running.stop() == 0


def test_usr1_writes_the_state_of_every_child_into_the_log(run_dir: Path) -> None:
    with Supervised(run_dir, [spec("one", "steady"), spec("two", "steady")]) as running:
        pids = [running.wait_for(name, "running")["pid"] for name in ("one", "two")]
        running.process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + PATIENCE_S
        while not all(f"pid={pid}" in running.log() for pid in pids):
            assert time.monotonic() < deadline, running.log()
            time.sleep(0.02)


def test_systemd_hears_ready_after_the_first_completed_work_then_the_watchdog_then_stopping(run_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(run_dir.parent / "notify"))
        manager.settimeout(PATIENCE_S)
        # Ten messages wait at most until they are read: half a minute of what this test may be late.
        environ = {"NOTIFY_SOCKET": str(run_dir.parent / "notify"), "WATCHDOG_USEC": "6000000"}
        with Supervised(run_dir, [spec("one", "slow_to_start")], environ=environ) as running:
            heard: list[str] = []
            while not any("READY=1" in word for word in heard):
                heard.append(manager.recv(4_096).decode())
            heard_at = time.monotonic()
            assert running.wait_for("one", "running")["at"] <= heard_at
            while heard[-1] != "WATCHDOG=1":
                heard.append(manager.recv(4_096).decode())
            running.process.send_signal(signal.SIGTERM)
            while heard[-1] != "STOPPING=1":
                heard.append(manager.recv(4_096).decode())
            assert running.process.wait(PATIENCE_S) == 0


def test_a_child_told_to_end_before_it_can_listen_ends_at_once_and_cleanly(run_dir: Path) -> None:
    there = run_dir.parent / "there"
    with Supervised(run_dir, [spec("slow", "slow_to_make", argument=str(there), grace_s=120.0)]) as running:
        wait_for(there.exists, "the child being there")
        assert running.stop() == 0


def test_a_name_of_any_length_and_any_characters_starts_like_every_other(run_dir: Path) -> None:
    odd = "\n\t'\"\\ \u202e💥 %s {} ../ " + "x" * 200_000
    with Supervised(run_dir, [spec("odd", "steady", title=odd), spec("other", "steady")]) as running:
        for name in ("odd", "other"):
            running.wait_for(name, "running")
        assert running.stop() == 0


def test_a_child_whose_settings_are_too_large_to_be_handed_over_keeps_nobody_else_from_starting(run_dir: Path) -> None:
    with Supervised(run_dir, [spec("huge", "steady", argument="x" * 200_000), spec("other", "steady")]) as running:
        running.wait_for("other", "running")
        wait_for(lambda: "too large" in running.log(), "the reason in the log")
        assert running.stop() == 0


def test_more_children_than_places_are_refused_and_told() -> None:
    code = (
        "import pathlib, tempfile; from actors.runtime.heartbeat import SLOTS\n"
        "from actors.runtime.process_manager import ProcessManager\n"
        "with tempfile.TemporaryDirectory() as home:\n"
        "    manager = ProcessManager(pathlib.Path(home))\n"
        "    places = [manager.allocate_slot() for _ in range(SLOTS + 1)]\n"
        "    assert sorted(places[:-1]) == list(range(SLOTS)) and places[-1] is None\n"
        "    assert manager.allocate_slot() is None\n"
        "    manager.free_slot(7)\n"
        "    assert manager.allocate_slot() == 7\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("heartbeat_slots_exhausted") == 1


def test_children_from_before_sparky_was_there_are_left_alone(tmp_path: Path) -> None:
    code = (
        "import pathlib, subprocess, tempfile, time; from actors.runtime.process_manager import ProcessManager\n"
        "with tempfile.TemporaryDirectory() as home:\n"
        "    manager = ProcessManager(pathlib.Path(home))\n"
        "    orphan = subprocess.Popen(['/bin/sleep', '600'])\n"
        "    while orphan.pid not in {pid for pid, _ in manager.reap()}: time.sleep(0.05)\n"
        "    orphan.returncode = 0\n"
        "    began_at = time.monotonic(); manager.close(); print('closed', time.monotonic() - began_at)\n"
    )
    pids = tmp_path / "pids"
    script = (
        f'/bin/sleep 600 >/dev/null 2>&1 & echo $! >"{pids}"\n'
        f'"$0" -c "import time; time.sleep(600)" >/dev/null 2>&1 & echo $! >>"{pids}"\n'
        'exec "$0" -c "$1"'
    )
    command = ["/bin/sh", "-c", script, sys.executable, code]
    try:
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=PATIENCE_S)
        elders = [int(pid) for pid in pids.read_text().split()]
        assert (done.returncode, done.stderr) == (0, "")
        assert [is_alive(pid) for pid in elders] == [True, True]
        assert float(done.stdout.split()[-1]) < 2 * ORPHAN_GRACE_S, "closing waited for them, as long as it ever does"
    finally:
        for pid in pids.read_text().split():
            if is_alive(int(pid)):
                os.kill(int(pid), signal.SIGKILL)
