"""The state directory: one supervisor at a time, and crash reports of any length."""

import fcntl
import threading
import time
from pathlib import Path

import pytest

from actors.runtime import state_dir
from actors.runtime.state_dir import StateDirLock, prepare_run_dir, read_crash_report
from engine.platform.errors import AnotherEngineRuns


def test_a_command_that_looks_who_holds_the_lock_keeps_no_supervisor_from_starting(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_dir, "_LOCK_TIMEOUT_S", 120.0)  # a busy machine may not let it look away within a second
    looking, seen = (home / "supervisor.lock").open("w"), threading.Event()
    fcntl.flock(looking, fcntl.LOCK_SH)

    def look_away() -> None:
        seen.wait(120)
        time.sleep(0.05)
        looking.close()

    thread = threading.Thread(target=look_away)
    thread.start()
    seen.set()
    with StateDirLock(home):
        assert (home / "supervisor.lock").read_text().isdigit()
    thread.join()


def test_a_lock_whose_file_is_gone_or_another_is_void(home: Path) -> None:
    with StateDirLock(home) as lock:
        assert not lock.is_deleted()
        with pytest.raises(AnotherEngineRuns, match="already runs"), StateDirLock(home):
            pass
        (home / "supervisor.lock").unlink()
        assert lock.is_deleted()
        (home / "supervisor.lock").touch()
        assert lock.is_deleted()


def test_a_lock_whose_directory_became_a_file_is_void_and_one_that_cannot_be_looked_at_is_not(home: Path) -> None:
    run_dir = home / "run"
    prepare_run_dir(run_dir)
    with StateDirLock(run_dir) as lock:
        run_dir.rename(home / "aside")
        run_dir.symlink_to(run_dir)  # a loop: an error that says nothing about the file
        assert not lock.is_deleted()
        run_dir.unlink()
        run_dir.touch()
        assert lock.is_deleted()


def test_of_a_crash_report_of_any_length_the_end_is_read(home: Path) -> None:
    prepare_run_dir(home)
    (home / "last" / "one.txt").write_bytes(b"x" * 50_000_000 + "the end, é".encode())
    report = read_crash_report(home, "one")
    assert report is not None
    assert (len(report), report[-10:]) == (4_000, "the end, é")
