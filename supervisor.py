"""Keeps every child running, and nothing else: no database, no HTTP, no business rule.

One loop waits for whatever happens first (a child ends, a message comes, a deadline passes, a signal arrives) and then
calls verbs. Decisions are pure functions in `actors.runtime.restart_policy`; `actors.runtime.process_manager` starts,
signals and reaps processes; `actors.runtime.supervisor_reporter` sends reports to other processes and to systemd.
"""

import contextlib
import random
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
import zmq

from actors.runtime import restart_policy
from actors.runtime.child_spec import ChildSpec, SupervisionPlan
from actors.runtime.messages import Ack, DesiredChild, DesiredChildren, LeaseDeadline, RestartChild
from actors.runtime.messaging import MessageClient, MessageServer
from actors.runtime.os_signals import SignalFlags, SignalPoller
from actors.runtime.process_manager import ProcessManager
from actors.runtime.restart_policy import Child, ChildState, RestartDecision
from actors.runtime.state_dir import StateDirLock
from actors.runtime.supervisor_reporter import SupervisorReporter
from actors.runtime.systemd import Notifier

logger = structlog.get_logger()

MAX_CONCURRENT_STARTS: Final = 8  # children starting at once; more would only be slower, each with less CPU
MEMORY_SAMPLES_PER_REPORT: Final = 20  # children whose memory is sampled with each report
MAX_HOST_PAUSE_S: Final = 1.0  # a wait that took longer than this too long means that the host stood still


@dataclass(frozen=True, slots=True)
class SupervisorResources:
    """Resources of a running supervisor: state-dir lock, process manager, message server, reporter, signal poller."""

    lock: StateDirLock
    processes: ProcessManager
    server: MessageServer
    reporter: SupervisorReporter
    poller: SignalPoller


@contextlib.contextmanager
def open_resources(
    run_dir: Path, plan: SupervisionPlan, notifier: Notifier, flags: SignalFlags
) -> Iterator[SupervisorResources]:
    """While entered, signals set `flags`. Raises ConfigurationError when another supervisor holds the state directory.

    Everything is closed in reverse order; the lock is released last, when no process of ours is left.
    """
    with StateDirLock(run_dir) as lock, contextlib.ExitStack() as closing:
        # To the hard limit, because shared children serve a socket for every dynamic one.
        max_descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max_descriptors, max_descriptors))
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        closing.callback(context.destroy, linger=0)
        closing.callback(notifier.close)
        processes = ProcessManager(run_dir, plan.warm_up)
        closing.callback(processes.close)
        server = MessageServer(context, run_dir, "supervisor")
        reporter = SupervisorReporter(MessageClient(context, run_dir), plan.recipients, notifier, run_dir)
        poller = closing.enter_context(SignalPoller(server.socket, flags))
        yield SupervisorResources(lock, processes, server, reporter, poller)


