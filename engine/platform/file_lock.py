"""Locks on files (flock), which the kernel releases with the process that holds them, and waits for one with a limit.

Also reads the lock that a supervisor holds on its state directory: whether it is held, and by which pid.
"""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

FILE_NAME: Final = "supervisor.lock"
POLL_S: Final = 0.02  # flock itself can wait, but not for a limited time


def try_lock(descriptor: int, *, is_shared: bool = False) -> bool:
    """Takes the lock of an open file, exclusive unless `is_shared`; False while another holds it. Raises OSError."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def acquire_lock(descriptor: int, timeout_s: float, on_wait: Callable[[float], None] | None = None) -> bool:
    """Takes the exclusive lock of an open file within `timeout_s`; False if another holds it still. Raises OSError.

    `on_wait` is called between two attempts, with the seconds that have passed.
    """
    began = time.monotonic()
    while not try_lock(descriptor):
        waited_s = time.monotonic() - began
        if waited_s > timeout_s:
            return False
        if on_wait is not None:
            on_wait(waited_s)
        time.sleep(POLL_S)
    return True


def is_hidden(run_dir: Path) -> bool:
    """True if this user may not look whether the lock is held."""
    try:
        (run_dir / FILE_NAME).stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return not os.access(run_dir / FILE_NAME, os.R_OK)


def is_held(run_dir: Path) -> bool:
    """True while a supervisor runs on the state directory of `run_dir`."""
    return _read_lock(run_dir)[0]


def holder(run_dir: Path) -> int | None:
    """The supervisor's pid as it wrote it; None when none holds the lock, or it has not written yet."""
    is_taken, text = _read_lock(run_dir)
    return int(text) if is_taken and text.isascii() and text.isdigit() else None


def _read_lock(run_dir: Path) -> tuple[bool, str]:
    """Whether the lock is held, and the text in the file. A file that cannot be opened counts as free."""
    try:
        descriptor = os.open(run_dir / FILE_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False, ""
    try:
        if try_lock(descriptor, is_shared=True):
            return False, ""
        return True, os.read(descriptor, 20).decode(errors="replace").strip()
    finally:
        os.close(descriptor)
