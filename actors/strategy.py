"""One strategy's actor: runs its cycles on its cadence, keeps its circuit breaker, and pauses or ends it."""

import re
import time
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from actors.messages import CycleFinished, LlmCalled, SignalQueued, StrategyChanged
from actors.runtime.actor import Actor, Peers
from actors.runtime.messages import Message
from actors.shared_services import SharedServicesClient
from engine.deciding.circuit_breaker import Breaker, on_strategy_fault, on_success, on_upstream_failure, try_admit
from engine.deciding.circuit_breaker_file import BreakerFile
from engine.deciding.commit_gate import CommitGate
from engine.deciding.cycle import run_cycle
from engine.deciding.cycle_interface import (
    CycleDependencies,
    CycleOutcome,
    build_failed_outcome,
    report_refusals_as_outages,
)
from engine.deciding.schedule import Cadence, build_cadence, count_missed_ticks, find_next_tick
from engine.domain.decision import Action, Decision
from engine.domain.errors import StrategyFault, Superseded
from engine.domain.strategy import Strategy
from engine.llm.groq_client import GroqClient
from engine.llm.llm_call import LlmCall
from engine.llm.retry import MAX_ATTEMPTS
from engine.platform.errors import CycleSkipped, SkipKind, SparkyError, UpstreamUnavailable
from engine.platform.settings.component_settings import StrategySettings
from engine.risk.strategy_state import ROW_GONE, find_status_block
from engine.store.store import open_store

logger = structlog.get_logger()

# Until the next attempt to read the row, or to write a pause, after one that failed.
_RETRY_S: Final = 5.0
_BREAKER_OPEN_OUTCOME: Final = "skip_breaker_open"
_MAX_LOGGED_PROBLEMS: Final = 100
_NUMBER: Final = re.compile(r"[0-9][0-9.:]*")


