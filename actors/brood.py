"""The supervisor's hands: forks children through the fork server, watches their hearts, signals and reaps them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import psutil
import structlog

from actors.board import SLOTS, Board, Pulse, new_board
from actors.environment import inherited
from actors.forkserver import REQUEST_LIMIT, become_subreaper
from actors.reserve import Reserve
from actors.supervision import Child

logger = structlog.get_logger()

ABORT_GRACE_S: Final = 0.7  # from SIGABRT, on which a child writes every thread's traceback, to SIGKILL
_FORK_DEADLINE_S: Final = 10.0
_TRY_AGAIN_S: Final = 0.1
_WARM_UP_DEADLINE_S: Final = 60.0


class Brood:
    """All processes of one supervisor. A pid is ours until `reap` returns it, so a signal never hits a stranger."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._board_descriptor = new_board()
        self._board = Board(self._board_descriptor)
        self._free_slots = list(range(SLOTS - 1, -1, -1))
        self._incarnations = 0
        self._server: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        # Nobody ever writes: children see the end of this pipe when the supervisor is gone, however it went.
        self._lifeline, self._held = os.pipe()
        self.reserve = Reserve()
        become_subreaper()

    def take_slot(self) -> int:
        return self._free_slots.pop()

    def give_slot_back(self, slot: int) -> None:
        self._free_slots.append(slot)

    def pulse(self, child: Child) -> Pulse:
        return self._board.read(child.slot)

    def start(self, child: Child, living: set[int]) -> bool:
        """Forks `child` as a new incarnation. False when the fork server was lost: it is replaced with the next try."""
        self._incarnations += 1
        child.incarnation, child.began_at = self._incarnations, time.monotonic()
        child.cause = child.kill_at = None
        self._board.reset(child.slot, child.incarnation, child.began_at + child.spec.start_deadline_s)
        with self.reserve.lent():
            try:
                child.pid = self._ask(self._request(child))["pid"]
            except (OSError, ValueError, KeyError) as error:
                logger.warning("fork_server_lost", reason=f"{type(error).__name__}: {error}")
                self._end_server(living)
                child.due_at = time.monotonic() + _TRY_AGAIN_S
        return child.pid is not None

    def reap(self) -> list[tuple[int, int]]:
        """(pid, wait status) of everyone who has ended since the last call."""
        ended = []
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0] != 0:
                ended.append(found)
                if self._server is not None and found[0] == self._server.pid:
                    self._drop_server(found[1])
        return ended

    def ask_to_end(self, child: Child) -> None:
        child.kill_at = time.monotonic() + child.spec.grace_s
        self._signal(child, signal.SIGTERM)

    def abort(self, child: Child, cause: str) -> None:
        """Ends a child for a fault, with every thread's traceback in its last words."""
        logger.warning("killing", child=child.spec.name, reason=cause, pid=child.pid)
        child.cause = cause
        child.kill_at = time.monotonic() + ABORT_GRACE_S
        self._signal(child, signal.SIGABRT)

    def kill(self, child: Child) -> None:
        child.kill_at = None
        self._signal(child, signal.SIGKILL)

    @staticmethod
    def weigh(children: Iterable[Child], now: float) -> None:
        """Notes what each child's memory costs: its private pages, not those it shares with all the others."""
        for child in children:
            if child.pid is not None:
                child.memory_bytes, child.weighed_at = _private_bytes(child.pid), now

    def close(self) -> None:
        self._end_server(set())
        self.reserve.close()
        for descriptor in (self._held, self._lifeline, self._board_descriptor):
            os.close(descriptor)

    def _signal(self, child: Child, number: signal.Signals) -> None:
        if child.pid is not None:
            os.kill(child.pid, number)

    def _request(self, child: Child) -> bytes:
        spec = child.spec
        request = {
            "name": spec.name,
            "title": spec.title or spec.name,
            "kind": spec.kind,
            "entry": spec.entry,
            "settings": spec.settings.get_secret_value(),
            "argument": spec.argument,
            "slot": child.slot,
            "run_dir": str(self._run_dir),
            "lifeline": self._lifeline,
            "board": self._board_descriptor,
            "death_signal": int(spec.death_signal),
            "tick_deadline_s": spec.tick_deadline_s,
            "memory_mb": spec.memory_mb,
            "grace_s": spec.grace_s,
        }
        return json.dumps(request).encode()

    def _ask(self, request: bytes) -> dict[str, int]:
        requests = self._requests or self._start_server()
        requests.send(request)
        answer: dict[str, int] = json.loads(requests.recv(REQUEST_LIMIT))
        return answer

    def _start_server(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-P", "-m", "actors.forkserver", str(theirs.fileno()), str(os.getpid())],
                pass_fds=(theirs.fileno(), self._lifeline, self._board_descriptor),
                stdin=subprocess.DEVNULL,
                env=inherited(os.environ),
            )
        self._requests = ours
        ours.settimeout(_WARM_UP_DEADLINE_S)
        if not ours.recv(REQUEST_LIMIT):
            raise ConnectionError("the fork server ended while it warmed up")
        ours.settimeout(_FORK_DEADLINE_S)
        return ours

    def _end_server(self, living: set[int]) -> None:
        """Ends the fork server and every child it forked that nobody was told of, so that none ever runs twice."""
        if self._server is not None:
            self._server.kill()
            self._drop_server(self._server.wait())
        for process in psutil.Process().children():
            if process.pid not in living and _runs_python(process):
                process.kill()

    def _drop_server(self, status: int) -> None:
        if self._server is not None:
            self._server.returncode = status  # it is reaped, and Popen must not wait for it again
            self._server = None
        if self._requests is not None:
            self._requests.close()
            self._requests = None


def _private_bytes(pid: int) -> int | None:
    """None when it cannot be told now: the process is ending, or this one is out of descriptors."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def _runs_python(process: psutil.Process) -> bool:
    """Our children do; a PostgreSQL server that an ended child left to us does not."""
    try:
        return Path(process.exe()).samefile(sys.executable)
    except (psutil.Error, OSError):
        return False
