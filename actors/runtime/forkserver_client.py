"""What the children's processes inherit: a place in the system, and no secret. Settings reach them another way."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import structlog

from actors.runtime import restart_policy
from actors.runtime.forkserver import REQUEST_LIMIT
from actors.runtime.heartbeat import ENDING_SIGNALS

_NAMES: Final = frozenset(
    {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "TERM",
        "COLORTERM",
        "NO_COLOR",
        "FORCE_COLOR",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "VIRTUAL_ENV",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
    }
)
_BEGINNINGS: Final = ("LC_", "LD_", "MALLOC_", "PYTHON", "COVERAGE_", "COV_CORE_")


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of `environ` that children may have: known to be needed, whatever else this host's people keep there."""
    return {name: value for name, value in environ.items() if name.upper() in _NAMES or name.startswith(_BEGINNINGS)}


# The supervisor's end of the fork server: starts it, asks it for children, and never waits longer than for one fork.
#
# While a new server warms up nobody can be born, but everybody alive is watched all the same.


logger = structlog.get_logger()

FORK_DEADLINE_S: Final = 1.5  # nobody is watched meanwhile, and whoever hangs must be killed within 2 s
WARM_UP_DEADLINE_S: Final = 60.0


class Spawner:
    """`descriptors` are those that every child inherits.

    `losses` counts the servers that were lost since one of them last gave us a child; before `due_at` none is launched.
    """

    def __init__(self, descriptors: tuple[int, ...]) -> None:
        self._descriptors = descriptors
        self._server: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self._warm_by: float | None = None  # None once it is warm
        self._is_refused = False
        self.losses = 0
        self.due_at = 0.0

    @property
    def pid(self) -> int | None:
        """Of the fork server, which is a child like all others and is reaped like them."""
        return None if self._server is None else self._server.pid

    def spawn(self, request: bytes) -> int | None:
        """The pid of a new child; None while the server warms up or its successor must wait, or while the kernel has no
        room for a process.

        Raises OSError or ValueError when the server is lost, or does not answer in time: then it must be ended.
        """
        if self._requests is None and time.monotonic() < self.due_at:
            return None
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
        self.losses = 0 if pid is not None else self.losses
        return pid

    def close(self) -> None:
        """Kills the server, if there is one."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        self._forget()

    def end(self, reason: str) -> None:
        """Gives up a server that is of no use; a later request brings another."""
        self.close()
        self._note_loss(reason)

    def note_end(self, status: int) -> None:
        """The server has been reaped with wait `status`: nobody may wait for it or signal it again."""
        if self._server is not None:
            self._server.returncode = status
        self._forget()
        self._note_loss(restart_policy.describe_exit(status))

    def _forget(self) -> None:
        self._server = None
        if self._requests is not None:
            self._requests.close()
            self._requests = None

    def _note_loss(self, reason: str) -> None:
        self.losses += 1
        wait_s = restart_policy.wait_before_restart(self.losses, random.random())  # noqa: S311 - jitter
        self.due_at = time.monotonic() + wait_s
        logger.warning("fork_server_lost", reason=reason, losses=self.losses)

    def _launch(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(0)
        with theirs, _signals_held():
            self._server = subprocess.Popen(
                [sys.executable, "-P", "-m", "actors.runtime.forkserver", str(theirs.fileno()), str(os.getpid())],
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


@contextmanager
def _signals_held() -> Iterator[None]:
    """A process started meanwhile inherits that they are blocked, until it has said what is to become of each."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, *ENDING_SIGNALS})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
