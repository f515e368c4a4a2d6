"""Keeps every child running, and nothing else: no database, no HTTP, no business rule.

One loop waits for whatever happens first (a child ends, a message comes, a promise runs out, a signal arrives) and then
calls verbs. What they decide by is pure and lives in `actors.runtime.restart_policy`; what they do it with is
`actors.runtime.process_manager`, whom they tell is `actors.runtime.supervisor_reporter`.
"""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from actors.equipment import equipped
from actors.runtime import restart_policy
from actors.runtime.child_spec import ChildSpec, Plan
from actors.runtime.messages import Done, EngineHeld, RestartStrategy, Wanted, WantedStrategy
from actors.runtime.messaging import Door
from actors.runtime.os_signals import Orders, Wakeups
from actors.runtime.restart_policy import Child, State, Verdict
from actors.runtime.state_dir import HomeLock
from actors.runtime.systemd import Notifier

logger = structlog.get_logger()

MOST_STARTING: Final = 8  # children in their boot at once; more would only share two cores thinner
MOST_WEIGHED: Final = 20  # children whose memory is looked at with each report
MOST_OVERSLEPT_S: Final = 1.0


class Supervisor:
    """Runs the children of `plan`. `listener` hears of every change of a child's state, after it happened.

    `reread` makes a new plan when SIGHUP asks for one, or None when nothing is to change.
    """

    def __init__(
        self,
        run_dir: Path,
        plan: Plan,
        listener: Callable[[Child], None],
        *,
        notifier: Notifier,
        reread: Callable[[], Plan | None] = lambda: None,
    ) -> None:
        self._run_dir = run_dir
        self._plan = plan
        self._listener = listener
        self._notifier = notifier
        self._reread = reread
        self._children: dict[str, Child] = {}
        self._wanted: dict[str, WantedStrategy] = {}
        self._specs: dict[str, ChildSpec] = {}
        self._orders = Orders()
        self._pardoned_until = 0.0
        self._leased_until = 0.0
        self._exit_code = 0

    def run(self) -> int:
        """Runs until told to stop. Returns 0 after a clean stop, 1 when somebody had to be killed for it, and the exit
        code of a shared child that never could run.

        Raises BadConfiguration when another supervisor holds the same home.
        """
        with equipped(self._run_dir, self._notifier, self._orders) as equipment:
            self._brood, self._bulletin = equipment.brood, equipment.bulletin
            self._refit()
            while self._goes_on():
                self._wait(equipment.wakeups)
                self._receive(equipment.door)
                self._reload()
                self._reap()
                self._note_ready()
                self._kill_overdue()
                self._stop_unleased()
                self._stop_due()
                self._start_due()
                self._report(equipment.lock)
        return self._exit_code

    def _goes_on(self) -> bool:
        return not self._orders.stop or any(child.pid is not None for child in self._children.values())

    # the loop's verbs

    def _wait(self, wakeups: Wakeups) -> None:
        patience_s = restart_policy.patience_s(self._children.values(), self._brood.pulse, time.monotonic())
        overslept_s = wakeups.wait(patience_s)
        if overslept_s > MOST_OVERSLEPT_S:  # the whole host stood still: nobody could keep a promise
            self._pardoned_until = time.monotonic() + overslept_s

    def _receive(self, door: Door) -> None:
        for message, answer in door.arrivals():
            if isinstance(message, Wanted):
                self._wanted = {f"strategy-{wanted.id}": wanted for wanted in message.strategies}
                self._refit()
            elif isinstance(message, EngineHeld):
                self._leased_until = message.stop_by
            elif isinstance(message, RestartStrategy):
                self._stop(self._children.get(f"strategy-{message.strategy_id}"))
            else:
                logger.warning("message_refused", reason=f"the supervisor does not know {type(message).__name__}")
            if answer is not None:
                answer(Done())

    def _reload(self) -> None:
        if self._orders.reread:
            self._orders.reread = False
            self._plan = self._reread() or self._plan
            self._refit()

    def _reap(self) -> None:
        by_pid = {child.pid: child for child in self._children.values() if child.pid is not None}
        for pid, status in self._brood.reap():
            if pid in by_pid:
                with self._brood.reserve.lent():
                    self._bury(by_pid[pid], status)

    def _note_ready(self) -> None:
        for child in self._children.values():
            if child.state is State.STARTING and self._brood.pulse(child).beats > 0:
                child.ever_ready = True
                self._become(child, State.RUNNING)

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for child in self._children.values():
            if now > self._pardoned_until and restart_policy.is_stalled(child, self._brood.pulse(child), now):
                self._brood.abort(child, "stalled")
            elif restart_policy.is_overweight(child):
                self._brood.abort(child, "memory")
            elif restart_policy.is_overdue(child, now, hurried=self._orders.hurry):
                self._brood.kill(child)

    def _stop_unleased(self) -> None:
        if not self._is_leased():
            for child in self._children.values():
                if child.spec.needs_lease:
                    self._stop(child)

    def _stop_due(self) -> None:
        stage = restart_policy.closing_stage(self._children.values()) if self._orders.stop else None
        for child in self._children.values():
            if child.spec.closing_stage == stage:
                self._stop(child)

    def _start_due(self) -> None:
        due = restart_policy.startable(
            self._children.values(), time.monotonic(), MOST_STARTING, is_leased=self._is_leased()
        )
        for child in [] if self._orders.stop else due:
            if self._brood.start(child):
                self._become(child, State.STARTING)
        if restart_policy.is_hopeless(self._brood.lost_servers, self._children.values()) and not self._orders.stop:
            self._leave(1, "no child can be started: the fork server ends each time before it has forked one")

    def _report(self, lock: HomeLock) -> None:
        everyone = self._children.values()
        self._bulletin.turned(everyone, is_stopping=self._orders.stop, is_leased=self._is_leased())
        if self._orders.dump:
            self._orders.dump = False
            self._bulletin.dump(everyone)
        if self._bulletin.is_report_due():
            self._brood.weigh(restart_policy.to_weigh(everyone, MOST_WEIGHED), time.monotonic())
            self._bulletin.report(everyone)
            if lock.is_void() and not self._orders.stop:
                self._leave(1, "the lock in SPARKY_HOME is gone, and nothing would keep a second Sparky away")

    # who should run

    def _refit(self) -> None:
        """Makes the children exactly those of the plan and of the roster, each by its present spec."""
        if self._orders.stop:
            return
        fixed = {spec.name: spec for spec in self._plan.fixed}
        self._specs = fixed | {name: self._plan.strategy(wanted) for name, wanted in self._wanted.items()}
        for name in self._children.keys() - self._specs.keys():
            self._dismiss(self._children[name])
        for name, spec in self._specs.items():
            self._fit(spec, self._wanted[name].revision if name in self._wanted else "")

    def _fit(self, spec: ChildSpec, revision: str) -> None:
        child = self._children.get(spec.name)
        if child is not None and child.state is State.PARKED and child.revision != revision:
            self._forget(child)  # somebody resumed the row: a fresh start, with a clean history
            child = None
        if child is None:
            slot = self._brood.take_slot()
            if slot is None:
                return
            child = self._children[spec.name] = Child(spec, slot)
        elif child.state is State.PARKED and spec.kind == "strategy":
            self._bulletin.parked(child)  # the roster could not write it down yet
        elif child.spec != spec:
            self._stop(child)
        if child.state is State.DONE and (child.spec != spec or spec.kind == "strategy"):
            self._become(child, State.WAITING)
        child.spec, child.revision = spec, revision

    def _dismiss(self, child: Child) -> None:
        if child.pid is None:
            self._forget(child)
        self._stop(child)

    def _forget(self, child: Child) -> None:
        del self._children[child.spec.name]
        self._brood.give_slot_back(child.slot)

    # what becomes of one child

    def _become(self, child: Child, state: State) -> None:
        child.state = state
        self._listener(child)

    def _stop(self, child: Child | None) -> None:
        if child is not None and child.pid is not None and child.state is not State.STOPPING:
            self._brood.ask_to_end(child)
            self._become(child, State.STOPPING)

    def _bury(self, child: Child, status: int) -> None:
        child.pid = child.memory_bytes = child.kill_at = None
        self._bulletin.ended(child)
        if child.state is State.STOPPING:
            self._lay_aside(child, status)
            return
        now = time.monotonic()
        verdict = restart_policy.verdict(child, status, now)
        child.note_death(status, verdict)
        if verdict is not Verdict.DONE:
            self._bulletin.died(child, status)
        if verdict is Verdict.GIVE_UP and not self._orders.stop:
            self._leave(restart_policy.code_to_leave_with(status), f"{child.spec.name} cannot run: {child.cause}")
        elif verdict is Verdict.AGAIN:
            child.due_at = now + restart_policy.wait_before_restart(len(child.deaths), random.random())  # noqa: S311 - jitter
        self._become(child, restart_policy.STATE_AFTER[verdict])
        if verdict is Verdict.PARK:
            self._bulletin.parked(child)

    def _is_leased(self) -> bool:
        return time.monotonic() < self._leased_until

    def _lay_aside(self, child: Child, status: int) -> None:
        """After an end that we asked for: started again when it is still wanted, forgotten when it is not."""
        if self._orders.stop:
            self._exit_code = self._exit_code or int(not restart_policy.is_obedient(status))
            self._become(child, State.DONE)
        elif child.spec.name in self._specs:
            child.due_at = 0.0
            self._become(child, State.WAITING)
        else:
            self._forget(child)

    def _leave(self, code: int, reason: str) -> None:
        logger.error("giving_up", reason=reason)
        self._exit_code, self._orders.stop = code, True
