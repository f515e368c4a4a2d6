"""Directories with names short enough for the sockets that live below them, which pytest's own may not have."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def short_directory() -> Iterator[Path]:
    """A new directory, the owner's alone, that is gone afterwards with all that is in it."""
    path = Path(tempfile.mkdtemp(prefix="sparky-", dir="/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
