"""One strategy's actor: its cadence, its breaker and what its failures lead to, around plain cycles."""

import re
import time
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from actors.messages import CycleFinished, LlmCalled, SignalReady, StrategyChanged
from actors.runtime.actor import Actor, Peers
from actors.runtime.messages import Message
from actors.shared_services import PeersDesk
from engine.deciding.circuit_breaker import Breaker, admitted, faulted, succeeded, upstream_failed
from engine.deciding.circuit_breaker_file import BreakerFile
from engine.deciding.commit_gate import CommitGate
from engine.deciding.cycle import CycleOutcome, Ports, ended, refusals_as_outages, run_cycle
from engine.deciding.schedule import Cadence, cadence_of, missed_ticks, next_tick
from engine.domain.decision import Action, Decision
from engine.domain.errors import StrategyFault, Superseded
from engine.domain.strategy import Strategy, StrategyStatus
from engine.llm.groq_client import GroqModel
from engine.llm.outcome import Call
from engine.llm.retry import MOST_ATTEMPTS
from engine.platform.errors import Skip, SparkyError, UpstreamUnavailable
from engine.platform.settings.settings import Settings
from engine.store.store import open_store

logger = structlog.get_logger()

# How soon to look again while the row could not be read, or while a pause could not be written.
_LOOK_AGAIN_S: Final = 5.0
_COOLING: Final = "skip_breaker_open"
_MOST_TOLD: Final = 100
_FIGURES: Final = re.compile(r"[0-9][0-9.:]*")


