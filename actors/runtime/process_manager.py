"""The processes of one supervisor: forks children through the fork server, reads heartbeats, signals and reaps."""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import structlog

from actors.runtime.forkserver import become_subreaper
from actors.runtime.forkserver_client import ForkServerClient
from actors.runtime.heartbeat import SLOTS, Heartbeat, HeartbeatTable, create_shared_memory
from actors.runtime.restart_policy import Child
from engine.platform import processes

logger = structlog.get_logger()

ABORT_GRACE_S: Final = 0.7  # from SIGABRT, on which a child writes every thread's traceback, to SIGKILL
ORPHAN_GRACE_S: Final = 5.0  # a database server whose owner has died shuts down by itself
_RETRY_S: Final = 0.1
_ORPHAN_CHECK_EVERY_S: Final = 1.0
_MAX_TITLE_LENGTH: Final = 200  # titles are people's text, and a spawn request has a maximum size
_RESERVED_COUNT: Final = 24  # a new fork server takes 9 at once, reading a crash report and a child's memory one each


class DescriptorReserve:
    """Open descriptors that are closed when they are needed.

    A supervisor whose process has run out of descriptors could not reap a child's crash report or start a fork server,
    and would be of no use exactly when it is needed.
    """

    def __init__(self) -> None:
        self._descriptors: list[int] = []
        self._fill()

    @contextlib.contextmanager
    def release_temporarily(self) -> Iterator[None]:
        """While entered the reserved descriptors are free; afterwards as many as possible are reserved again."""
        self.close()
        try:
            yield
        finally:
            self._fill()

    def close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _fill(self) -> None:
        with contextlib.suppress(OSError):
            while len(self._descriptors) < _RESERVED_COUNT:
                self._descriptors.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


