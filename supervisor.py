"""Keeps every child running, and nothing else: no database, no HTTP, no business rule.

One loop waits for whatever happens first (a child ends, a message comes, a promise runs out, a signal arrives) and then
calls verbs. What they decide by is pure and lives in `actors.supervision`, what they do it with in `actors.brood`.
"""

import contextlib
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

import structlog
import zmq

from actors import supervision
from actors.brood import Brood
from actors.home import HomeLock, read_last_words
from actors.link import Door, Link
from actors.messages import ChildParked, Done, RestartStrategy, SupervisorReport, Wanted, WantedStrategy
from actors.specs import ChildSpec
from actors.supervision import Child, State, Verdict
from actors.systemd import Notifier
from actors.wakeups import Wakeups
from engine.errors import EXIT_CONFIGURATION

logger = structlog.get_logger()

MOST_STARTING: Final = 8  # children in their boot at once; more would only share two cores thinner
REPORT_EVERY_S: Final = 1.0


class Supervisor:
    """`specs` are the fixed children; `strategy_spec` makes the spec of a strategy the roster wants.

    `listener` hears of every change of a child's state, after it happened.
    """

    def __init__(
        self,
        run_dir: Path,
        specs: Sequence[ChildSpec],
        strategy_spec: Callable[[WantedStrategy], ChildSpec],
        listener: Callable[[Child], None],
        notifier: Notifier | None = None,
    ) -> None:
        self._run_dir = run_dir
        self._specs = specs
        self._strategy_spec = strategy_spec
        self._listener = listener
        self._notifier = notifier or Notifier({})
        self._children: dict[str, Child] = {}
        self._wanted: dict[str, WantedStrategy] = {}
        self._stopping = self._hurried = False
        self._exit_code = 0
        self._reported_at = 0.0

    def run(self) -> int:
        """Runs until told to stop. Returns 0 after a clean stop, 1 when somebody had to be killed for it, and the exit
        code of a shared child that never could run.

        Raises BadConfiguration when another supervisor holds the same home.
        """
        with HomeLock(self._run_dir), self._equipment(), self._wakeups:
            self._children = {spec.name: Child(spec, self._brood.take_slot()) for spec in self._specs}
            while self._goes_on():
                self._wait()
                self._receive()
                self._reap()
                self._note_ready()
                self._kill_overdue()
                self._stop_due()
                self._start_due()
                self._report()
        return self._exit_code

    def _goes_on(self) -> bool:
        return not self._stopping or any(child.pid is not None for child in self._children.values())

    # the loop's verbs

    def _wait(self) -> None:
        self._wakeups.wait(supervision.patience_s(self._children.values(), self._brood.pulse, time.monotonic()))

    def _receive(self) -> None:
        for message, answer in self._door.arrivals():
            if isinstance(message, Wanted):
                self._follow(message.strategies)
            elif isinstance(message, RestartStrategy):
                self._restart(f"strategy-{message.strategy_id}")
            else:
                logger.warning("message_refused", reason=f"the supervisor does not know {type(message).__name__}")
            if answer is not None:
                answer(Done())

    def _reap(self) -> None:
        by_pid = {child.pid: child for child in self._children.values() if child.pid is not None}
        for pid, status in self._brood.reap():
            if pid in by_pid:
                self._bury(by_pid[pid], status)

    def _note_ready(self) -> None:
        for child in self._children.values():
            if child.state is State.STARTING and self._brood.pulse(child).beats > 0:
                child.ever_ready = True
                self._become(child, State.RUNNING)

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for child in self._children.values():
            if supervision.is_stalled(child, self._brood.pulse(child), now):
                self._brood.abort(child, "stalled")
            elif supervision.is_overweight(child):
                self._brood.abort(child, "memory")
            elif supervision.is_overdue(child, now, hurried=self._hurried):
                self._brood.kill(child)

    def _stop_due(self) -> None:
        stage = supervision.closing_stage(self._children.values()) if self._stopping else None
        for child in self._children.values():
            if child.spec.stage == stage and child.pid is not None and child.state is not State.STOPPING:
                self._stop(child)

    def _start_due(self) -> None:
        if self._stopping:
            return
        for child in supervision.startable(self._children.values(), time.monotonic(), MOST_STARTING):
            living = {other.pid for other in self._children.values() if other.pid is not None}
            if self._brood.start(child, living):
                self._become(child, State.STARTING)

    def _report(self) -> None:
        now = time.monotonic()
        ready, status = supervision.summary(self._children.values())
        self._notifier.turned(is_ready=ready, status=status)
        if now - self._reported_at < REPORT_EVERY_S:
            return
        self._reported_at = now
        self._brood.weigh(self._children.values())
        rows = tuple(supervision.report(child, now) for child in self._children.values())
        self._link.tell("monitor", SupervisorReport(pid=os.getpid(), children=rows))

    # what becomes of one child

    def _become(self, child: Child, state: State) -> None:
        child.state = state
        self._listener(child)

    def _stop(self, child: Child) -> None:
        self._brood.ask_to_end(child)
        self._become(child, State.STOPPING)

    def _bury(self, child: Child, status: int) -> None:
        child.pid = child.memory_bytes = child.kill_at = None
        if child.state is State.STOPPING:
            self._lay_aside(child, status)
            return
        now = time.monotonic()
        verdict = supervision.verdict(child, status, now)
        child.note_death(status, verdict)
        if verdict is not Verdict.DONE:
            # A child that could still speak has told its reason itself.
            words = None if os.WIFEXITED(status) else read_last_words(self._run_dir, child.spec.name)
            logger.warning(
                "child_died", child=child.spec.name, reason=child.cause, deaths=len(child.deaths), said=words
            )
        if verdict is Verdict.GIVE_UP:
            self._give_up(child, status)
        elif verdict is Verdict.AGAIN:
            child.due_at = now + supervision.wait_before_restart(len(child.deaths), random.random())  # noqa: S311 - jitter
        self._become(child, supervision.STATE_AFTER[verdict])
        if verdict is Verdict.PARK:
            self._tell_parked(child)

    def _lay_aside(self, child: Child, status: int) -> None:
        """After an end that we asked for: started again when it is still wanted, forgotten when it is not."""
        if self._stopping:
            self._exit_code = self._exit_code or int(status != 0)
            self._become(child, State.DONE)
        elif child.spec.kind != "strategy" or child.spec.name in self._wanted:
            self._become(child, State.WAITING)
        else:
            self._forget(child)

    def _give_up(self, child: Child, status: int) -> None:
        logger.error("giving_up", child=child.spec.name, reason=child.cause)
        self._exit_code = EXIT_CONFIGURATION if supervision.is_configuration_exit(status) else 1
        self._stopping = True

    def _forget(self, child: Child) -> None:
        del self._children[child.spec.name]
        self._brood.give_slot_back(child.slot)

    # strategies

    def _follow(self, strategies: Sequence[WantedStrategy]) -> None:
        """Makes the running strategies exactly these."""
        self._wanted = {f"strategy-{wanted.id}": wanted for wanted in strategies}
        for name, wanted in self._wanted.items():
            self._want(name, wanted)
        for child in [c for c in self._children.values() if c.spec.kind == "strategy"]:
            if child.spec.name not in self._wanted:
                self._dismiss(child)

    def _want(self, name: str, wanted: WantedStrategy) -> None:
        child = self._children.get(name)
        if child is not None and child.state is State.PARKED and child.revision != wanted.revision:
            self._forget(child)  # somebody resumed the row: a fresh start, with a clean history
            child = None
        if child is None:
            child = self._children[name] = Child(self._strategy_spec(wanted), self._brood.take_slot())
        elif child.state is State.PARKED:
            self._tell_parked(child)  # the roster could not write it down yet
        elif child.state is State.DONE:
            self._become(child, State.WAITING)
        child.revision = wanted.revision

    def _dismiss(self, child: Child) -> None:
        if child.pid is None:
            self._forget(child)
        elif child.state is not State.STOPPING:
            self._stop(child)

    def _restart(self, name: str) -> None:
        child = self._children.get(name)
        if child is not None and child.pid is not None and child.state is not State.STOPPING:
            self._stop(child)

    def _tell_parked(self, child: Child) -> None:
        reason = f"parked after {len(child.deaths)} deaths in {supervision.WINDOW_S:.0f} s, the last by {child.cause}"
        words = read_last_words(self._run_dir, child.spec.name)
        self._link.tell("roster", ChildParked(strategy_id=UUID(child.spec.argument), reason=reason, traceback=words))

    # what the loop stands on

    @contextlib.contextmanager
    def _equipment(self) -> Iterator[None]:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # shared actors serve a socket for every strategy
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._brood = Brood(self._run_dir)
        self._door = Door(context, self._run_dir, "supervisor")
        self._link = Link(context, self._run_dir)
        handlers = {signal.SIGTERM: self._on_stop, signal.SIGINT: self._on_stop, signal.SIGUSR1: self._on_dump}
        self._wakeups = Wakeups(self._door.socket, handlers)
        try:
            yield
        finally:
            self._brood.close()
            context.destroy(linger=0)

    def _on_stop(self, *_: object) -> None:
        self._hurried = self._stopping
        self._stopping = True
        self._notifier.stopping()

    def _on_dump(self, *_: object) -> None:
        for child in self._children.values():
            logger.info("child", **supervision.report(child, time.monotonic()).model_dump())
