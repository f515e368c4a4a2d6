"""The supervisor's one wait: for a message, a signal, the end of a child, or the next thing that is due."""

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

from actors.runtime.heartbeat import TERMINATING_SIGNALS

REPEATED_SIGNAL_S: Final = 2.0  # `timeout` and process managers signal the supervisor, and then its whole group
_STOP_SIGNALS: Final = frozenset({signal.SIGTERM, *TERMINATING_SIGNALS}) - {signal.SIGHUP, signal.SIGUSR1}


@dataclass
class SignalFlags:
    """What signals ask for. A handler may run between any two steps of the supervisor's loop, so it only sets flags.

    `clock` gives monotonic seconds.
    """

    stop: bool = False
    force: bool = False  # a second stop signal, too late to be a repetition of the first: children get 1 s more
    reload: bool = False
    dump: bool = False
    clock: Callable[[], float] = time.monotonic
    _first_stop_at: float | None = None

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """A signal handler. SIGCHLD sets no flag: it only ends the wait."""
        if number in _STOP_SIGNALS:
            self._request_stop(self.clock())
        elif number == signal.SIGHUP:
            self.reload = True
        elif number == signal.SIGUSR1:
            self.dump = True

    def _request_stop(self, now: float) -> None:
        self._first_stop_at = now if self._first_stop_at is None else self._first_stop_at
        self.stop = True
        self.force = self.force or now - self._first_stop_at > REPEATED_SIGNAL_S


class SignalPoller:
    """While entered, signals set `flags`, and each of them, like the end of a child, ends a `wait`.

    Afterwards they are ignored: the process is about to end, and its exit code must not become that of a signal.
    """

    def __init__(self, server_socket: "zmq.Socket[bytes]", flags: SignalFlags) -> None:
        self._flags = flags
        # A signal between two waits must end the next one: `signal.set_wakeup_fd` writes a byte here.
        self._wake_receiver, self._wake_sender = socket.socketpair()
        for end in (self._wake_receiver, self._wake_sender):
            end.settimeout(0)
        self._poller = zmq.Poller()
        for waited in (server_socket, self._wake_receiver):
            self._poller.register(waited, zmq.POLLIN)

    def wait(self, timeout_s: float) -> float:
        """Waits at most `timeout_s`. Returns by how many seconds it took longer, as when the whole host was paused."""
        until = time.monotonic() + timeout_s
        self._poller.poll(math.ceil(timeout_s * 1000))
        with contextlib.suppress(BlockingIOError):
            while self._wake_receiver.recv(4_096):
                pass
        return max(0.0, time.monotonic() - until)

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, *TERMINATING_SIGNALS, signal.SIGCHLD):
            signal.signal(number, self._flags.handle)
        signal.set_wakeup_fd(self._wake_sender.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, *TERMINATING_SIGNALS):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        self._wake_receiver.close()
        self._wake_sender.close()
