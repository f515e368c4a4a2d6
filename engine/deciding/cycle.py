"""One cycle of one strategy, from its row to its recorded decision: pure orchestration over what it is given."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Protocol
from uuid import UUID, uuid4

from engine.deciding import decision_parser as decisions
from engine.deciding.budget import UnrecordedSpend, find_spent_budget
from engine.deciding.commit_gate import CommitGate
from engine.deciding.decision_record import attach_signal, record_of, tried_again
from engine.deciding.prompt import SymbolView, build_prompt, market_block
from engine.domain.decision import Action, Decision
from engine.domain.errors import CompletionCutOff, StrategyFault
from engine.domain.market import MarketSnapshot
from engine.domain.strategy import Strategy, StrategyContext, StrategyStatus
from engine.llm.outcome import LlmCall, LlmOutcome
from engine.llm.retry import MAX_ATTEMPTS, CompletionRetrier, LlmClient, PermitClient
from engine.platform.errors import CycleSkipped, DatabaseUnavailable, SkipKind, SparkyError, UpstreamUnavailable
from engine.platform.plain_text import sanitize_for_storage
from engine.store.cycles import DecisionRecord, NewSignal, RecordedDecision
from engine.store.transport.sqlstates import DatabaseRequestError, is_value_error

# Left of the cycle's deadline for the database, which must never be caught by the supervisor in mid-record.
_RECORD_RESERVE_S: Final = 5.0
_RECORD_RESERVE_SHARE: Final = 0.15
_NOTHING: Final = Decimal(0)
_MAX_REASON: Final = 200


class DecisionStore(Protocol):
    """What the cycle needs of `engine.store.Store`."""

    def get_strategy_context(self, strategy_id: UUID) -> StrategyContext | None: ...

    def record_decision(
        self, decision_id: UUID, strategy_id: UUID, record: DecisionRecord, signal: NewSignal | None
    ) -> RecordedDecision: ...


class CycleServices(PermitClient, Protocol):
    """The market and the limiter, as the cycle sees them."""

    def snapshot(self, venue: str, symbol: str, interval: str, deadline: float) -> MarketSnapshot:
        """Raises Skip when there is no usable data by `deadline`, StrategyFault for a symbol that does not exist."""
        ...


@dataclass(frozen=True)
class CycleDependencies:
    """All that one strategy's cycles reach beyond themselves; clock, pause, jitter and ids are passed in for tests."""

    records: DecisionStore
    surroundings: CycleServices
    model: LlmClient
    gate: CommitGate
    deadline_s: float
    llm_timeout_s: float
    signal_ttl_s: float
    host_budget_usd: Decimal | None = None
    unrecorded: UnrecordedSpend = field(default_factory=UnrecordedSpend)
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random
    new_id: Callable[[], UUID] = uuid4


@dataclass(frozen=True)
class CycleOutcome:
    """What became of a cycle. `outcome` is the word of `CycleFinished`; `failure` is None if the cycle went through.

    `strategy` is the row as it was read, None if it could not be. `must_pause` is why the row is to be paused now.
    `without_data` are the symbols that it went on without, and why there was no data of each.
    """

    outcome: str
    duration_s: float
    engine_s: float
    reason: str | None = None
    failure: SparkyError | None = None
    strategy: Strategy | None = None
    should_run: bool = True
    decision: Decision | None = None
    signal_id: UUID | None = None
    waited_permit_s: float | None = None
    calls: tuple[LlmCall, ...] = ()
    must_pause: str | None = None
    without_data: Mapping[str, str] = field(default_factory=dict)


def run_cycle(strategy_id: UUID, ports: CycleDependencies, most_attempts: int = MAX_ATTEMPTS) -> CycleOutcome:
    """Runs one cycle within its deadline. Only what nobody foresaw is raised; the rest is in the outcome.

    A cycle that only probes whether an upstream is back makes one attempt.
    """
    cycle = _Cycle(strategy_id, ports, most_attempts, start=ports.clock())
    try:
        cycle.run()
        failure: SparkyError | None = None
        if cycle.is_cut and cycle.decision is not None:
            failure = CompletionCutOff(cycle.decision.reason or "cut off")
        elif cycle.decision is not None and cycle.decision.is_fault:
            failure = StrategyFault(cycle.decision.reason or "unusable answer")
    except (CycleSkipped, StrategyFault, UpstreamUnavailable) as error:
        failure = error
    return cycle.outcome(failure)


