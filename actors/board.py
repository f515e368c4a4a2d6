"""The heartbeat board: a shared page of slots in which each child's completed work beats its heart.

A child promises by when its next piece of work will be complete; the supervisor reads all promises without a system
call and kills who broke his. Promises are CLOCK_MONOTONIC seconds, the same in every process of one host. (After
gunicorn's workers, whose own loop touches a file that the arbiter watches.)
"""

import mmap
import os
from pathlib import Path
from typing import Final, NamedTuple

SLOTS: Final = 4_096
_CELLS: Final = 4  # incarnation, promise, beats, spare: 8 bytes each, so that one store is never torn
_SIZE: Final = SLOTS * _CELLS * 8


class Pulse(NamedTuple):
    incarnation: int
    promise: float
    beats: int


class Board:
    """Maps the board's file, making it when `create` is set (by the supervisor only)."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        flags = os.O_RDWR | (os.O_CREAT if create else 0)
        descriptor = os.open(path, flags, 0o600)
        try:
            if create:
                os.ftruncate(descriptor, 0)
                os.ftruncate(descriptor, _SIZE)
            self._cells = memoryview(mmap.mmap(descriptor, _SIZE)).cast("d")
        finally:
            os.close(descriptor)

    def reset(self, slot: int, incarnation: int, promise: float) -> None:
        """Before a start: nobody has beaten yet, and the first beat is due at `promise`."""
        base = slot * _CELLS
        self._cells[base + 2] = 0
        self._cells[base + 1] = promise
        self._cells[base] = incarnation

    def beat(self, slot: int, promise: float) -> None:
        """After completed work: the next piece will be complete by `promise`."""
        base = slot * _CELLS
        self._cells[base + 1] = promise
        self._cells[base + 2] += 1

    def read(self, slot: int) -> Pulse:
        base = slot * _CELLS
        return Pulse(int(self._cells[base]), self._cells[base + 1], int(self._cells[base + 2]))
