"""The state directory of one running Sparky: its private run directory, and the lock against a second supervisor."""

import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from engine.platform import file_lock
from engine.platform.errors import AnotherEngineRuns, ConfigurationError

_LOCK_TIMEOUT_S: Final = 1.0  # a command that checks whether the lock is held holds it for a moment
_MAX_CRASH_REPORT_BYTES: Final = 16_000


def prepare_run_dir(run_dir: Path) -> None:
    """Makes the private directory for sockets, locks and crash reports (0700). Raises ConfigurationError."""
    try:
        run_dir.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for directory in (run_dir, run_dir / "last"):
            directory.mkdir(mode=0o700, exist_ok=True)
            directory.chmod(0o700)
    except OSError as error:
        raise ConfigurationError(f"SPARKY_HOME cannot be used: {error.strerror}: {error.filename}") from error


class StateDirLock:
    """Held while a supervisor runs. The kernel releases it with the process, so a crash leaves nothing to clean up."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / file_lock.FILE_NAME
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Raises AnotherEngineRuns, naming the other's pid, when it is held."""
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not file_lock.acquire_lock(self._descriptor, _LOCK_TIMEOUT_S):
            other = os.read(self._descriptor, 20).decode().strip()
            os.close(self._descriptor)
            raise AnotherEngineRuns(
                f"Sparky already runs on {self._path.parent.parent} as process {other}; "
                "stop it, or set another SPARKY_HOME"
            )
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, str(os.getpid()).encode())
        return self

    def is_deleted(self) -> bool:
        """Whether the file was removed or replaced: another supervisor could lock a new one. False if unknown."""
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(self._descriptor))
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


def read_crash_report(run_dir: Path, name: str) -> str | None:
    """The traceback or sentence a child left when it ended, at most its last 4,000 characters."""
    try:
        with (run_dir / "last" / f"{name}.txt").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _MAX_CRASH_REPORT_BYTES))
            return file.read().decode(errors="replace")[-4_000:] or None
    except OSError:
        return None
