"""Cleans up after an earlier server in a data directory: ends one without an owner, removes files that prevent a
start."""

import re
import signal
import stat
import time
from pathlib import Path
from typing import Final

import psutil

from engine.platform.errors import ConfigurationError
from engine.store.embedded.postgres_process import POLL_S

PID_FILE: Final = "postmaster.pid"
SOCKET_FILES: Final = (".s.PGSQL.5432", ".s.PGSQL.5432.lock")
_PID_LINE: Final = re.compile(rb"-?([1-9]\d{0,8})\s*")  # PostgreSQL writes a minus when it serves one session alone


def clear_stale_server(data: Path, server_uid: int) -> int | None:
    """Ends a server of `data` that still runs and removes files that prevent a start. The caller holds the owner's
    lock.

    Returns the pid that the pid file names, if it names one. That process is then no server of this directory, but
    PostgreSQL must read the file, which names the shared memory of a killed server whose processes may still write. The
    server runs as `server_uid`. Raises ConfigurationError, OSError.
    """
    pid = _read_pid(data / PID_FILE)
    if pid is not None:
        _stop_server(pid, data)
    if not _is_readable_by(data / PID_FILE, server_uid):
        pid = None
    for name in SOCKET_FILES if pid is not None else (PID_FILE, *SOCKET_FILES):
        _remove(data / name)
    return pid


def _is_readable_by(path: Path, uid: int) -> bool:
    """Whether its owner `uid` can; a backup that root restored has files that the server cannot read."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return status.st_uid == uid and bool(status.st_mode & stat.S_IRUSR)


def _read_pid(pid_file: Path) -> int | None:
    """The pid in the first line; None if it is unreadable or not in PostgreSQL's format."""
    try:
        if not stat.S_ISREG(pid_file.lstat().st_mode):
            return None  # reading a pipe would wait for ever
        first = pid_file.read_bytes().partition(b"\n")[0]
    except OSError:
        return None
    match = _PID_LINE.fullmatch(first)
    return int(match[1]) if match else None


def _stop_server(pid: int, data: Path) -> None:
    """Ends process `pid` if it is a server of `data`: fast shutdown, then kill. Raises ConfigurationError."""
    try:
        process = psutil.Process(pid)
        if not _is_server_of(process, data):
            return
        for number in (signal.SIGINT, signal.SIGKILL):
            process.send_signal(number)
            if _wait_for_end(process, 5.0):
                return
    except psutil.NoSuchProcess:  # which a process is too that has ended and was not reaped
        return
    except psutil.Error:
        pass
    raise ConfigurationError(f"An earlier server in {data} does not end: end process {pid}.")


def _is_server_of(process: psutil.Process, data: Path) -> bool:
    """Whether it is PostgreSQL on `data`. Raises psutil.NoSuchProcess."""
    try:
        words = process.cmdline()
        if process.name() != "postgres":
            return False
    except psutil.AccessDenied:
        return False
    data_dir = data.resolve()
    try:
        return process.cwd() == str(data_dir)
    except psutil.AccessDenied:  # root in a container may not look, but reads the command line
        return "-D" in words[:-1] and Path(words[words.index("-D") + 1]).resolve() == data_dir


def _wait_for_end(process: psutil.Process, timeout_s: float) -> bool:
    """Whether it ends in time. A zombie counts as ended."""
    deadline = time.monotonic() + timeout_s
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _remove(path: Path) -> None:
    """Removes whatever is there, but no directory that holds something. Raises OSError."""
    try:
        path.unlink(missing_ok=True)
    except IsADirectoryError:
        path.rmdir()
