"""Shared memory between the supervisor and its children: deadlines of their next ticks, and requests to stop.

Each child has a slot. After a completed tick it writes the monotonic deadline of the next one; the supervisor reads all
deadlines without a system call and kills a child whose deadline has passed. Only the loop that does the work writes, as
in gunicorn's workers: a side thread would go on writing while the work hangs. Deadlines are CLOCK_MONOTONIC seconds,
which all processes of one host share.

Terminals, `timeout`, process managers and control groups signal all processes at once, but only the supervisor knows
in which order they can end. So SIGTERM alone ends no child: the supervisor sets the child's stop flag in this memory
before it sends SIGTERM, and the child looks at the flag when the signal comes.
"""

import fcntl
import mmap
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final, NamedTuple

SLOTS: Final = 4_096
# Incarnation, deadline, beats, stop flag. Each is one aligned double: the processor stores it whole, so that the
# supervisor never reads half of an old value and half of a new one, and no lock is needed.
_CELLS: Final = 4
_SIZE: Final = SLOTS * _CELLS * 8


class Heartbeat(NamedTuple):
    """One slot. `deadline` is monotonic seconds; `beats` counts the ticks that this incarnation has completed."""

    incarnation: int
    deadline: float
    beats: int


def create_shared_memory() -> int:
    """The descriptor of an empty table, which children inherit.

    An anonymous file in memory, sealed against another size: touching a page of a file on disk raises SIGBUS when the
    disk is full or the file was truncated, which would end the supervisor.
    """
    descriptor = os.memfd_create("sparky-heartbeats", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, _SIZE)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return descriptor


class HeartbeatTable:
    """The slots in the shared memory of `descriptor`. The supervisor and each child map it for themselves."""

    def __init__(self, descriptor: int) -> None:
        self._cells = memoryview(mmap.mmap(descriptor, _SIZE)).cast("d")

    def reset(self, slot: int, incarnation: int, deadline: float) -> None:
        """Before a start: no tick is complete, and the first one must be by `deadline` (monotonic seconds)."""
        base = slot * _CELLS
        self._cells[base + 3] = 0
        self._cells[base + 2] = 0
        self._cells[base + 1] = deadline
        self._cells[base] = incarnation

    def beat(self, slot: int, deadline: float) -> None:
        """After a completed tick: the next one will be complete by `deadline` (monotonic seconds)."""
        base = slot * _CELLS
        self._cells[base + 1] = deadline
        self._cells[base + 2] += 1

    def request_stop(self, slot: int) -> None:
        """Sets the stop flag until the next `reset`. The child looks at it only when SIGTERM comes."""
        self._cells[slot * _CELLS + 3] = 1

    def is_stop_requested(self, slot: int) -> bool:
        return bool(self._cells[slot * _CELLS + 3])

    def read(self, slot: int) -> Heartbeat:
        base = slot * _CELLS
        return Heartbeat(int(self._cells[base]), self._cells[base + 1], int(self._cells[base + 2]))


# All signals that end a process by default, except SIGTERM, those that cannot be handled, those that report a fault
# (SIGABRT among them, on which a child writes its traceback) and those that Python ignores (SIGPIPE, SIGXFSZ).
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
    """For a fork server, and so for its children: blocks SIGTERM until a child can handle it, and ignores all others.

    The supervisor starts the fork server with these signals blocked: one that comes before this call stays pending.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    for number in TERMINATING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINATING_SIGNALS)


class StopListener:
    """Handles SIGTERM in a child, which stops only if the stop flag of its `slot` is set.

    `supervisor` is the pid of the child's parent. Once it is gone no flag can be set, and every SIGTERM stops the
    child: it may be the death signal from the kernel.
    """

    def __init__(self, heartbeats: HeartbeatTable, slot: int, supervisor: int) -> None:
        self._heartbeats = heartbeats
        self._slot = slot
        self._supervisor = supervisor
        self._callback: Callable[[], None] | None = None

    def install_handler(self) -> None:
        """From now on a request to stop ends the process at once: it has begun no work yet."""
        signal.signal(signal.SIGTERM, self._handle_sigterm)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def set_callback(self, callback: Callable[[], None]) -> None:
        """From now on `callback` is called instead, from within a signal handler."""
        self._callback = callback

    def _handle_sigterm(self, _number: int, _frame: FrameType | None) -> None:
        if not self._heartbeats.is_stop_requested(self._slot) and os.getppid() == self._supervisor:
            return  # it was sent to the whole group, or by someone other than the supervisor
        if self._callback is None:
            os._exit(0)
        self._callback()
