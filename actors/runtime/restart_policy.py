"""The supervisor's policy as pure functions: which children may start, when to restart, when to give up.

After Erlang/OTP's restart intensity (at most N restarts in a period), with a jittered exponential wait in between.
Times are passed in, as monotonic seconds.
"""

import signal
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import nsmallest
from itertools import islice
from typing import Final

from actors.runtime.child_spec import ChildSpec, ExhaustedRestarts, RestartPolicy
from actors.runtime.heartbeat import Heartbeat
from actors.runtime.messages import ChildReport
from engine.platform.backoff import jittered_backoff_s
from engine.platform.errors import EXIT_CONFIGURATION, EXIT_TRY_AGAIN

MAX_RESTARTS: Final = 5
RESTART_WINDOW_S: Final = 300.0
INITIAL_BACKOFF_S: Final = 0.1
MAX_BACKOFF_S: Final = 30.0
MAX_POLL_S: Final = 1.0
FORCED_GRACE_S: Final = 1.0
MIB: Final = 1024 * 1024


class ChildState(StrEnum):
    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    PARKED = "parked"
    DONE = "done"


class RestartDecision(StrEnum):
    """What becomes of a child that has ended."""

    DONE = "done"
    RESTART = "again"
    PARK = "park"
    GIVE_UP = "give_up"  # a shared child without which the whole system cannot run


STATE_AFTER_EXIT: Final = {
    RestartDecision.DONE: ChildState.DONE,
    RestartDecision.RESTART: ChildState.BACKOFF,
    RestartDecision.PARK: ChildState.PARKED,
    RestartDecision.GIVE_UP: ChildState.PARKED,
}
_READY: Final = frozenset({ChildState.RUNNING, ChildState.DONE, ChildState.PARKED})


@dataclass(slots=True)
class Child:
    """The supervisor's record of one child; times are monotonic seconds."""

    spec: ChildSpec
    slot: int
    revision: str = ""
    state: ChildState = ChildState.WAITING
    pid: int | None = None
    incarnation: int = 0
    ever_ready: bool = False
    ever_done: bool = False
    started_at: float = 0.0
    due_at: float = 0.0  # when the wait before a restart is over
    kill_at: float | None = None  # when a child that was asked to stop gets SIGKILL
    cause: str | None = None  # why it is being ended, or how it ended last
    crash_times: deque[float] = field(default_factory=deque)
    restarts: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    memory_bytes: int | None = None
    memory_sampled_at: float = 0.0

    def record_exit(self, status: int, decision: RestartDecision) -> None:
        """Adds an exit to the history, from which reports and reasons are built."""
        if decision is RestartDecision.DONE:
            self.ever_done = True
            return
        self.cause = self.cause or describe_exit(status)
        self.reasons[self.cause] += 1
        self.restarts += decision is RestartDecision.RESTART


def describe_exit(status: int) -> str:
    """A wait status in words: ``exit 1`` or ``SIGKILL``."""
    number = status & 0x7F
    return signal.Signals(number).name if number else f"exit {status >> 8}"


def is_clean_exit(status: int) -> bool:
    """Whether a child that was asked to stop did so by itself and without an error."""
    return status == 0


def is_configuration_exit(status: int) -> bool:
    return status == EXIT_CONFIGURATION << 8


def supervisor_exit_code(status: int) -> int:
    """The supervisor's own exit code after a child without which nothing works has ended with wait `status`."""
    code = status >> 8
    return code if code in (EXIT_CONFIGURATION, EXIT_TRY_AGAIN) else 1


def decide_restart(child: Child, status: int, now: float) -> RestartDecision:
    """What to do about a child that ended with wait `status`. Forgets crashes that are older than the window."""
    if child.spec.restart is RestartPolicy.TRANSIENT and status == 0 and child.cause is None:
        return RestartDecision.DONE
    stops_all = child.spec.on_exhausted is ExhaustedRestarts.STOP_ALL
    if stops_all and status == EXIT_TRY_AGAIN << 8:  # another engine does the work already
        return RestartDecision.GIVE_UP
    child.crash_times.append(now)
    while now - child.crash_times[0] > RESTART_WINDOW_S:
        child.crash_times.popleft()
    if not is_configuration_exit(status) and len(child.crash_times) <= MAX_RESTARTS:
        return RestartDecision.RESTART
    if not stops_all:
        return RestartDecision.PARK
    has_served = child.ever_done if is_task(child) else child.ever_ready
    return RestartDecision.RESTART if has_served else RestartDecision.GIVE_UP


def is_task(child: Child) -> bool:
    """Whether the child ends by itself when its work is done. Until then the stages after it wait."""
    return child.spec.restart is RestartPolicy.TRANSIENT and not child.spec.is_dynamic


def restart_backoff_s(crashes: int, random: float) -> float:
    """Seconds to wait after the `crashes`-th crash in the window (1 is the first); `random` in [0, 1) spreads them."""
    return jittered_backoff_s(crashes, INITIAL_BACKOFF_S, MAX_BACKOFF_S, random)


