"""The supervisor's one wait: for a message at its door, a signal, the end of a child, or its patience."""

import contextlib
import math
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Any, Self

import zmq

Handler = Callable[..., None]


class Wakeups:
    """While entered, `handlers` answer their signals, and each of them, like every child's end, ends a `wait`."""

    def __init__(self, door: "zmq.Socket[bytes]", handlers: Mapping[signal.Signals, Handler]) -> None:
        self._handlers: dict[signal.Signals, Handler] = dict(handlers)
        self._handlers[signal.SIGCHLD] = lambda *_: None  # only to be woken
        self._previous: dict[signal.Signals, Any] = {}
        self._awake, self._waker = socket.socketpair()
        for end in (self._awake, self._waker):
            end.settimeout(0)
        self._poller = zmq.Poller()
        for waited in (door, self._awake):
            self._poller.register(waited, zmq.POLLIN)

    def wait(self, patience_s: float) -> None:
        self._poller.poll(math.ceil(patience_s * 1000))
        with contextlib.suppress(BlockingIOError):
            while self._awake.recv(4_096):
                pass

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, handler) for number, handler in self._handlers.items()}
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._awake.close()
        self._waker.close()
