"""The supervisor's end of the fork server: starts it, asks it for children, and never waits longer than for one fork.

While a new fork server warms up no child can be started; those that run are supervised all the same.
"""

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
from actors.runtime.forkserver import MAX_REQUEST_BYTES
from actors.runtime.heartbeat import TERMINATING_SIGNALS

logger = structlog.get_logger()

_SERVER_MODULE: Final = "actors.runtime.forkserver"
FORK_TIMEOUT_S: Final = 1.5  # nothing is supervised while it passes, and a child that hangs must be killed within 2 s
WARM_UP_TIMEOUT_S: Final = 60.0

# The environment is readable in /proc for every process of this user, and children's children inherit it: no secret of
# the host may be in it. Settings and their secrets go over the socket pair instead.
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
_PREFIXES: Final = ("LC_", "LD_", "MALLOC_", "PYTHON", "COVERAGE_", "COV_CORE_")


def filter_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of `environ` that children are known to need; all others may hold secrets."""
    return {name: value for name, value in environ.items() if name.upper() in _NAMES or name.startswith(_PREFIXES)}


class ForkServerClient:
    """`descriptors` are those that every child inherits; `warm_up` is what a server calls before it forks.

    `losses` counts the servers that were lost since one of them last forked a child. None is started before `due_at`
    (monotonic seconds).
    """

    def __init__(self, descriptors: tuple[int, ...], warm_up: str) -> None:
        self._descriptors = descriptors
        self._warm_up = warm_up
        self._server: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._warm_up_deadline: float | None = None  # None once it is warm
        self._is_failing = False
        self.losses = 0
        self.due_at = 0.0

    @property
    def pid(self) -> int | None:
        """The fork server's pid. It is a child of the supervisor like all others, and reaped with them."""
        return None if self._server is None else self._server.pid

    def spawn(self, request: bytes) -> int | None:
        """The pid of a new child; None while a server warms up or has to wait, or while the kernel refuses to fork.

        Raises OSError or ValueError when the server is lost, or does not answer in time: then call `discard`.
        """
        if self._socket is None and time.monotonic() < self.due_at:
            return None
        requests = self._socket or self._start_server()
        if self._warm_up_deadline is not None and not self._is_warm(requests, self._warm_up_deadline):
            return None
        answer: dict[str, Any] = {"error": "the child's settings are too large"}
        if len(request) <= MAX_REQUEST_BYTES:
            requests.send(request)
            answer = json.loads(requests.recv(MAX_REQUEST_BYTES))
        if ("error" in answer) != self._is_failing:
            self._is_failing = "error" in answer
            if self._is_failing:
                logger.warning("fork_failed", reason=answer["error"])
            else:
                logger.info("fork_recovered")
        pid: int | None = answer.get("pid")
        self.losses = 0 if pid is not None else self.losses
        return pid

    def close(self) -> None:
        """Kills the server, if there is one."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        self._reset()

    def discard(self, reason: str) -> None:
        """Kills a server that does not work; a later `spawn` starts another."""
        self.close()
        self._record_loss(reason)

    def on_exit(self, status: int) -> None:
        """The server has been reaped with wait `status`."""
        if self._server is not None:
            self._server.returncode = status  # else Popen would wait for, or signal, a pid that is free for reuse
        self._reset()
        self._record_loss(restart_policy.describe_exit(status))

    def _reset(self) -> None:
        self._server = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _record_loss(self, reason: str) -> None:
        self.losses += 1
        wait_s = restart_policy.restart_backoff_s(self.losses, random.random())  # noqa: S311 - jitter
        self.due_at = time.monotonic() + wait_s
        logger.warning("fork_server_lost", reason=reason, losses=self.losses)

    def _start_server(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # keeps the bounds of messages
        ours.settimeout(0)
        with theirs, _block_signals():
            self._server = subprocess.Popen(
                [sys.executable, "-P", "-m", _SERVER_MODULE, str(theirs.fileno()), str(os.getpid()), self._warm_up],
                pass_fds=(theirs.fileno(), *self._descriptors),
                stdin=subprocess.DEVNULL,
                env=filter_environment(os.environ),
            )
        self._socket, self._warm_up_deadline = ours, time.monotonic() + WARM_UP_TIMEOUT_S
        return ours

    def _is_warm(self, requests: socket.socket, deadline: float) -> bool:
        try:
            hello = requests.recv(MAX_REQUEST_BYTES)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError("the fork server did not warm up in time") from None
            return False
        if not hello:
            raise ConnectionError("the fork server ended while it warmed up")
        requests.settimeout(FORK_TIMEOUT_S)
        self._warm_up_deadline = None
        return True


@contextmanager
def _block_signals() -> Iterator[None]:
    """A process that is started meanwhile begins with them blocked, and keeps those that come for its handlers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, *TERMINATING_SIGNALS})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