class ProcessManager:
    """All processes of one supervisor.

    A pid cannot be reused before `reap` returns it, since the supervisor is the parent: a signal never hits another
    process. Children that this process had before are reaped, and never signalled.
    """

    def __init__(self, run_dir: Path, warm_up: str = "") -> None:
        self._run_dir = run_dir
        self._heartbeat_fd = create_shared_memory()
        self._heartbeats = HeartbeatTable(self._heartbeat_fd)
        self._free_slots = list(range(SLOTS - 1, -1, -1))
        self._is_full = False  # logged once
        self._incarnations = 0
        # A shell that became this process by exec (a container's entry point) may have had children.
        self._preexisting_pids = frozenset(_list_children())
        self._live_pids: set[int] = set()
        self._orphans: dict[int, float] = {}  # by pid: when each was first seen
        self._orphans_checked_at = 0.0
        # Nothing is ever written: the pipe closes when the supervisor ends in any way, and children see that.
        self._lifeline, self._lifeline_writer = os.pipe()
        self._fork_server = ForkServerClient((self._lifeline, self._heartbeat_fd), warm_up)
        self.reserve = DescriptorReserve()
        become_subreaper()

    def allocate_slot(self) -> int | None:
        """A free slot of the heartbeat table; None when all are taken."""
        if self._free_slots:
            return self._free_slots.pop()
        if not self._is_full:
            logger.error("heartbeat_slots_exhausted", reason=f"there are {SLOTS} children already")
        self._is_full = True
        return None

    def free_slot(self, slot: int) -> None:
        self._free_slots.append(slot)
        self._is_full = False

    @property
    def fork_server_losses(self) -> int:
        """How many fork servers were lost, one after another, since one of them last forked a child."""
        return self._fork_server.losses

    def heartbeat(self, child: Child) -> Heartbeat:
        return self._heartbeats.read(child.slot)

    def start(self, child: Child) -> bool:
        """Forks `child` as a new incarnation. False when that cannot be done now; then its `due_at` is set."""
        self._incarnations += 1
        child.incarnation, child.started_at = self._incarnations, time.monotonic()
        child.cause = child.kill_at = None
        self._heartbeats.reset(child.slot, child.incarnation, child.started_at + child.spec.start_deadline_s)
        with self.reserve.release_temporarily():
            try:
                child.pid = self._fork_server.spawn(self._encode_spawn_request(child))
            except (OSError, ValueError) as error:
                self._fork_server.discard(f"{type(error).__name__}: {error}")
                self._kill_unreported_forks()
        if child.pid is None:
            child.due_at = max(time.monotonic() + _RETRY_S, self._fork_server.due_at)
            return False
        self._live_pids.add(child.pid)
        return True

    def reap(self) -> list[tuple[int, int]]:
        """(pid, wait status) of every process that has ended since the last call."""
        ended = []
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0] != 0:
                ended.append(found)
                self._live_pids.discard(found[0])
                self._preexisting_pids -= {found[0]}
                if found[0] == self._fork_server.pid:
                    self._fork_server.on_exit(found[1])
        now = time.monotonic()
        if now - self._orphans_checked_at >= _ORPHAN_CHECK_EVERY_S:
            self._kill_orphans(now)
        return ended

    def terminate(self, child: Child) -> None:
        """Asks `child` to stop within its grace."""
        self._heartbeats.request_stop(child.slot)  # before the signal, whose handler looks for it
        child.kill_at = time.monotonic() + child.spec.grace_s
        self._signal(child, signal.SIGTERM)

    def abort(self, child: Child, cause: str) -> None:
        """Ends a child for a fault. On SIGABRT it writes every thread's traceback into its crash report; SIGKILL
        follows, since a child stopped by SIGSTOP handles no other signal."""
        logger.warning("child_killed", child=child.spec.name, reason=cause, pid=child.pid)
        child.cause = cause
        child.kill_at = time.monotonic() + ABORT_GRACE_S
        self._signal(child, signal.SIGABRT)

    def kill(self, child: Child) -> None:
        child.kill_at = None
        self._signal(child, signal.SIGKILL)

    @staticmethod
    def sample_memory(children: Iterable[Child], now: float) -> None:
        """Records each child's private memory in bytes, without the pages that it shares with the fork server."""
        for child in children:
            if child.pid is not None:
                child.memory_bytes, child.memory_sampled_at = _read_private_bytes(child.pid), now

    def close(self) -> None:
        """Ends every process of ours, orphans included, within 10 s; one of another user may stay."""
        self._live_pids.clear()
        self._fork_server.close()
        self._kill_unreported_forks()
        until = time.monotonic() + 2 * ORPHAN_GRACE_S
        while _list_children() - self._preexisting_pids and time.monotonic() < until:
            self._kill_orphans(time.monotonic())
            self.reap()
            time.sleep(0.01)
        self.reserve.close()
        for descriptor in (self._lifeline_writer, self._lifeline, self._heartbeat_fd):
            os.close(descriptor)

    def _signal(self, child: Child, number: signal.Signals) -> None:
        if child.pid is not None:
            os.kill(child.pid, number)

    def _encode_spawn_request(self, child: Child) -> bytes:
        spec = child.spec
        request = {
            "name": spec.name,
            "title": (spec.title or spec.name)[:_MAX_TITLE_LENGTH],
            "kind": spec.kind,
            "entry": spec.entry,
            "settings_model": f"{type(spec.settings).__module__}:{type(spec.settings).__name__}",
            "settings": spec.settings.to_child_json(),
            "argument": spec.argument,
            "slot": child.slot,
            "run_dir": str(self._run_dir),
            "lifeline": self._lifeline,
            "heartbeat_fd": self._heartbeat_fd,
            "death_signal": int(spec.death_signal),
            "tick_deadline_s": spec.tick_deadline_s,
            "memory_mb": spec.memory_mb,
            "grace_s": spec.grace_s,
        }
        return json.dumps(request).encode()

    def _kill_unreported_forks(self) -> None:
        """Ends every child that the lost fork server forked but did not report, so that no child ever runs twice."""
        until, clean_scans = time.monotonic() + ORPHAN_GRACE_S, 0
        # Two scans without a find: a process that was forking during the first may have left another one.
        while clean_scans < 2 and time.monotonic() < until:
            unreported = [
                pid for pid in _list_children() - self._live_pids - self._preexisting_pids if _is_python_process(pid)
            ]
            clean_scans = 0 if unreported else clean_scans + 1
            for pid in unreported:
                os.kill(pid, signal.SIGKILL)
            if unreported:
                time.sleep(0.01)  # each scan reads all processes of the host

    def _kill_orphans(self, now: float) -> None:
        """Kills processes that ended children have left: as a subreaper the supervisor became their parent."""
        self._orphans_checked_at = now
        orphans = _list_children_fast() - self._live_pids - self._preexisting_pids - {self._fork_server.pid}
        self._orphans = {pid: self._orphans.get(pid, now) for pid in orphans}
        for pid, since in self._orphans.items():
            if now - since >= ORPHAN_GRACE_S:
                logger.warning("orphan_killed", pid=pid)
                with contextlib.suppress(PermissionError):  # a program of another user, which is not ours to end
                    os.kill(pid, signal.SIGKILL)


def _list_children() -> set[int]:
    """The pids of all children of this process, zombies included."""
    return processes.children_of(os.getpid())


def _list_children_fast() -> set[int]:
    """The same from one small file, which may miss some while processes start and end (proc(5))."""
    try:
        return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}
    except OSError:
        return set()


def _read_private_bytes(pid: int) -> int | None:
    """None when it cannot be read: the process is ending, or this one is out of descriptors."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def _is_python_process(pid: int) -> bool:
    """Whether `pid` runs our interpreter: true of our children, false of a PostgreSQL server and of a zombie."""
    try:
        return Path(f"/proc/{pid}/exe").samefile(sys.executable)
    except OSError:
        return False