class StrategyActor(Actor):
    """Runs one cycle per tick of its cadence. A tick takes at most `tick_deadline_s`."""

    def __init__(self, settings: StrategySettings, peers: Peers, strategy_id: UUID, engine: UUID | None = None) -> None:
        super().__init__()
        self._engine = engine
        self._settings = settings
        self._peers = peers
        self._id = strategy_id
        self._breaker_file = BreakerFile(settings.sparky_home, strategy_id)
        self._breaker = Breaker()
        self._running_since: datetime | None = None
        self._name = str(strategy_id)
        self._cadence: Cadence | None = None
        self._due = 0.0
        self._last_tick_at: float | None = None
        self._is_row_changed = True
        self._logged_problems: set[str] = set()
        self._symbols_without_data: frozenset[str] = frozenset()
        self._log = logger.bind(strategy=str(strategy_id))
        self.commit_gate = CommitGate()
        self.tick_deadline_s = settings.sparky_cycle_deadline_s

    def open(self) -> None:
        kept = self._breaker_file.load()
        self._breaker, self._running_since = kept.breaker, kept.running_since
        self._store = open_store(self._settings, keep=False, engine=self._engine)
        self._model = GroqClient(self._settings)
        self._ports = CycleDependencies(
            store=self._store,
            services=SharedServicesClient(self._peers, self._id),
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
        self._is_row_changed = True

    def should_tick_now(self, message: Message) -> bool:
        return isinstance(message, StrategyChanged)

    def tick(self, now: float) -> float:
        if self._is_row_changed and not self._reload_row(now):
            return self.next_retry_at(now)
        if self._breaker.must_pause:
            self._pause(self._breaker.pause_reason)
            return self.next_retry_at(now)
        if now >= self._due:
            self._run_due_cycle(now)
        return self._due

    def next_retry_at(self, now: float) -> float:
        """The next attempt, at moments that differ by strategy: not all of them ask a database at once that is back."""
        return find_next_tick(build_cadence(self._id, _RETRY_S), now)

    def _reload_row(self, now: float) -> bool:
        """Reads the row between cycles: its cadence, and whether it should run. False if it should not, or is unknown.

        Until it can be read no cycle runs: a tick that is due meanwhile counts as a failed cycle.
        """
        start = time.monotonic()
        try:
            with report_refusals_as_outages():
                context = self._store.get_strategy_context(self._id)
        except (Superseded, StrategyFault, UpstreamUnavailable) as failure:
            if now >= self._due:
                self._last_tick_at, self._due = self._due, self._next_tick_after(now)
            self._finish_cycle(build_failed_outcome(failure, time.monotonic() - start), lateness_s=0.0, missed=0)
            return False
        self._is_row_changed = False
        block = ROW_GONE if context is None else find_status_block(context.strategy.status)
        if context is None or block is not None:
            self._end_strategy(block)
            return False
        self._apply_row(context.strategy, now)
        return True

    def _apply_row(self, strategy: Strategy, now: float) -> None:
        self._name = strategy.name
        if strategy.running_since != self._running_since:  # it was paused and started again: a new breaker
            self._running_since = strategy.running_since
            self._set_breaker(Breaker())
        cadence = build_cadence(self._id, strategy.cadence_seconds)
        if cadence != self._cadence:
            self._cadence, self._last_tick_at = cadence, None
            self._due = find_next_tick(cadence, now)

    def _run_due_cycle(self, now: float) -> None:
        due, missed = self._due, self._count_missed()
        self._last_tick_at = due
        breaker, is_admitted = try_admit(self._breaker, now)
        self._set_breaker(breaker)
        if is_admitted:
            outcome = run_cycle(self._id, self._ports, 1 if breaker.state == "half_open" else MAX_ATTEMPTS)
        else:
            outcome = build_failed_outcome(CycleSkipped(SkipKind.BREAKER_OPEN, breaker.reason or "cooling down"), 0.0)
        after = time.monotonic()
        if outcome.strategy is not None:
            self._apply_row(outcome.strategy, after)
        self._due = self._next_tick_after(after)
        self._finish_cycle(outcome, lateness_s=now - due, missed=missed)

    def _next_tick_after(self, now: float) -> float:
        return self.next_retry_at(now) if self._cadence is None else find_next_tick(self._cadence, now)

    def _count_missed(self) -> int:
        if self._cadence is None or self._last_tick_at is None:
            return 0
        return max(0, count_missed_ticks(self._cadence, self._last_tick_at, self._due) - 1)

    def _finish_cycle(self, outcome: CycleOutcome, *, lateness_s: float, missed: int) -> None:
        """Updates the breaker, sends the cycle's events, and pauses or ends the strategy where that is due."""
        self._set_breaker(_next_breaker(self._breaker, outcome.failure, time.monotonic()))
        if outcome.signal_id is not None:
            self._peers.tell("dispatcher", SignalQueued(signal_id=outcome.signal_id))
        self._publish_events(outcome, lateness_s=lateness_s, missed=missed)
        self._log_outcome(outcome)
        if not outcome.should_run:
            self._end_strategy(outcome.reason)
        elif outcome.must_pause is not None:
            self._pause(outcome.must_pause)
        elif self._breaker.must_pause:
            self._pause(self._breaker.pause_reason)

    def _pause(self, reason: str) -> None:
        """Pauses the row. If that cannot be written now, the breaker keeps the reason, or the next cycle finds it."""
        try:
            with report_refusals_as_outages():
                self._store.pause_strategy(self._id, reason)
        except (UpstreamUnavailable, Superseded) as failure:
            self._log.warning("pause_not_written", reason=str(failure))
            return
        advice = f"`sparky decisions list --strategy {self._id}`, then `sparky strategy start {self._id}`"
        self._log.warning("strategy_paused", name=self._name, reason=reason, advice=advice)
        self._end_strategy("paused")

    def _end_strategy(self, reason: str | None) -> None:
        """Ends this process well; a row that is started again begins with a new breaker."""
        self._set_breaker(Breaker())
        self._log.info("strategy_finished", reason=reason)
        self.is_done = True

    def _set_breaker(self, breaker: Breaker) -> None:
        was = self._breaker.state
        if breaker.state != was:  # a failed probe changes nothing for people, and recovery is information
            log = self._log.warning if was == "closed" else self._log.debug
            log = self._log.info if breaker.state == "closed" else log
            log("breaker", was=was, now=breaker.state, reason=breaker.reason)
        self._breaker = breaker
        try:
            self._breaker_file.save(breaker, self._running_since)
        except OSError as error:  # a full disk must not crash every strategy at once
            self._log.warning("breaker_not_saved", reason=str(error))

    def _log_outcome(self, outcome: CycleOutcome) -> None:
        decision = outcome.decision
        if decision is not None and outcome.failure is None:
            self._log.info("decided", signal=outcome.signal_id, **_build_decision_log(decision))
            self._logged_problems.clear()
            self._log_missing_data(outcome)
        elif outcome.outcome != _BREAKER_OPEN_OUTCOME:  # which was logged with the breaker's change
            self._log_problem_once(outcome)

    def _log_missing_data(self, outcome: CycleOutcome) -> None:
        """Logs the symbols that cycles go on without, when these have changed."""
        missing = frozenset(outcome.without_data)
        if missing and missing != self._symbols_without_data:
            reasons = "; ".join(outcome.without_data.values())
            self._log.warning("symbol_data_missing", symbols=sorted(missing), reason=reasons, effect="no entries there")
        elif not missing and self._symbols_without_data:
            self._log.info("symbol_data_recovered", symbols=sorted(self._symbols_without_data))
        self._symbols_without_data = missing

    def _log_problem_once(self, outcome: CycleOutcome) -> None:
        """Logs each problem once until a cycle succeeds; numbers in its text make no difference."""
        problem = _NUMBER.sub("#", f"{outcome.outcome} {outcome.reason}")
        if problem not in self._logged_problems:
            self._log.warning("cycle", outcome=outcome.outcome, reason=outcome.reason)
        if len(self._logged_problems) < _MAX_LOGGED_PROBLEMS:
            self._logged_problems.add(problem)

    def _publish_events(self, outcome: CycleOutcome, *, lateness_s: float, missed: int) -> None:
        for call in outcome.calls:
            self._peers.tell("monitor", _build_llm_called(self._id, call))
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
        breaker_fields = self._build_breaker_fields(time.time() - time.monotonic())
        self._peers.tell("monitor", event.model_copy(update=breaker_fields))

    def _build_breaker_fields(self, unix_s: float) -> dict[str, object]:
        """Why no cycle runs and until when. `unix_s` is the Unix time of the monotonic clock's zero."""
        if self._breaker.state == "closed":
            return {}
        is_open = self._breaker.state == "open"
        probe = max(self._due, self._next_tick_after(self._breaker.until)) if is_open else self._due
        since = min(self._breaker.opened_at, time.monotonic())  # of a boot before this one
        reason = self._breaker.reason
        return {"probe_at": unix_s + probe, "breaker_since": unix_s + since, "breaker_reason": reason}


def _next_breaker(breaker: Breaker, failure: SparkyError | None, now: float) -> Breaker:
    if failure is None:
        return on_success(breaker)
    if isinstance(failure, UpstreamUnavailable):
        return on_upstream_failure(breaker, now, str(failure), failure.retry_after_s, service=failure.service)
    return on_strategy_fault(breaker, now, str(failure)) if isinstance(failure, StrategyFault) else breaker


def _build_decision_log(decision: Decision) -> dict[str, object]:
    """The fields of a decision's log line; the renderer cuts the model's text."""
    entry = decision.action in (Action.LONG, Action.SHORT)
    return {
        "action": decision.action.value,
        "symbol": decision.symbol,
        "size_usd": f"{decision.size_usd:.2f}" if entry else None,
        "confidence": decision.confidence,
        "why": decision.reason or decision.reasoning,
    }


def _build_llm_called(strategy_id: UUID, call: LlmCall) -> LlmCalled:
    event = LlmCalled(strategy_id=strategy_id, model=call.model, outcome=call.outcome.value, duration_s=call.latency_s)
    usage = call.completion.usage.model_dump() if call.completion else {}
    return event.model_copy(update={**usage, "cost_usd": call.cost_usd})


def make(settings: StrategySettings, peers: Peers, argument: str) -> StrategyActor:
    """`argument` is the strategy's id, and after a slash the id of the engine's run, if there is one."""
    strategy_id, _, engine = argument.partition("/")
    return StrategyActor(settings, peers, UUID(strategy_id), UUID(engine) if engine else None)