class Supervisor:
    """Runs the children of `plan`. `listener` is called after every change of a child's state.

    `read_plan` is called on SIGHUP and returns the new plan, or None to keep the present one.
    """

    def __init__(
        self,
        run_dir: Path,
        plan: SupervisionPlan,
        listener: Callable[[Child], None],
        *,
        notifier: Notifier,
        read_plan: Callable[[], SupervisionPlan | None] = lambda: None,
    ) -> None:
        self._run_dir = run_dir
        self._plan = plan
        self._listener = listener
        self._notifier = notifier
        self._read_plan = read_plan
        self._children: dict[str, Child] = {}
        self._desired: dict[str, DesiredChild] = {}
        self._specs: dict[str, ChildSpec] = {}
        self._flags = SignalFlags()
        self._stall_grace_until = 0.0
        self._leased_until = 0.0
        self._exit_code = 0

    def run(self) -> int:
        """Runs until a signal stops it. Returns 0 after a clean stop, 1 when a child had to be killed for it, and the
        exit code of a shared child that never could run.

        Raises ConfigurationError when another supervisor holds the same state directory.
        """
        with open_resources(self._run_dir, self._plan, self._notifier, self._flags) as resources:
            self._processes, self._reporter = resources.processes, resources.reporter
            self._apply_plan()
            while self._is_running():
                self._wait(resources.poller)
                self._receive(resources.server)
                self._reload()
                self._reap()
                self._mark_ready()
                self._kill_unresponsive()
                self._stop_without_lease()
                self._stop_current_stage()
                self._start_due()
                self._report(resources.lock)
        return self._exit_code

    def _is_running(self) -> bool:
        return not self._flags.stop or any(child.pid is not None for child in self._children.values())

    # the loop's verbs

    def _wait(self, poller: SignalPoller) -> None:
        timeout_s = restart_policy.next_timeout_s(self._children.values(), self._processes.heartbeat, time.monotonic())
        host_pause_s = poller.wait(timeout_s)
        if host_pause_s > MAX_HOST_PAUSE_S:
            # Suspended, or starved of CPU: no child could meet its deadline, so each gets the lost time back.
            self._stall_grace_until = time.monotonic() + host_pause_s

    def _receive(self, server: MessageServer) -> None:
        for message, answer in server.receive_all():
            if isinstance(message, DesiredChildren):
                self._desired = {wanted.name: wanted for wanted in message.children}
                self._apply_plan()
            elif isinstance(message, LeaseDeadline):
                self._leased_until = message.stop_by
            elif isinstance(message, RestartChild):
                self._stop(self._children.get(message.name))
            else:
                logger.warning("message_refused", reason=f"the supervisor does not know {type(message).__name__}")
            if answer is not None:
                answer(Ack())

    def _reload(self) -> None:
        if self._flags.reload:
            self._flags.reload = False
            self._plan = self._read_plan() or self._plan
            self._apply_plan()

    def _reap(self) -> None:
        by_pid = {child.pid: child for child in self._children.values() if child.pid is not None}
        for pid, status in self._processes.reap():
            if pid in by_pid:
                with self._processes.reserve.release_temporarily():
                    self._handle_exit(by_pid[pid], status)

    def _mark_ready(self) -> None:
        for child in self._children.values():
            self._mark_if_ready(child)

    def _mark_if_ready(self, child: Child) -> None:
        if child.state is ChildState.STARTING and self._processes.heartbeat(child).beats > 0:
            child.ever_ready = True
            self._set_state(child, ChildState.RUNNING)

    def _kill_unresponsive(self) -> None:
        now = time.monotonic()
        for child in self._children.values():
            if now > self._stall_grace_until and restart_policy.is_stalled(
                child, self._processes.heartbeat(child), now
            ):
                self._processes.abort(child, "stalled")
            elif restart_policy.is_over_memory_limit(child):
                self._processes.abort(child, "memory")
            elif restart_policy.has_grace_expired(child, now, is_forced=self._flags.force):
                self._processes.kill(child)

    def _stop_without_lease(self) -> None:
        if not self._is_leased():
            for child in self._children.values():
                if child.spec.needs_lease:
                    self._stop(child)

    def _stop_current_stage(self) -> None:
        stage = restart_policy.current_stop_stage(self._children.values()) if self._flags.stop else None
        for child in self._children.values():
            if child.spec.effective_stop_stage == stage:
                self._stop(child)

    def _start_due(self) -> None:
        due = restart_policy.select_startable(
            self._children.values(), time.monotonic(), MAX_CONCURRENT_STARTS, is_leased=self._is_leased()
        )
        for child in [] if self._flags.stop else due:
            if self._processes.start(child):
                self._set_state(child, ChildState.STARTING)
        if (
            restart_policy.should_abort_startup(self._processes.fork_server_losses, self._children.values())
            and not self._flags.stop
        ):
            self._abort(1, "no child can be started: the fork server ends each time before it has forked one")

    def _report(self, lock: StateDirLock) -> None:
        everyone = self._children.values()
        self._reporter.notify_systemd(everyone, is_stopping=self._flags.stop, is_leased=self._is_leased())
        if self._flags.dump:
            self._flags.dump = False
            self._reporter.log_children(everyone)
        if self._reporter.is_report_due():
            self._processes.sample_memory(
                restart_policy.select_for_memory_sample(everyone, MEMORY_SAMPLES_PER_REPORT), time.monotonic()
            )
            self._reporter.send_report(everyone)
            if lock.is_deleted() and not self._flags.stop:
                self._abort(1, "the lock in SPARKY_HOME is gone, and nothing would keep a second Sparky away")

    # which children there should be

    def _apply_plan(self) -> None:
        """Makes the children exactly those of the plan and the desired ones, each by its present spec."""
        if self._flags.stop:
            return
        fixed = {spec.name: spec for spec in self._plan.fixed}
        # A fixed child keeps its name, whatever a message desires.
        self._specs = {name: self._plan.build_dynamic_spec(wanted) for name, wanted in self._desired.items()} | fixed
        for name in self._children.keys() - self._specs.keys():
            self._remove_child(self._children[name])
        for name, spec in self._specs.items():
            self._apply_spec(spec, self._desired[name].revision if name in self._desired else "")

    def _apply_spec(self, spec: ChildSpec, revision: str) -> None:
        child = self._children.get(spec.name)
        if child is not None and child.state is ChildState.PARKED and child.revision != revision:
            self._delete_child(child)  # it has changed since it was parked: a fresh start, with a clean history
            child = None
        if child is None:
            slot = self._processes.allocate_slot()
            if slot is None:
                return
            child = self._children[spec.name] = Child(spec, slot)
        elif child.state is ChildState.PARKED and spec.is_dynamic:
            self._reporter.report_parked(child)  # it is still desired: the first message may have been dropped
        elif child.spec != spec:
            self._stop(child)
        if child.state is ChildState.DONE and (child.spec != spec or spec.is_dynamic):
            self._set_state(child, ChildState.WAITING)
        child.spec, child.revision = spec, revision

    def _remove_child(self, child: Child) -> None:
        if child.pid is None:
            self._delete_child(child)
        self._stop(child)

    def _delete_child(self, child: Child) -> None:
        del self._children[child.spec.name]
        self._processes.free_slot(child.slot)

    # states of one child

    def _set_state(self, child: Child, state: ChildState) -> None:
        child.state = state
        self._listener(child)

    def _stop(self, child: Child | None) -> None:
        if child is not None and child.pid is not None and child.state is not ChildState.STOPPING:
            self._processes.terminate(child)
            self._set_state(child, ChildState.STOPPING)

    def _handle_exit(self, child: Child, status: int) -> None:
        self._mark_if_ready(child)  # it may have become ready and ended since the last turn of a starved loop
        child.pid = child.memory_bytes = child.kill_at = None
        self._reporter.report_ended(child)
        if child.state is ChildState.STOPPING:
            self._handle_requested_exit(child, status)
            return
        now = time.monotonic()
        decision = restart_policy.decide_restart(child, status, now)
        child.record_exit(status, decision)
        if decision is not RestartDecision.DONE:
            self._reporter.log_crash(child, status)
        if decision is RestartDecision.GIVE_UP and not self._flags.stop:
            self._abort(restart_policy.supervisor_exit_code(status), f"{child.spec.name} cannot run: {child.cause}")
        elif decision is RestartDecision.RESTART:
            child.due_at = now + restart_policy.restart_backoff_s(len(child.crash_times), random.random())  # noqa: S311 - jitter
        self._set_state(child, restart_policy.STATE_AFTER_EXIT[decision])
        if decision is RestartDecision.PARK:
            self._reporter.report_parked(child)

    def _is_leased(self) -> bool:
        return time.monotonic() < self._leased_until

    def _handle_requested_exit(self, child: Child, status: int) -> None:
        """After an end that we asked for: started again when it is still wanted, forgotten when it is not."""
        if self._flags.stop:
            self._exit_code = self._exit_code or int(not restart_policy.is_clean_exit(status))
            self._set_state(child, ChildState.DONE)
        elif child.spec.name in self._specs:
            child.due_at = 0.0
            self._set_state(child, ChildState.WAITING)
        else:
            self._delete_child(child)

    def _abort(self, code: int, reason: str) -> None:
        logger.error("supervisor_aborted", reason=reason)
        self._exit_code, self._flags.stop = code, True
