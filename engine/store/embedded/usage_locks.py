"""Locks around the embedded server of one state directory: one for its owner, one for its current users."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Final

import structlog

from engine.platform import file_lock
from engine.platform.errors import ConfigurationError

logger = structlog.get_logger()

# Signals of a starting Sparky to a command that keeps the server, with the delay in s. A command stops its server by
# itself unless it was stopped (Ctrl-Z), or hangs.
EVICTION_SIGNALS: Final = ((2.0, signal.SIGCONT), (20.0, signal.SIGKILL))


class DatabaseInUse(ConfigurationError):
    """The server of this directory belongs to another process, which starts, runs or stops it."""

    def __init__(self, home: Path) -> None:
        super().__init__(f"Another Sparky runs the database in {home}: stop it first.")


class UsageLock:
    """A lock of the users of one directory's server, so that it is not stopped during a call."""

    def __init__(self, home: Path) -> None:
        self._path = home / "postgres.users"
        self._descriptor: int | None = None

    def acquire_shared(self) -> bool:
        """True unless the server is being stopped. May be repeated. Raises OSError."""
        return self._descriptor is not None or self._lock(partial(file_lock.try_lock, is_shared=True))

    def acquire_exclusive(self, timeout_s: float) -> bool:
        """Waits until no process uses the server, and keeps new ones out; False after `timeout_s`. Raises OSError."""
        return self._lock(partial(file_lock.acquire_lock, timeout_s=timeout_s))

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _lock(self, acquire: Callable[[int], bool]) -> bool:
        descriptor = self._open_file()
        if acquire(descriptor):
            self._descriptor = descriptor
            return True
        os.close(descriptor)
        return False

    def _open_file(self) -> int:
        with suppress(FileNotFoundError):
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.fchmod(descriptor, 0o644)  # so that commands of other users can lock it as well
        return descriptor


def acquire_owner_lock(path: Path, timeout_s: float, *, evicts: bool = False) -> IO[bytes]:
    """The exclusive lock of the server's owner, gone when its process is, however it ends.

    Waits `timeout_s`, because a command that started the server stops it soon; with `evicts` it signals one that does
    not (see `EVICTION_SIGNALS`). Raises DatabaseInUse, OSError.
    """
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b", buffering=0)
    steps = list(EVICTION_SIGNALS if evicts else ())

    def evict(waited_s: float) -> None:
        if steps and waited_s > steps[0][0]:
            _signal_holder(file, steps.pop(0)[1])

    if not file_lock.acquire_lock(file.fileno(), timeout_s, evict):
        file.close()
        raise DatabaseInUse(path.parent)
    file.truncate(0)
    file.write(str(os.getpid()).encode())
    return file


def _signal_holder(lock: IO[bytes], number: signal.Signals) -> None:
    pid = _find_holder_pid(lock)
    if pid is not None and pid != os.getpid():
        logger.warning("database_lock_holder_signalled", pid=pid, signal=number.name)
        with suppress(OSError):
            os.kill(pid, number)


def _find_holder_pid(lock: IO[bytes]) -> int | None:
    """The process that the file names, if it has the file open: a pid may be of another container."""
    text = os.pread(lock.fileno(), 20, 0)
    if not text.isdigit():
        return None
    with suppress(OSError):
        for entry in Path(f"/proc/{int(text)}/fd").iterdir():
            with suppress(OSError):
                if os.path.samestat(entry.stat(), os.fstat(lock.fileno())):
                    return int(text)
    return None