def should_abort_startup(fork_server_losses: int, children: Iterable[Child]) -> bool:
    """Whether to give up: too many fork servers were lost in a row without a child, and no child was ever ready.

    Once one was, new fork servers are tried for ever: the fault is likely to be the host's, and passing.
    """
    return fork_server_losses > MAX_RESTARTS and not any(child.ever_ready for child in children)


def is_stalled(child: Child, heartbeat: Heartbeat, now: float) -> bool:
    """Whether the deadline of a child's tick has passed. One that was asked to stop has `kill_at` instead."""
    if child.state not in (ChildState.STARTING, ChildState.RUNNING) or child.kill_at is not None:
        return False
    return heartbeat.incarnation == child.incarnation and now > heartbeat.deadline


def is_over_memory_limit(child: Child) -> bool:
    if child.spec.memory_mb is None or child.memory_bytes is None or child.kill_at is not None:
        return False
    return child.memory_bytes > child.spec.memory_mb * MIB


def has_grace_expired(child: Child, now: float, *, is_forced: bool) -> bool:
    """Whether a child that was asked to stop has had its grace; `is_forced` leaves it 1 s of it."""
    if child.pid is None or child.kill_at is None:
        return False
    skipped_s = max(0.0, child.spec.grace_s - FORCED_GRACE_S) if is_forced else 0.0
    return now >= child.kill_at - skipped_s


def select_startable(
    children: Iterable[Child], now: float, max_starting: int, *, is_leased: bool = True
) -> list[Child]:
    """The children that may start now: due, with all stages before theirs ready, at most `max_starting` at once.

    Children that need the lease wait until it `is_leased`.
    """
    everyone = [child for child in children if is_leased or not child.spec.needs_lease]
    stage = min((child.spec.stage for child in everyone if not _is_ready(child)), default=0)
    room = max_starting - sum(child.state is ChildState.STARTING for child in everyone)
    due = (c for c in everyone if c.state in (ChildState.WAITING, ChildState.BACKOFF) and c.due_at <= now)
    # A shared child that crashes later must not hold up children that were already started once.
    return list(islice((c for c in due if c.spec.stage <= stage or c.ever_ready), max(0, room)))


def _is_ready(child: Child) -> bool:
    return child.state in _READY and not (child.state is ChildState.RUNNING and is_task(child))


def current_stop_stage(children: Iterable[Child]) -> int | None:
    """The stage to stop now: the highest with a living child."""
    return max((child.spec.effective_stop_stage for child in children if child.pid is not None), default=None)


def next_timeout_s(children: Iterable[Child], read_heartbeat: Callable[[Child], Heartbeat], now: float) -> float:
    """Seconds that the supervisor may wait if nothing wakes it: until the first deadline, kill or restart is due.

    A deadline or restart that is overdue counts as due in 20 ms, so that the loop does not spin until it is handled.
    """
    until = now + MAX_POLL_S
    for child in children:
        if child.kill_at is not None:
            until = min(until, child.kill_at)
        elif child.state is ChildState.STARTING:
            until = min(until, now + 0.02)  # the first heartbeat wakes no one
        elif child.state is ChildState.RUNNING:
            until = min(until, max(read_heartbeat(child).deadline, now + 0.02))
        elif child.state in (ChildState.BACKOFF, ChildState.WAITING):
            until = min(until, max(child.due_at, now + 0.02))
    return max(0.0, until - now)


def select_for_memory_sample(children: Iterable[Child], limit: int) -> list[Child]:
    """The `limit` children whose last memory sample is oldest: for each the kernel walks through all its pages."""
    return nsmallest(
        limit, (child for child in children if child.pid is not None), key=lambda child: child.memory_sampled_at
    )


def describe_parking(child: Child) -> str:
    crashes = (
        f"{len(child.crash_times)} crashes in {RESTART_WINDOW_S:.0f} s" if len(child.crash_times) > 1 else "its crash"
    )
    return f"parked after {crashes}, the last by {child.cause}"


def summarize(children: Iterable[Child], *, is_leased: bool) -> tuple[bool, str]:
    """Whether all shared children that may run are ready, and one line with the number of children in each state."""
    everyone = list(children)
    states = Counter(child.state.value for child in everyone)
    shared = (child for child in everyone if not child.spec.is_dynamic and (is_leased or not child.spec.needs_lease))
    is_ready = all(child.state in _READY for child in shared)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    is_waiting = not is_leased and any(child.spec.needs_lease for child in everyone)
    return is_ready, f"without the database's lease: {counts}" if is_waiting else counts


def build_report(child: Child, now: float) -> ChildReport:
    alive = child.pid is not None
    return ChildReport(
        name=child.spec.name,
        kind=child.spec.group or child.spec.kind,
        title=child.spec.title,
        state=child.state,
        pid=child.pid,
        restarts=child.restarts,
        restart_reasons=dict(child.reasons),
        memory_bytes=child.memory_bytes,
        uptime_s=round(now - child.started_at, 3) if alive else None,
    )