@dataclass
class _Cycle:
    strategy_id: UUID
    ports: CycleDependencies
    most_attempts: int
    start: float
    waited_s: float = 0.0
    context: StrategyContext | None = None
    should_run: bool = True
    attempts: CompletionRetrier | None = None
    decision: Decision | None = None
    signal_id: UUID | None = None
    is_recorded: bool = False
    is_cut: bool = False
    must_pause: str | None = None
    without_data: dict[str, str] = field(default_factory=dict)

    def run(self) -> None:
        """Raises what ends the cycle; what was spent on the model and is in no record stays known."""
        try:
            self._run()
        finally:
            spent_usd = self.attempts.cost_usd if self.attempts else _NOTHING
            self.ports.unrecorded.usd = _NOTHING if self.is_recorded else self.ports.unrecorded.usd + spent_usd

    def _run(self) -> None:
        context = self._load_context()
        may_enter = self._may_enter(context)
        self._check_budget(context)
        views = self._fetch_views(context.strategy)
        attempts = self.attempts = self._make_retrier(context, views, may_enter=may_enter)
        call, decided = self._decide(attempts, may_enter=may_enter)
        decision_id = self.ports.new_id()
        self.decision, signal = attach_signal(decided, context.strategy, decision_id, self.ports.signal_ttl_s)
        self.is_cut = call.outcome is LlmOutcome.CUT
        shown = attempts.prompt.candles
        missing = tuple(self.without_data)
        market = market_block(
            context, views, entries_allowed=may_enter, rounded=False, candles=shown, without_data=missing
        )
        record = record_of(self.decision, call, attempts, market, self.ports.unrecorded.usd)
        self._record(decision_id, record, self.decision, signal)

    def _load_context(self) -> StrategyContext:
        with self._external_wait(), refusals_as_outages():
            context = self.ports.records.get_strategy_context(self.strategy_id)
        if context is None:
            self.should_run = False
            raise CycleSkipped(SkipKind.GONE, "the strategy's row is gone")
        self.context = context
        if context.strategy.status is not StrategyStatus.RUNNING:
            self.should_run = False
            raise CycleSkipped(SkipKind.NOT_RUNNING, f"the strategy's row is {context.strategy.status}")
        return context

    def _may_enter(self, context: StrategyContext) -> bool:
        """Beyond its drawdown a strategy is paused; with positions, after one last cycle in which it may only close."""
        limit = context.strategy.max_drawdown_percent
        if context.drawdown_percent < limit:
            return True
        self.must_pause = f"drawdown of {context.drawdown_percent:.2f} % reached the limit of {limit:g} %"
        if not context.positions:
            raise CycleSkipped(SkipKind.DRAWDOWN, self.must_pause)
        return False

    def _check_budget(self, context: StrategyContext) -> None:
        budget, host_budget = context.strategy.daily_llm_budget_usd, self.ports.host_budget_usd
        if budget is None and host_budget is None:
            return
        model = self.ports.model.select_model(context.strategy.model)
        if not self.ports.model.has_price(model):
            name = "daily_llm_budget_usd" if budget is not None else "SPARKY_DAILY_LLM_BUDGET_USD"
            raise StrategyFault(f"{name} cannot be kept: SPARKY_LLM_PRICES has no price for {model}")
        spent = find_spent_budget(context, host_budget, self.ports.unrecorded.usd)
        if spent is not None:
            raise spent

    def _fetch_views(self, strategy: Strategy) -> list[SymbolView]:
        """Of the symbols that have data: one that is halted or gone must not keep the others from their exits.

        Where none has any, raises why; a Skip rather than a fault, since faults pause the row.
        """
        views: list[SymbolView] = []
        failures: dict[str, CycleSkipped | StrategyFault] = {}
        with self._external_wait():
            for symbol in strategy.target_assets:
                try:
                    views.append(self._fetch_view(strategy, symbol))
                except (CycleSkipped, StrategyFault) as failure:
                    failures[symbol] = failure
        if not views:
            raise min(failures.values(), key=lambda failure: isinstance(failure, StrategyFault))
        self.without_data = {symbol: sanitize_for_storage(str(why))[:_MAX_REASON] for symbol, why in failures.items()}
        return views

    def _fetch_view(self, strategy: Strategy, symbol: str) -> SymbolView:
        return SymbolView(
            self._fetch_snapshot(strategy, symbol, "1m"),
            {
                interval: self._fetch_context_snapshot(strategy, symbol, interval)
                for interval in strategy.context_intervals
            },
        )

    def _fetch_snapshot(self, strategy: Strategy, symbol: str, interval: str) -> MarketSnapshot:
        return self.ports.surroundings.snapshot(strategy.exchange, symbol, interval, self._llm_deadline())

    def _fetch_context_snapshot(self, strategy: Strategy, symbol: str, interval: str) -> MarketSnapshot | None:
        """Longer candles are no condition: one gap among a hundred hours would stop the strategy for four days."""
        try:
            return self._fetch_snapshot(strategy, symbol, interval)
        except CycleSkipped:
            return None

    def _make_retrier(
        self, context: StrategyContext, views: Sequence[SymbolView], *, may_enter: bool
    ) -> CompletionRetrier:
        return CompletionRetrier(
            context=context,
            prompt=build_prompt(context, views, entries_allowed=may_enter, without_data=tuple(self.without_data)),
            model=self.ports.model,
            desk=self.ports.surroundings,
            clock=self.ports.clock,
            rest=self.ports.gate.sleep,
            jitter=self.ports.jitter,
            timeout_s=self.ports.llm_timeout_s,
            most=self.most_attempts,
            has_budget=lambda spent_usd: self._has_budget(context, spent_usd),
        )

    def _has_budget(self, context: StrategyContext, spent_usd: Decimal) -> bool:
        """Whether there is room in both budgets after what this cycle, and earlier ones without a record, spent."""
        return find_spent_budget(context, self.ports.host_budget_usd, self.ports.unrecorded.usd + spent_usd) is None

    def _decide(self, attempts: CompletionRetrier, *, may_enter: bool) -> tuple[LlmCall, Decision]:
        """The decision and the call that it came of; an answer that cannot be used gets one chance to be mended."""
        context = attempts.context
        call = attempts.complete(self._llm_deadline())
        decision = self._parse_decision(call, context, may_enter=may_enter)
        if not decision.is_fault or not self._has_budget(context, attempts.cost_usd):
            return call, decision
        mended = attempts.repair(call, decision.reason or "", self._llm_deadline())
        return (
            (call, decision) if mended is None else (mended, self._parse_decision(mended, context, may_enter=may_enter))
        )

    def _parse_decision(self, call: LlmCall, context: StrategyContext, *, may_enter: bool) -> Decision:
        if call.outcome is LlmOutcome.CUT:
            return decisions.blameless_hold(call.reason or "cut off")
        if call.outcome is not LlmOutcome.OK or call.completion is None:
            return decisions.fault_hold(call.reason or "unusable answer")
        decision = decisions.parse(call.completion.text, decisions.decision_limits(context))
        if decision.action not in (Action.LONG, Action.SHORT):
            return decision
        if not may_enter:
            return decisions.as_hold(decision, "beyond its drawdown the strategy may only close")
        if decision.symbol in self.without_data:
            return decisions.as_hold(decision, f"{decision.symbol} has no data: {self.without_data[decision.symbol]}")
        return decision

    def _record(self, decision_id: UUID, record: DecisionRecord, decision: Decision, signal: NewSignal | None) -> None:
        def keep() -> RecordedDecision:
            with refusals_as_outages():
                return self.ports.records.record_decision(decision_id, self.strategy_id, record, signal)

        with self._external_wait(), self.ports.gate:
            recorded = tried_again(keep, self._llm_deadline(), self.ports.clock, self.ports.pause)
        self.is_recorded = True
        self.signal_id = recorded.signal_id
        if recorded.suppressed:
            self.decision = decision.model_copy(update={"reason": recorded.suppressed})

    def _llm_deadline(self) -> float:
        deadline_s = self.ports.deadline_s
        return self.start + deadline_s - min(_RECORD_RESERVE_S, deadline_s * _RECORD_RESERVE_SHARE)

    @contextmanager
    def _external_wait(self) -> Iterator[None]:
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
            outcome=_outcome_label(failure),
            duration_s=duration_s,
            engine_s=max(0.0, duration_s - waited_s),
            reason=reason,
            failure=failure,
            strategy=self.context.strategy if self.context else None,
            should_run=self.should_run,
            decision=self.decision,
            signal_id=self.signal_id,
            waited_permit_s=self.attempts.permit_wait_s if self.attempts else None,
            calls=tuple(self.attempts.calls) if self.attempts else (),
            must_pause=self.must_pause,
            without_data=self.without_data,
        )


@contextmanager
def refusals_as_outages() -> Iterator[None]:
    """For a strategy a database that refuses is away: it has served its engine before, and may again.

    But for a value that it refuses, which is the strategy's own.
    """
    try:
        yield
    except DatabaseRequestError as error:
        if is_value_error(error.state):
            raise
        raise DatabaseUnavailable(str(error)) from None


def outcome_of_failure(failure: SparkyError, duration_s: float) -> CycleOutcome:
    """The outcome of a cycle that came to nothing before it began."""
    return CycleOutcome(
        outcome=_outcome_label(failure), duration_s=duration_s, engine_s=0.0, reason=str(failure), failure=failure
    )


def _outcome_label(failure: SparkyError | None) -> str:
    if failure is None:
        return "ok"
    if isinstance(failure, CompletionCutOff):
        return "cut"
    if isinstance(failure, CycleSkipped):
        return "abandoned" if failure.kind is SkipKind.STOPPING else f"skip_{failure.kind}"
    return f"upstream_{failure.service}" if isinstance(failure, UpstreamUnavailable) else "fault"
