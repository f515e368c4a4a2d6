"""The fork server forks as a single-threaded process, and an interpreter that counts threads sees it so."""

import sys
import threading
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from actors.runtime import forkserver
from tests.support.processes.supervised import Supervised, fork_servers, spec

COUNTED = 19  # the place of `num_threads` in /proc/PID/stat, proc(5), for a reader that splits it at its spaces


def test_the_fork_server_has_one_thread_when_it_forks(run_dir: Path) -> None:
    with Supervised(run_dir, [spec("one", "steady")]) as running:
        running.wait_for("one", "running")
        [server] = fork_servers(running)
        assert server.num_threads() == 1


def test_an_interpreter_that_counts_the_threads_at_a_fork_counts_one(run_dir: Path) -> None:
    """From 3.12 on CPython splits /proc/self/stat at its spaces, those in the process's own name included."""
    with Supervised(run_dir, [spec("one", "steady")]) as running:
        running.wait_for("one", "running")
        [server] = fork_servers(running)
        assert Path(f"/proc/{server.pid}/stat").read_text().split(" ")[COUNTED] == "1"
        assert " ".join(psutil.Process(server.pid).cmdline()).strip() == "sparky: fork server"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="this interpreter counts no threads at a fork")
def test_no_fork_is_called_multi_threaded(run_dir: Path) -> None:
    environ = {"PYTHONWARNINGS": "always::DeprecationWarning"}
    with Supervised(run_dir, [spec("one", "steady")], environ=environ) as running:
        running.wait_for("one", "running")
        assert "multi-threaded" not in running.log()


def test_a_thread_that_stays_is_told_by_name() -> None:
    held = threading.Event()
    thread = threading.Thread(target=held.wait, name="left")
    thread.start()
    try:
        with capture_logs() as told:
            assert not forkserver.wait_for_single_thread(0.1)
    finally:
        held.set()
        thread.join()
    assert [line["event"] for line in told] == ["fork_server_has_threads"]
