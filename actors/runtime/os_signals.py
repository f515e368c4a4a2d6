"""The supervisor's one wait: for a message at its door, a signal, the end of a child, or its patience."""

import contextlib
import math
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Final, Self

import zmq

from actors.runtime.heartbeat import ENDING_SIGNALS

SAME_ORDER_S: Final = 2.0  # `timeout` and process managers signal the supervisor, and its group, and so it again
_STOPS: Final = frozenset({signal.SIGTERM, *ENDING_SIGNALS}) - {signal.SIGHUP, signal.SIGUSR1}


@dataclass
class Orders:
    """What signals ask for; only noted, since a handler may run between any two steps of the supervisor's loop.

    `clock` gives monotonic seconds.
    """

    stop: bool = False
    hurry: bool = False  # told to stop again, later than one order may be repeated
    reread: bool = False
    dump: bool = False
    clock: Callable[[], float] = time.monotonic
    _told_at: float | None = None

    def note(self, number: int, _frame: FrameType | None) -> None:
        """A signal handler. SIGCHLD orders nothing: it is only to be woken by."""
        if number in _STOPS:
            self._note_stop(self.clock())
        elif number == signal.SIGHUP:
            self.reread = True
        elif number == signal.SIGUSR1:
            self.dump = True

    def _note_stop(self, now: float) -> None:
        self._told_at = now if self._told_at is None else self._told_at
        self.stop = True
        self.hurry = self.hurry or now - self._told_at > SAME_ORDER_S


class Wakeups:
    """While entered, signals become `orders`, and each of them, like every child's end, ends a `wait`.

    Afterwards they are ignored: the process is about to end, with the exit code of what it has done.
    """

    def __init__(self, door: "zmq.Socket[bytes]", orders: Orders) -> None:
        self._orders = orders
        self._awake, self._waker = socket.socketpair()
        for end in (self._awake, self._waker):
            end.settimeout(0)
        self._poller = zmq.Poller()
        for waited in (door, self._awake):
            self._poller.register(waited, zmq.POLLIN)

    def wait(self, patience_s: float) -> float:
        """Returns the seconds that it took longer than `patience_s`: none to speak of unless the host stood still."""
        until = time.monotonic() + patience_s
        self._poller.poll(math.ceil(patience_s * 1000))
        with contextlib.suppress(BlockingIOError):
            while self._awake.recv(4_096):
                pass
        return max(0.0, time.monotonic() - until)

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, *ENDING_SIGNALS, signal.SIGCHLD):
            signal.signal(number, self._orders.note)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, *ENDING_SIGNALS):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        self._awake.close()
        self._waker.close()
