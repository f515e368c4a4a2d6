"""The heartbeat board: a shared page of slots in which each child's completed work beats its heart.

A child promises by when its next piece of work will be complete; the supervisor reads all promises without a system
call and kills who broke his. Promises are CLOCK_MONOTONIC seconds, the same in every process of one host. (After
gunicorn's workers, whose own loop touches a file that the arbiter watches.)
"""

import fcntl
import mmap
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final, NamedTuple

SLOTS: Final = 4_096
_CELLS: Final = 4  # incarnation, promise, beats, asked to end: 8 bytes each, so that one store is never torn
_SIZE: Final = SLOTS * _CELLS * 8


class Heartbeat(NamedTuple):
    incarnation: int
    deadline: float
    beats: int


def create_shared_memory() -> int:
    """The descriptor of an empty board, which children inherit.

    It lies in memory and keeps its size: a page of a file may be gone when it is touched, because the disk is full or
    somebody made the file shorter, and then the kernel ends who touched it.
    """
    descriptor = os.memfd_create("sparky-heartbeats", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, _SIZE)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return descriptor


class HeartbeatTable:
    """Maps the board of `descriptor`."""

    def __init__(self, descriptor: int) -> None:
        self._cells = memoryview(mmap.mmap(descriptor, _SIZE)).cast("d")

    def reset(self, slot: int, incarnation: int, deadline: float) -> None:
        """Before a start: nobody has beaten yet, and the first beat is due at `promise`."""
        base = slot * _CELLS
        self._cells[base + 3] = 0
        self._cells[base + 2] = 0
        self._cells[base + 1] = deadline
        self._cells[base] = incarnation

    def beat(self, slot: int, deadline: float) -> None:
        """After completed work: the next piece will be complete by `promise`."""
        base = slot * _CELLS
        self._cells[base + 1] = deadline
        self._cells[base + 2] += 1

    def request_stop(self, slot: int) -> None:
        """Stands until the next `reset`. It wakes nobody: a signal follows."""
        self._cells[slot * _CELLS + 3] = 1

    def is_stop_requested(self, slot: int) -> bool:
        return bool(self._cells[slot * _CELLS + 3])

    def read(self, slot: int) -> Heartbeat:
        base = slot * _CELLS
        return Heartbeat(int(self._cells[base]), self._cells[base + 1], int(self._cells[base + 2]))


# How a child learns that it is to end: from its supervisor alone, whatever signals reach it.
#
# Terminals, `timeout`, process managers and control groups signal all processes at once. Only the supervisor knows in
# which order they can end: it marks the child's slot of the board and then sends SIGTERM, on which the child looks
# there.


# Whatever ends a process unless it is handled, but for SIGTERM, what cannot be handled, what reports a fault (SIGABRT
# among them, on which a child writes its traceback) and what Python ignores by itself.
TERMINATING_SIGNALS: Final = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGPROF,
    signal.SIGIO,
    signal.SIGPWR,
    signal.SIGSTKFLT,
    *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
)


def ignore_signals() -> None:
    """Of a fork server, and so of its children: SIGTERM waits until they can look why it came, all others are ignored.

    Their starter has blocked the same signals, so that none comes in too early.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    for number in TERMINATING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINATING_SIGNALS)


class StopListener:
    """Of one child, whose slot on `board` the process `supervisor` marks when the child is to end."""

    def __init__(self, heartbeats: HeartbeatTable, slot: int, supervisor: int) -> None:
        self._heartbeats = heartbeats
        self._slot = slot
        self._supervisor = supervisor
        self._callback: Callable[[], None] | None = None

    def install_handler(self) -> None:
        """From now on a child that is asked to end does so at once: it has begun nothing."""
        signal.signal(signal.SIGTERM, self._handle_sigterm)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def set_callback(self, callback: Callable[[], None]) -> None:
        """From now on `stop` is called instead, from a signal handler."""
        self._callback = callback

    def _handle_sigterm(self, _number: int, _frame: FrameType | None) -> None:
        if not self._heartbeats.is_stop_requested(self._slot) and os.getppid() == self._supervisor:
            return  # the signal was for somebody else, or for all processes
        if self._callback is None:
            os._exit(0)
        self._callback()
