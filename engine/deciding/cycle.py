"""One cycle of one strategy, from its row to its recorded decision: pure orchestration over what it is given."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final
from uuid import UUID

from engine.deciding.budget import find_spent_budget
from engine.deciding.cycle_interface import (
    CycleDependencies,
    CycleOutcome,
    label_outcome,
    report_refusals_as_outages,
)
from engine.deciding.decision_parser import (
    build_blameless_hold,
    build_decision_limits,
    build_fault_hold,
    parse_decision,
    to_hold,
)
from engine.deciding.decision_record import attach_signal, build_record, record_with_retries
from engine.deciding.market_views import fetch_views
from engine.deciding.prompt import SymbolView, build_market_block, build_prompt
from engine.domain.decision import Action, Decision
from engine.domain.errors import CompletionCutOff, StrategyFault
from engine.domain.strategy import Strategy, StrategyContext
from engine.llm.llm_call import LlmCall, LlmOutcome
from engine.llm.retry import MAX_ATTEMPTS, CompletionRetrier
from engine.platform.errors import CycleSkipped, SkipKind, SparkyError, UpstreamUnavailable
from engine.platform.settings.setting_types import describe_unkept_budget
from engine.risk.strategy_state import ROW_GONE, find_drawdown_block, find_status_block
from engine.store.cycles import DecisionRecord, NewSignal, RecordedDecision

# Left of the cycle's deadline for the database: the supervisor must never kill a process in the middle of a record.
_RECORD_RESERVE_S: Final = 5.0
_RECORD_RESERVE_SHARE: Final = 0.15
_ZERO_USD: Final = Decimal(0)


def run_cycle(strategy_id: UUID, deps: CycleDependencies, max_attempts: int = MAX_ATTEMPTS) -> CycleOutcome:
    """Runs one cycle within its deadline. Expected failures are in the outcome; only unforeseen errors are raised.

    `max_attempts` bounds the requests to the model: a cycle that only probes whether an upstream is back makes one.
    """
    cycle = _Cycle(strategy_id, deps, max_attempts, start=deps.clock())
    failure: SparkyError | None
    try:
        cycle.run()
        failure = cycle.find_fault()
    except (CycleSkipped, StrategyFault, UpstreamUnavailable) as error:
        failure = error
    return cycle.build_outcome(failure)


@dataclass
class _Cycle:
    strategy_id: UUID
    deps: CycleDependencies
    max_attempts: int
    start: float
    waited_s: float = 0.0
    context: StrategyContext | None = None
    should_run: bool = True
    retrier: CompletionRetrier | None = None
    decision: Decision | None = None
    signal_id: UUID | None = None
    is_recorded: bool = False
    is_cut: bool = False
    must_pause: str | None = None
    without_data: Mapping[str, str] = field(default_factory=dict)

    def run(self) -> None:
        """Raises what ends the cycle. Spending on the model without a record is kept for the next one's budget."""
        try:
            self._run_steps()
        finally:
            spent_usd = self.retrier.cost_usd if self.retrier else _ZERO_USD
            self.deps.unrecorded.usd = _ZERO_USD if self.is_recorded else self.deps.unrecorded.usd + spent_usd

    def _run_steps(self) -> None:
        # Drawdown before budget: a strategy beyond its drawdown is paused also when its budget is spent. Budget before
        # market data: a skipped cycle should cost nothing.
        context = self._load_context()
        may_enter = self._check_drawdown(context)
        self._check_budget(context)
        views = self._fetch_views(context.strategy)
        retrier = self.retrier = self._prepare_requests(context, views, may_enter=may_enter)
        call, decided = self._decide(retrier)
        self.is_cut = call.outcome is LlmOutcome.CUT
        decision_id = self.deps.new_id()  # one id for all attempts, so that a repeated record is the same record
        self.decision, signal = attach_signal(decided, context.strategy, decision_id, self.deps.signal_ttl_s)
        record = self._build_record(self.decision, call, retrier, views, may_enter=may_enter)
        self._record(decision_id, record, self.decision, signal)

    def _load_context(self) -> StrategyContext:
        with self._count_external_wait(), report_refusals_as_outages():
            context = self.deps.store.get_strategy_context(self.strategy_id)
        if context is None:
            self.should_run = False
            raise CycleSkipped(SkipKind.GONE, ROW_GONE)
        self.context = context
        block = find_status_block(context.strategy.status)
        if block is not None:
            self.should_run = False
            raise CycleSkipped(SkipKind.NOT_RUNNING, block)
        return context

    def _check_drawdown(self, context: StrategyContext) -> bool:
        """Whether entries are allowed. Beyond its drawdown a strategy is paused; with open positions after one last
        cycle in which it may only close."""
        self.must_pause = find_drawdown_block(context.drawdown_percent, context.strategy.max_drawdown_percent)
        if self.must_pause is not None and not context.positions:
            raise CycleSkipped(SkipKind.DRAWDOWN, self.must_pause)
        return self.must_pause is None

    def _check_budget(self, context: StrategyContext) -> None:
        budget, host_budget = context.strategy.daily_llm_budget_usd, self.deps.host_budget_usd
        if budget is None and host_budget is None:
            return
        model = self.deps.model.select_model(context.strategy.model)
        if not self.deps.model.has_price(model):
            name = "daily_llm_budget_usd" if budget is not None else "SPARKY_DAILY_LLM_BUDGET_USD"
            raise StrategyFault(describe_unkept_budget(name, model))
        skip = find_spent_budget(context, host_budget, self.deps.unrecorded.usd)
        if skip is not None:
            raise skip

    def _has_budget(self, context: StrategyContext, spent_usd: Decimal) -> bool:
        """Whether both budgets have room after `spent_usd` of this cycle and unrecorded spending of earlier ones."""
        return find_spent_budget(context, self.deps.host_budget_usd, self.deps.unrecorded.usd + spent_usd) is None

    def _fetch_views(self, strategy: Strategy) -> list[SymbolView]:
        with self._count_external_wait():
            market = fetch_views(self.deps.services, strategy, self._compute_llm_deadline())
        self.without_data = market.without_data
        return market.views

    def _prepare_requests(
        self, context: StrategyContext, views: list[SymbolView], *, may_enter: bool
    ) -> CompletionRetrier:
        return CompletionRetrier(
            context=context,
            prompt=build_prompt(context, views, entries_allowed=may_enter, without_data=tuple(self.without_data)),
            client=self.deps.model,
            permits=self.deps.services,
            clock=self.deps.clock,
            sleep=self.deps.gate.sleep,
            jitter=self.deps.jitter,
            timeout_s=self.deps.llm_timeout_s,
            max_attempts=self.max_attempts,
            has_budget=lambda spent_usd: self._has_budget(context, spent_usd),
        )

    def _decide(self, retrier: CompletionRetrier) -> tuple[LlmCall, Decision]:
        """The decision and the call whose answer it is. An unusable answer is shown to the model once, for repair."""
        call = retrier.complete(self._compute_llm_deadline())
        decision = self._parse(call, retrier.context)
        if not decision.is_fault or not self._has_budget(retrier.context, retrier.cost_usd):
            return call, decision
        repaired = retrier.repair(call, decision.reason or "", self._compute_llm_deadline())
        return (call, decision) if repaired is None else (repaired, self._parse(repaired, retrier.context))

    def _parse(self, call: LlmCall, context: StrategyContext) -> Decision:
        if call.outcome is LlmOutcome.CUT:
            return build_blameless_hold(call.reason or "cut off")
        if call.outcome is not LlmOutcome.OK or call.completion is None:
            return build_fault_hold(call.reason or "unusable answer")
        decision = parse_decision(call.completion.text, build_decision_limits(context))
        if decision.action not in (Action.LONG, Action.SHORT):
            return decision
        if self.must_pause is not None:
            return to_hold(decision, self.must_pause)
        missing = self.without_data.get(decision.symbol or "")
        return decision if missing is None else to_hold(decision, f"{decision.symbol} has no data: {missing}")

    def _build_record(
        self, decision: Decision, call: LlmCall, retrier: CompletionRetrier, views: list[SymbolView], *, may_enter: bool
    ) -> DecisionRecord:
        market = build_market_block(
            retrier.context,
            views,
            entries_allowed=may_enter,
            is_rounded=False,
            candles=retrier.prompt.candles,
            without_data=tuple(self.without_data),
        )
        return build_record(decision, call, retrier, market, self.deps.unrecorded.usd)

    def _record(self, decision_id: UUID, record: DecisionRecord, decision: Decision, signal: NewSignal | None) -> None:

        def record_once() -> RecordedDecision:
            with report_refusals_as_outages():
                return self.deps.store.record_decision(decision_id, self.strategy_id, record, signal)

        # Inside the gate: a stop that comes now waits for the record, and one that came before prevents it.
        with self._count_external_wait(), self.deps.gate:
            recorded = record_with_retries(record_once, self._compute_llm_deadline(), self.deps.clock, self.deps.sleep)
        self.is_recorded = True
        self.signal_id = recorded.signal_id
        if recorded.suppressed:
            self.decision = decision.model_copy(update={"reason": recorded.suppressed})

    def _compute_llm_deadline(self) -> float:
        deadline_s = self.deps.deadline_s
        return self.start + deadline_s - min(_RECORD_RESERVE_S, deadline_s * _RECORD_RESERVE_SHARE)

    @contextmanager
    def _count_external_wait(self) -> Iterator[None]:
        """Counts the time inside as waiting on other services."""
        start = self.deps.clock()
        try:
            yield
        finally:
            self.waited_s += self.deps.clock() - start

    def find_fault(self) -> SparkyError | None:
        """The failure of a cycle whose HOLD stands for an answer that was cut off or unusable; None for any other."""
        if self.decision is None:
            return None
        if self.is_cut:
            return CompletionCutOff(self.decision.reason or "cut off")
        return StrategyFault(self.decision.reason or "unusable answer") if self.decision.is_fault else None

    def build_outcome(self, failure: SparkyError | None) -> CycleOutcome:
        duration_s = self.deps.clock() - self.start
        waited_s = self.waited_s + (self.retrier.waited_s if self.retrier else 0.0)
        reason = str(failure) if failure else self.decision.reason if self.decision else None
        return CycleOutcome(
            outcome=label_outcome(failure),
            duration_s=duration_s,
            engine_s=max(0.0, duration_s - waited_s),
            reason=reason,
            failure=failure,
            strategy=self.context.strategy if self.context else None,
            should_run=self.should_run,
            decision=self.decision,
            signal_id=self.signal_id,
            waited_permit_s=self.retrier.permit_wait_s if self.retrier else None,
            calls=tuple(self.retrier.calls) if self.retrier else (),
            must_pause=self.must_pause,
            without_data=self.without_data,
        )