class StrategyActor(Actor):
    """Runs one cycle per tick of its grid. `tick_deadline_s` is the longest that a tick takes."""

    def __init__(self, settings: Settings, peers: Peers, strategy_id: UUID, engine: UUID | None = None) -> None:
        super().__init__()
        self._engine = engine
        self._settings = settings
        self._peers = peers
        self._id = strategy_id
        self._file = BreakerFile(settings.sparky_home, strategy_id)
        self._breaker = Breaker()
        self._running_since: datetime | None = None
        self._name = str(strategy_id)
        self._cadence: Cadence | None = None
        self._due = 0.0
        self._ticked: float | None = None
        self._is_changed = True
        self._told: set[str] = set()
        self._without_data: frozenset[str] = frozenset()
        self._log = logger.bind(strategy=str(strategy_id))
        self.commit_gate = CommitGate()
        self.tick_deadline_s = settings.sparky_cycle_deadline_s

    def open(self) -> None:
        kept = self._file.load()
        self._breaker, self._running_since = kept.breaker, kept.running_since
        self._store = open_store(self._settings, keep=False, engine=self._engine)
        self._model = GroqModel(self._settings)
        self._ports = Ports(
            records=self._store,
            surroundings=PeersDesk(self._peers, self._id),
            model=self._model,
            gate=self.commit_gate,
            deadline_s=self._settings.sparky_cycle_deadline_s,
            llm_timeout_s=self._settings.sparky_llm_timeout_s,
            signal_ttl_s=self._settings.sparky_signal_ttl_s,
            host_budget_usd=self._settings.sparky_daily_llm_budget_usd,
        )

    def on_stop(self) -> None:
        if self._is_open:
            self._model.close()
            self._store.close()

    def close(self, grace_s: float) -> None:
        """A cycle between decision and record finishes; any other is abandoned."""
        if not self.commit_gate.close(grace_s):
            self._log.warning("record_not_finished", grace_s=grace_s)

    def receive(self, message: Message) -> None:
        if not isinstance(message, StrategyChanged):
            super().receive(message)
        self._is_changed = True

    def wants_tick_after(self, message: Message) -> bool:
        return isinstance(message, StrategyChanged)

    def tick(self, now: float) -> float:
        if self._is_changed and not self._has_learned(now):
            return self.next_look(now)
        if self._breaker.must_pause:
            self._pause(self._breaker.pause_reason)
            return self.next_look(now)
        if now >= self._due:
            self._run(now)
        return self._due

    def next_look(self, now: float) -> float:
        """Each has moments of its own for that: a database that is back is not asked by all of them at once."""
        return next_tick(cadence_of(self._id, _LOOK_AGAIN_S), now)

    def _has_learned(self, now: float) -> bool:
        """Reads the row between cycles: its cadence, and whether it is wanted at all.

        Until it can be read nothing is decided: a tick that passes meanwhile is over, as one whose cycle failed.
        """
        start = time.monotonic()
        try:
            with refusals_as_outages():
                context = self._store.strategy_context(self._id)
        except (Superseded, StrategyFault, UpstreamUnavailable) as failure:
            if now >= self._due:
                self._ticked, self._due = self._due, self._next(now)
            self._end(ended(failure, time.monotonic() - start), lateness_s=0.0, missed=0)
            return False
        self._is_changed = False
        if context is None or context.strategy.status is not StrategyStatus.RUNNING:
            self._finish("the row is gone" if context is None else f"the row is {context.strategy.status}")
            return False
        self._take(context.strategy, now)
        return True

    def _take(self, strategy: Strategy, now: float) -> None:
        self._name = strategy.name
        if strategy.running_since != self._running_since:  # somebody has resumed the row: what was before is history
            self._running_since = strategy.running_since
            self._turn(Breaker())
        cadence = cadence_of(self._id, strategy.cadence_seconds)
        if cadence != self._cadence:
            self._cadence, self._ticked = cadence, None
            self._due = next_tick(cadence, now)

    def _run(self, now: float) -> None:
        due, missed = self._due, self._missed()
        self._ticked = due
        breaker, is_admitted = admitted(self._breaker, now)
        self._turn(breaker)
        if is_admitted:
            outcome = run_cycle(self._id, self._ports, 1 if breaker.state == "half_open" else MOST_ATTEMPTS)
        else:
            outcome = ended(Skip("breaker_open", breaker.reason or "cooling down"), 0.0)
        after = time.monotonic()
        if outcome.strategy is not None:
            self._take(outcome.strategy, after)
        self._due = self._next(after)
        self._end(outcome, lateness_s=now - due, missed=missed)

    def _next(self, now: float) -> float:
        return self.next_look(now) if self._cadence is None else next_tick(self._cadence, now)

    def _missed(self) -> int:
        if self._cadence is None or self._ticked is None:
            return 0
        return max(0, missed_ticks(self._cadence, self._ticked, self._due) - 1)

    def _end(self, outcome: CycleOutcome, *, lateness_s: float, missed: int) -> None:
        """Settles the breaker, tells everybody, and pauses or ends the strategy where that is due."""
        self._turn(_after(self._breaker, outcome.failure, time.monotonic()))
        if outcome.signal_id is not None:
            self._peers.tell("dispatcher", SignalReady(signal_id=outcome.signal_id))
        self._tell(outcome, lateness_s=lateness_s, missed=missed)
        self._write(outcome)
        if not outcome.is_wanted:
            self._finish(outcome.reason)
        elif outcome.must_pause is not None:
            self._pause(outcome.must_pause)
        elif self._breaker.must_pause:
            self._pause(self._breaker.pause_reason)

    def _pause(self, reason: str) -> None:
        """Until it can be written, the verdict stands in the breaker, or is come to again by the next cycle."""
        try:
            with refusals_as_outages():
                self._store.pause_strategy(self._id, reason)
        except (UpstreamUnavailable, Superseded) as failure:
            self._log.warning("pause_not_written", reason=str(failure))
            return
        advice = f"`sparky decisions list --strategy {self._id}`, then `sparky strategy start {self._id}`"
        self._log.warning("strategy_paused", name=self._name, reason=reason, advice=advice)
        self._finish("paused")

    def _finish(self, reason: str | None) -> None:
        """The row does not want to run: its failures are history, whoever resumes it starts afresh."""
        self._turn(Breaker())
        self._log.info("strategy_finished", reason=reason)
        self.finished = True

    def _turn(self, breaker: Breaker) -> None:
        was = self._breaker.state
        if breaker.state != was:  # a probe that fails is no news, and an end is none to worry about
            log = self._log.warning if was == "closed" else self._log.debug
            log = self._log.info if breaker.state == "closed" else log
            log("breaker", was=was, now=breaker.state, reason=breaker.reason)
        self._breaker = breaker
        try:
            self._file.save(breaker, self._running_since)
        except OSError as error:  # a full disk must not crash every strategy at once
            self._log.warning("breaker_not_saved", reason=str(error))

    def _write(self, outcome: CycleOutcome) -> None:
        decision = outcome.decision
        if decision is not None and outcome.failure is None:
            self._log.info("decided", signal=outcome.signal_id, **_said(decision))
            self._told.clear()
            self._write_without_data(outcome)
        elif outcome.outcome != _COOLING:  # of which the breaker has told
            self._tell_once(outcome)

    def _write_without_data(self, outcome: CycleOutcome) -> None:
        """Logs which symbols the cycles go on without, when these become others."""
        missing = frozenset(outcome.without_data)
        if missing and missing != self._without_data:
            reasons = "; ".join(outcome.without_data.values())
            self._log.warning(
                "symbols_without_data", symbols=sorted(missing), reason=reasons, effect="no entries there"
            )
        elif not missing and self._without_data:
            self._log.info("symbols_have_data", symbols=sorted(self._without_data))
        self._without_data = missing

    def _tell_once(self, outcome: CycleOutcome) -> None:
        """Each trouble once until a cycle goes through, however often it comes back with other figures in it."""
        trouble = _FIGURES.sub("#", f"{outcome.outcome} {outcome.reason}")
        if trouble not in self._told:
            self._log.warning("cycle", outcome=outcome.outcome, reason=outcome.reason)
        if len(self._told) < _MOST_TOLD:
            self._told.add(trouble)

    def _tell(self, outcome: CycleOutcome, *, lateness_s: float, missed: int) -> None:
        for call in outcome.calls:
            self._peers.tell("monitor", _called(self._id, call))
        decision = outcome.decision
        event = CycleFinished(
            strategy_id=self._id,
            name=self._name,
            outcome=outcome.outcome,
            reason=outcome.reason,
            duration_s=outcome.duration_s,
            engine_s=outcome.engine_s,
            lateness_s=lateness_s,
            missed_ticks=missed,
            at=time.time(),
            next_tick_at=time.time() + self._due - time.monotonic(),
            failures=self._breaker.failures,
            breaker=self._breaker.state,
            action=decision.action.value if decision else None,
            symbol=decision.symbol if decision else None,
            confidence=decision.confidence if decision else None,
            signal_id=outcome.signal_id,
            waited_permit_s=outcome.waited_permit_s,
        )
        waiting = self._waiting(time.time() - time.monotonic())
        self._peers.tell("monitor", event.model_copy(update=waiting))

    def _waiting(self, unix_s: float) -> dict[str, object]:
        """Why no cycle runs and until when, for people; `unix_s` added to a monotonic moment is its Unix time."""
        if self._breaker.state == "closed":
            return {}
        is_open = self._breaker.state == "open"
        probe = max(self._due, self._next(self._breaker.until)) if is_open else self._due
        since = min(self._breaker.opened_at, time.monotonic())  # of a boot before this one
        reason = self._breaker.reason
        return {"probe_at": unix_s + probe, "breaker_since": unix_s + since, "breaker_reason": reason}


