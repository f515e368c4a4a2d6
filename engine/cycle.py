"""One cycle of one strategy, from its row to its recorded decision: pure orchestration over what it is given."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID, uuid4

from engine import decision as decisions
from engine.attempts import Attempts, Desk, Model
from engine.calls import Call
from engine.commit_gate import CommitGate
from engine.errors import Skip, SparkyError, StrategyFault, UpstreamUnavailable
from engine.prompts import build, market_block
from engine.recording import record_of, signal_of
from engine.store.rows import DecisionRecord, NewSignal, RecordedDecision
from engine.types import (
    Action,
    Decision,
    MarketSnapshot,
    Strategy,
    StrategyContext,
    StrategyStatus,
)

# Left of the cycle's deadline for the database, which must never be caught by the supervisor in mid-record.
_RECORD_RESERVE_S: Final = 5.0
_RECORD_RESERVE_SHARE: Final = 0.15


class Records(Protocol):
    """What the cycle needs of `engine.store.Store`."""

    def strategy_context(self, strategy_id: UUID) -> StrategyContext | None: ...

    def record_decision(
        self, decision_id: UUID, strategy_id: UUID, record: DecisionRecord, signal: NewSignal | None
    ) -> RecordedDecision: ...


class Surroundings(Desk, Protocol):
    """The market and the limiter, as the cycle sees them."""

    def snapshot(self, venue: str, symbol: str, deadline: float) -> MarketSnapshot:
        """Raises Skip when there is no usable data by `deadline`, StrategyFault for a symbol that does not exist."""
        ...


@dataclass(frozen=True)
class Ports:
    """All that one strategy's cycles reach beyond themselves; clock, rest, jitter and ids are passed in for tests."""

    records: Records
    surroundings: Surroundings
    model: Model
    gate: CommitGate
    deadline_s: float
    llm_timeout_s: float
    signal_ttl_s: float
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random
    new_id: Callable[[], UUID] = uuid4


@dataclass(frozen=True)
class CycleOutcome:
    """What became of a cycle. `outcome` is the word of `CycleFinished`; `failure` is None if the cycle went through.

    `strategy` is the row as it was read, None if it could not be. `must_pause` is why the row is to be paused now.
    """

    outcome: str
    duration_s: float
    engine_s: float
    reason: str | None = None
    failure: SparkyError | None = None
    strategy: Strategy | None = None
    is_wanted: bool = True
    decision: Decision | None = None
    signal_id: UUID | None = None
    waited_permit_s: float | None = None
    calls: tuple[Call, ...] = ()
    must_pause: str | None = None


def run_cycle(strategy_id: UUID, ports: Ports) -> CycleOutcome:
    """Runs one cycle within its deadline. Only what nobody foresaw is raised; the rest is in the outcome."""
    cycle = _Cycle(strategy_id, ports, start=ports.clock())
    try:
        cycle.run()
        failure: SparkyError | None = None
        if cycle.decision is not None and cycle.decision.is_fault:
            failure = StrategyFault(cycle.decision.reason or "unusable answer")
    except (Skip, StrategyFault, UpstreamUnavailable) as error:
        failure = error
    return cycle.outcome(failure)


