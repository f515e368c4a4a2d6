"""The supervisor when its fork server, its files, its descriptors or its time are taken away, on real processes."""

import os
import resource
import signal
import socket
import time
from pathlib import Path

import psutil

from tests.support.processes.supervised import (
    PATIENCE_S,
    Supervised,
    fork_servers,
    is_alive,
    spec,
    wait_for,
    wait_until_gone,
)


def test_whatever_is_done_to_the_files_of_the_run_directory_hearts_are_still_read(run_dir: Path) -> None:
    with Supervised(run_dir, [spec("one", "steady", tick_deadline_s=10.0), spec("two", "steady")]) as running:
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


def test_while_a_new_fork_server_warms_up_everybody_alive_is_watched(run_dir: Path) -> None:
    specs = [spec(name, "steady", tick_deadline_s=10.0) for name in ("one", "two")]
    with Supervised(run_dir, specs) as running:
        pids = {name: running.wait_for(name, "running")["pid"] for name in ("one", "two")}
        (server,) = fork_servers(running)
        seen = len(running.events)
        server.kill()
        os.kill(pids["one"], signal.SIGKILL)
        wait_for(lambda: bool({p.pid for p in fork_servers(running)} - {server.pid}), "another fork server")
        (another,) = fork_servers(running)
        another.suspend()
        os.kill(pids["two"], signal.SIGSTOP)
        assert running.wait_for("two", "backoff", after=seen)["cause"] == "stalled"
        another.resume()
        for name in ("one", "two"):
            running.wait_for(name, "running", after=seen)


def test_a_fork_that_the_kernel_refuses_is_tried_again_without_another_fork_server(run_dir: Path) -> None:
    with Supervised(run_dir, [spec("one", "steady"), spec("two", "steady")]) as running:
        pids = {name: running.wait_for(name, "running")["pid"] for name in ("one", "two")}
        (server,) = fork_servers(running)
        before = server.rlimit(resource.RLIMIT_NOFILE)
        server.rlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        seen = len(running.events)
        os.kill(pids["one"], signal.SIGKILL)
        running.wait_for("one", "backoff", after=seen)
        wait_for(lambda: "fork failed" in running.log(), "the refusal in the log")
        server.rlimit(resource.RLIMIT_NOFILE, before)
        running.wait_for("one", "running", after=seen)
        assert [process.pid for process in fork_servers(running)] == [server.pid]
        assert "two" not in {e["name"] for e in running.events[seen:]}


def test_what_a_dead_child_leaves_behind_is_killed(run_dir: Path) -> None:
    told = run_dir.parent / "pid"
    with Supervised(run_dir, [spec("parent", "parent", argument=str(told))]) as running:
        parent = running.wait_for("parent", "running")
        left = int(told.read_text())
        told.unlink()
        seen = len(running.events)
        os.kill(parent["pid"], signal.SIGKILL)
        running.wait_for("parent", "running", after=seen)
        wait_until_gone([left])
        left = int(told.read_text())
        assert is_alive(left)
        assert running.stop() == 0
        assert not is_alive(left)


def test_a_supervisor_whose_lock_was_taken_away_stops_everything_rather_than_run_beside_another(run_dir: Path) -> None:
    with Supervised(run_dir, [spec("one", "steady")]) as running:
        one = running.wait_for("one", "running")
        (run_dir / "supervisor.lock").unlink()
        assert running.process.wait(PATIENCE_S) == 1
        assert not is_alive(one["pid"])
        assert "nothing would keep a second Sparky away" in running.log()


def test_without_a_single_descriptor_the_watchdog_is_fed_and_children_come_back_when_there_are_some(
    run_dir: Path,
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(run_dir.parent / "notify"))
        manager.settimeout(PATIENCE_S)
        environ = {"NOTIFY_SOCKET": str(run_dir.parent / "notify"), "WATCHDOG_USEC": "100000"}
        with Supervised(run_dir, [spec("one", "steady"), spec("two", "steady")], environ=environ) as running:
            pids = [running.wait_for(name, "running")["pid"] for name in ("one", "two")]
            limits = psutil.Process(running.process.pid).rlimit(resource.RLIMIT_NOFILE)
            resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
            seen = len(running.events)
            os.kill(pids[0], signal.SIGKILL)
            running.wait_for("one", "backoff", after=seen)
            heard = [manager.recv(4_096).decode() for _ in range(60)]
            assert "WATCHDOG=1" in heard[-20:]
            resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE, limits)
            running.wait_for("one", "running", after=seen)
            assert is_alive(pids[1])


def test_a_host_that_stood_still_costs_nobody_his_life(run_dir: Path) -> None:
    with Supervised(run_dir, [spec("one", "steady", tick_deadline_s=5.0, grace_s=60.0)]) as running:
        one = running.wait_for("one", "running")
        everybody = [running.process.pid, one["pid"]]
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(8)  # longer than the promise
        for pid in everybody:
            os.kill(pid, signal.SIGCONT)
        running.process.send_signal(signal.SIGUSR1)
        wait_for(lambda: f"pid={one['pid']}" in running.log(), "a turn of the loop")
        assert running.stop() == 0
        assert {e["state"] for e in running.events} <= {"starting", "running", "stopping", "done"}
