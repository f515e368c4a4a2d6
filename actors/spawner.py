"""The supervisor's end of the fork server: starts it, asks it for children, and never waits longer than for one fork.

While a new server warms up nobody can be born, but everybody alive is watched all the same.
"""

import json
import os
import socket
import subprocess
import sys
import time
from typing import Any, Final

import structlog

from actors.environment import inherited
from actors.forkserver import REQUEST_LIMIT

logger = structlog.get_logger()

FORK_DEADLINE_S: Final = 5.0
WARM_UP_DEADLINE_S: Final = 60.0


class Spawner:
    """`descriptors` are those that every child inherits."""

    def __init__(self, descriptors: tuple[int, ...]) -> None:
        self._descriptors = descriptors
        self._server: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self._warm_by: float | None = None  # None once it is warm
        self._is_refused = False

    @property
    def pid(self) -> int | None:
        """Of the fork server, which is a child like all others and is reaped like them."""
        return None if self._server is None else self._server.pid

    def spawn(self, request: bytes) -> int | None:
        """The pid of a new child; None while the server warms up, or while the kernel has no room for a process.

        Raises OSError or ValueError when the server is lost, or does not answer in time: then it must be ended.
        """
        requests = self._requests or self._launch()
        if self._warm_by is not None and not self._has_warmed_up(requests, self._warm_by):
            return None
        answer: dict[str, Any] = {"error": "the child's settings are too large"}
        if len(request) <= REQUEST_LIMIT:
            requests.send(request)
            answer = json.loads(requests.recv(REQUEST_LIMIT))
        if ("error" in answer) != self._is_refused:
            self._is_refused = "error" in answer
            logger.warning("fork_refused" if self._is_refused else "forks_again", reason=answer.get("error"))
        pid: int | None = answer.get("pid")
        return pid

    def end(self) -> None:
        """Kills the server, if there is one; the next request brings another."""
        if self._server is not None:
            self._server.kill()
            self.note_end(self._server.wait())

    def note_end(self, status: int) -> None:
        """The server has been reaped with `status`: nobody may wait for it or signal it again."""
        if self._server is not None:
            self._server.returncode = status
            self._server = None
        if self._requests is not None:
            self._requests.close()
            self._requests = None

    def _launch(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(0)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-P", "-m", "actors.forkserver", str(theirs.fileno()), str(os.getpid())],
                pass_fds=(theirs.fileno(), *self._descriptors),
                stdin=subprocess.DEVNULL,
                env=inherited(os.environ),
            )
        self._requests, self._warm_by = ours, time.monotonic() + WARM_UP_DEADLINE_S
        return ours

    def _has_warmed_up(self, requests: socket.socket, by: float) -> bool:
        try:
            hello = requests.recv(REQUEST_LIMIT)
        except BlockingIOError:
            if time.monotonic() > by:
                raise TimeoutError("the fork server did not warm up in time") from None
            return False
        if not hello:
            raise ConnectionError("the fork server ended while it warmed up")
        requests.settimeout(FORK_DEADLINE_S)
        self._warm_by = None
        return True
