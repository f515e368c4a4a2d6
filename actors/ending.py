"""How a child learns that it is to end: from its supervisor alone, whatever signals reach it.

Terminals, `timeout`, process managers and control groups signal all processes at once. Only the supervisor knows in
which order they can end: it marks the child's slot of the board and then sends SIGTERM, on which the child looks there.
"""

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

from actors.board import Board

# Whatever ends a process unless it is handled, but for SIGTERM, what cannot be handled, what reports a fault (SIGABRT
# among them, on which a child writes its traceback) and what Python ignores by itself.
ENDING_SIGNALS: Final = (
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
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)


class EndRequest:
    """Of one child, whose slot on `board` the process `supervisor` marks when the child is to end."""

    def __init__(self, board: Board, slot: int, supervisor: int) -> None:
        self._board = board
        self._slot = slot
        self._supervisor = supervisor
        self._stop: Callable[[], None] | None = None

    def listen(self) -> None:
        """From now on a child that is asked to end does so at once: it has begun nothing."""
        signal.signal(signal.SIGTERM, self._look)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def pass_to(self, stop: Callable[[], None]) -> None:
        """From now on `stop` is called instead, from a signal handler."""
        self._stop = stop

    def _look(self, _number: int, _frame: FrameType | None) -> None:
        if not self._board.is_asked_to_end(self._slot) and os.getppid() == self._supervisor:
            return  # the signal was for somebody else, or for all processes
        if self._stop is None:
            os._exit(0)
        self._stop()
