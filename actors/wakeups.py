"""The supervisor's one wait: for a message at its door, a signal, the end of a child, or its patience."""

import contextlib
import math
import signal
import socket
import time
from dataclasses import dataclass
from types import FrameType
from typing import Any, Self

import zmq

_STOPS = (signal.SIGTERM, signal.SIGINT)
_HEARD = (*_STOPS, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)


@dataclass
class Orders:
    """What signals ask for; only noted, since a handler may run between any two steps of the supervisor's loop."""

    stop: bool = False
    hurry: bool = False  # told to stop more than once
    reread: bool = False
    dump: bool = False

    def note(self, number: int, _frame: FrameType | None) -> None:
        """A signal handler. SIGCHLD orders nothing: it is only to be woken by."""
        if number in _STOPS:
            self.stop, self.hurry = True, self.stop
        elif number == signal.SIGHUP:
            self.reread = True
        elif number == signal.SIGUSR1:
            self.dump = True


class Wakeups:
    """While entered, signals become `orders`, and each of them, like every child's end, ends a `wait`."""

    def __init__(self, door: "zmq.Socket[bytes]", orders: Orders) -> None:
        self._orders = orders
        self._previous: dict[signal.Signals, Any] = {}
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
        self._previous = {number: signal.signal(number, self._orders.note) for number in _HEARD}
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._awake.close()
        self._waker.close()
