"""The lock that a supervisor holds on its state directory, as others see it: held or free, and by which pid."""

import fcntl
import os
from pathlib import Path
from typing import Final

FILE_NAME: Final = "supervisor.lock"


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
    return _looked_at(run_dir)[0]


def holder(run_dir: Path) -> int | None:
    """The supervisor's pid as it wrote it; None when none holds the lock, or it has not written yet."""
    is_taken, text = _looked_at(run_dir)
    return int(text) if is_taken and text.isascii() and text.isdigit() else None


def _looked_at(run_dir: Path) -> tuple[bool, str]:
    """Whether it is held, and the text in the file. What cannot be opened is held by nobody that we could meet."""
    try:
        descriptor = os.open(run_dir / FILE_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False, ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True, os.read(descriptor, 20).decode(errors="replace").strip()
    else:
        return False, ""
    finally:
        os.close(descriptor)