@dataclass
class _Cycle:
    strategy_id: UUID
    ports: Ports
    start: float
    waited_s: float = 0.0
    context: StrategyContext | None = None
    is_wanted: bool = True
    attempts: Attempts | None = None
    decision: Decision | None = None
    signal_id: UUID | None = None
    must_pause: str | None = None

    def run(self) -> None:
        context = self._context()
        may_enter = self._may_enter(context)
        self._check_budget(context)
        snapshots = self._snapshots(context.strategy)
        call = self._ask(context, snapshots, may_enter=may_enter)
        self.decision = self._decided(call, context.strategy, may_enter=may_enter)
        self._record(context, snapshots, call, self.decision, may_enter=may_enter)

    def _context(self) -> StrategyContext:
        with self._waiting():
            context = self.ports.records.strategy_context(self.strategy_id)
        if context is None:
            self.is_wanted = False
            raise Skip("gone", "the strategy's row is gone")
        self.context = context
        if context.strategy.status is not StrategyStatus.RUNNING:
            self.is_wanted = False
            raise Skip("not_running", f"the strategy's row is {context.strategy.status}")
        return context

    def _may_enter(self, context: StrategyContext) -> bool:
        """Beyond its drawdown a strategy is paused; with positions, after one last cycle in which it may only close."""
        limit = context.strategy.max_drawdown_percent
        if context.drawdown_percent < limit:
            return True
        self.must_pause = f"drawdown of {context.drawdown_percent:.2f} % reached the limit of {limit:g} %"
        if not context.positions:
            raise Skip("drawdown", self.must_pause)
        return False

    def _check_budget(self, context: StrategyContext) -> None:
        budget = context.strategy.daily_llm_budget_usd
        if budget is None:
            return
        model = self.ports.model.choose(context.strategy.model)
        if not self.ports.model.has_price(model):
            raise StrategyFault(f"daily_llm_budget_usd cannot be kept: SPARKY_LLM_PRICES has no price for {model}")
        if context.llm_spent_today_usd >= budget:
            raise Skip("budget", f"today's LLM budget of {budget} USD is spent")

    def _snapshots(self, strategy: Strategy) -> list[MarketSnapshot]:
        deadline = self._llm_deadline()
        with self._waiting():
            return [
                self.ports.surroundings.snapshot(strategy.exchange, symbol, deadline)
                for symbol in strategy.target_assets
            ]

    def _ask(self, context: StrategyContext, snapshots: Sequence[MarketSnapshot], *, may_enter: bool) -> Call:
        self.attempts = Attempts(
            context=context,
            prompt=build(context, snapshots, entries_allowed=may_enter),
            model=self.ports.model,
            desk=self.ports.surroundings,
            clock=self.ports.clock,
            rest=self.ports.gate.rest,
            jitter=self.ports.jitter,
            timeout_s=self.ports.llm_timeout_s,
        )
        return self.attempts.answer(self._llm_deadline())

    def _decided(self, call: Call, strategy: Strategy, *, may_enter: bool) -> Decision:
        if call.completion is None:
            return decisions.unusable(call.reason or "unusable answer")
        decision = decisions.parse(call.completion.text, decisions.limits_of(strategy))
        if may_enter or decision.action not in (Action.LONG, Action.SHORT):
            return decision
        return decisions.held(decision, "beyond its drawdown the strategy may only close")

    def _record(
        self,
        context: StrategyContext,
        snapshots: Sequence[MarketSnapshot],
        call: Call,
        decision: Decision,
        *,
        may_enter: bool,
    ) -> None:
        market = market_block(context, snapshots, entries_allowed=may_enter, rounded=False)
        record = record_of(decision, call, market)
        signal = signal_of(decision, context.strategy, self.ports.signal_ttl_s)
        with self._waiting(), self.ports.gate:
            recorded = self.ports.records.record_decision(self.ports.new_id(), self.strategy_id, record, signal)
        self.signal_id = recorded.signal_id
        if recorded.suppressed:
            self.decision = decision.model_copy(update={"reason": recorded.suppressed})

    def _llm_deadline(self) -> float:
        deadline_s = self.ports.deadline_s
        return self.start + deadline_s - min(_RECORD_RESERVE_S, deadline_s * _RECORD_RESERVE_SHARE)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Time within is spent on others."""
        start = self.ports.clock()
        try:
            yield
        finally:
            self.waited_s += self.ports.clock() - start

    def outcome(self, failure: SparkyError | None) -> CycleOutcome:
        duration_s = self.ports.clock() - self.start
        waited_s = self.waited_s + (self.attempts.waited_s if self.attempts else 0.0)
        reason = str(failure) if failure else self.decision.reason if self.decision else None
        return CycleOutcome(
            outcome=_word(failure),
            duration_s=duration_s,
            engine_s=max(0.0, duration_s - waited_s),
            reason=reason,
            failure=failure,
            strategy=self.context.strategy if self.context else None,
            is_wanted=self.is_wanted,
            decision=self.decision,
            signal_id=self.signal_id,
            waited_permit_s=self.attempts.permit_wait_s if self.attempts else None,
            calls=tuple(self.attempts.calls) if self.attempts else (),
            must_pause=self.must_pause,
        )


def ended(failure: SparkyError, duration_s: float) -> CycleOutcome:
    """The outcome of a cycle that came to nothing before it began."""
    return CycleOutcome(
        outcome=_word(failure), duration_s=duration_s, engine_s=0.0, reason=str(failure), failure=failure
    )


def _word(failure: SparkyError | None) -> str:
    if failure is None:
        return "ok"
    if isinstance(failure, Skip):
        return "abandoned" if failure.kind == "stopping" else f"skip_{failure.kind}"
    return f"upstream_{failure.service}" if isinstance(failure, UpstreamUnavailable) else "fault"
