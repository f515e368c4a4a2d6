"""The heartbeat board: a shared page of slots in which each child's completed work beats its heart.

A child promises by when its next piece of work will be complete; the supervisor reads all promises without a system
call and kills who broke his. Promises are CLOCK_MONOTONIC seconds, the same in every process of one host. (After
gunicorn's workers, whose own loop touches a file that the arbiter watches.)
"""

import fcntl
import mmap
import os
from typing import Final, NamedTuple

SLOTS: Final = 4_096
_CELLS: Final = 4  # incarnation, promise, beats, asked to end: 8 bytes each, so that one store is never torn
_SIZE: Final = SLOTS * _CELLS * 8


class Pulse(NamedTuple):
    incarnation: int
    promise: float
    beats: int


def new_board() -> int:
    """The descriptor of an empty board, which children inherit.

    It lies in memory and keeps its size: a page of a file may be gone when it is touched, because the disk is full or
    somebody made the file shorter, and then the kernel ends who touched it.
    """
    descriptor = os.memfd_create("sparky-board", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, _SIZE)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return descriptor


class Board:
    """Maps the board of `descriptor`."""

    def __init__(self, descriptor: int) -> None:
        self._cells = memoryview(mmap.mmap(descriptor, _SIZE)).cast("d")

    def reset(self, slot: int, incarnation: int, promise: float) -> None:
        """Before a start: nobody has beaten yet, and the first beat is due at `promise`."""
        base = slot * _CELLS
        self._cells[base + 3] = 0
        self._cells[base + 2] = 0
        self._cells[base + 1] = promise
        self._cells[base] = incarnation

    def beat(self, slot: int, promise: float) -> None:
        """After completed work: the next piece will be complete by `promise`."""
        base = slot * _CELLS
        self._cells[base + 1] = promise
        self._cells[base + 2] += 1

    def ask_to_end(self, slot: int) -> None:
        """Stands until the next `reset`. It wakes nobody: a signal follows."""
        self._cells[slot * _CELLS + 3] = 1

    def is_asked_to_end(self, slot: int) -> bool:
        return bool(self._cells[slot * _CELLS + 3])

    def read(self, slot: int) -> Pulse:
        base = slot * _CELLS
        return Pulse(int(self._cells[base]), self._cells[base + 1], int(self._cells[base + 2]))
