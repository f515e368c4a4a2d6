"""The supervisor on real processes and real signals."""

import os
import shutil
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.supervised import PATIENCE_S, Supervised, is_alive, spec, wait_until_gone


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    """Short enough for socket paths, which pytest's own directories may not be."""
    short = Path(f"/tmp/sparky-test-{uuid.uuid4().hex[:8]}/run")  # noqa: S108 - private by its random name and mode 0700
    yield short
    shutil.rmtree(short.parent)


def strategies_file(run_dir: Path, *ids: str, revision: str = "1") -> Path:
    path = run_dir.parent / "wanted"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{strategy_id} {revision}\n" for strategy_id in ids))
    return path


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


def test_strategies_come_and_go_with_the_roster(run_dir: Path) -> None:
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    wanted = strategies_file(run_dir, first)
    with Supervised(run_dir, [spec("roster", "file_roster", argument=str(wanted))]) as running:
        one = running.wait_for(f"strategy-{first}", "running")
        strategies_file(run_dir, second)
        running.wait_for(f"strategy-{second}", "running")
        wait_until_gone([one["pid"]], PATIENCE_S)


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
        assert [e["state"] for e in running.events if e["name"] == "once"][-1] == "done"


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
        wait_until_gone([before["gone"]], PATIENCE_S)
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
    run_dir.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(run_dir.parent / "notify"))
        manager.settimeout(PATIENCE_S)
        environ = {"NOTIFY_SOCKET": str(run_dir.parent / "notify"), "WATCHDOG_USEC": "100000"}
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


def test_whatever_is_done_to_the_files_of_the_run_directory_hearts_are_still_read(run_dir: Path) -> None:
    with Supervised(run_dir, [spec("one", "steady", tick_deadline_s=2.0), spec("two", "steady")]) as running:
        one = running.wait_for("one", "running")
        two = running.wait_for("two", "running")
        for path in run_dir.iterdir():
            if path.is_file() and path.name != "specs.json":
                os.truncate(path, 0)
        seen = len(running.events)
        os.kill(two["pid"], signal.SIGKILL)
        assert running.wait_for("two", "running", after=seen)["pid"] != two["pid"]
        os.kill(one["pid"], signal.SIGSTOP)
        assert running.wait_for("one", "backoff", after=seen)["cause"] == "stalled"
        assert running.stop() == 0