def _after(breaker: Breaker, failure: SparkyError | None, now: float) -> Breaker:
    if failure is None:
        return succeeded(breaker)
    if isinstance(failure, UpstreamUnavailable):
        return upstream_failed(breaker, now, str(failure), failure.retry_after_s, service=failure.service)
    return faulted(breaker, now, str(failure)) if isinstance(failure, StrategyFault) else breaker


def _said(decision: Decision) -> dict[str, object]:
    """A decision as a line of the log tells it; what the model wrote is cut to one short line elsewhere."""
    entry = decision.action in (Action.LONG, Action.SHORT)
    return {
        "action": decision.action.value,
        "symbol": decision.symbol,
        "size_usd": f"{decision.size_usd:.2f}" if entry else None,
        "confidence": decision.confidence,
        "why": decision.reason or decision.reasoning,
    }


def _called(strategy_id: UUID, call: Call) -> LlmCalled:
    event = LlmCalled(strategy_id=strategy_id, model=call.model, outcome=call.outcome.value, duration_s=call.latency_s)
    usage = call.completion.usage.model_dump() if call.completion else {}
    return event.model_copy(update={**usage, "cost_usd": call.cost_usd})


def make(settings: Settings, peers: Peers, argument: str) -> StrategyActor:
    """`argument` is the strategy's id and the run of its engine, if there is one."""
    strategy_id, _, engine = argument.partition("/")
    return StrategyActor(settings, peers, UUID(strategy_id), UUID(engine) if engine else None)
