"""Everything outside a cycle in one object, so that tests of a cycle say only what is different there."""
# ruff: noqa: ARG002 - the world takes what its real counterparts need

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from engine.deciding.commit_gate import CommitGate
from engine.deciding.cycle import run_cycle
from engine.deciding.cycle_interface import CycleDependencies, CycleOutcome
from engine.domain.completion import Completion, Usage
from engine.domain.errors import LlmUnavailable, ModelUnavailable
from engine.domain.market import MarketSnapshot
from engine.domain.prompt import Prompt
from engine.domain.strategy import StrategyContext
from engine.llm.llm_call import LlmCall, LlmOutcome
from engine.llm.prompt_tokens import estimate_tokens
from engine.llm.retry import PermitGrant
from engine.platform.errors import CycleSkipped, SkipKind
from engine.store.cycles import DecisionRecord, NewSignal, RecordedDecision
from tests.engine.deciding.examples import STRATEGY_ID, a_context, a_snapshot

MODEL = "openai/gpt-oss-120b"
LONG = (
    '{"action":"LONG","symbol":"BTCUSDT","size_usd":250,"confidence":0.8,"reasoning":"up",'
    '"stop_loss_percent":2,"take_profit_percent":null}'
)
CLOSE = LONG.replace("LONG", "CLOSE")


def answered(text: str = LONG) -> LlmCall:
    usage = Usage(prompt_tokens=1_000, cached_tokens=200, completion_tokens=50)
    completion = Completion(
        text=text, model=MODEL, request_id="req_1", usage=usage, cost_usd=Decimal("0.0002"), latency_s=1.0
    )
    return LlmCall(model=MODEL, outcome=LlmOutcome.OK, latency_s=1.0, network_s=0.9, completion=completion, tokens=850)


def failed(outcome: LlmOutcome, **more: Any) -> LlmCall:
    return LlmCall(model=MODEL, outcome=outcome, latency_s=1.0, network_s=1.0, reason=f"told to be {outcome}", **more)


@dataclass
class World:
    """Everything outside a cycle, on a clock that only its own waits move."""

    context: StrategyContext | Exception | None = field(default_factory=a_context)
    calls: list[LlmCall] = field(default_factory=lambda: [answered()])
    permit_wait_s: float = 0.5
    permits_left: int = 99
    known_gone: tuple[str, ...] = ()
    record_error: Exception | None = None
    market_error: Exception | None = None
    market_errors: dict[str, Exception] = field(default_factory=dict)
    longer_error: Exception | None = None
    suppressed: str | None = None
    gate: CommitGate = field(default_factory=CommitGate)
    now: float = 1_000.0
    models: list[str] = field(default_factory=lambda: [MODEL])
    prompts: list[Prompt] = field(default_factory=list)
    deadlines: list[float] = field(default_factory=list)
    released: list[tuple[PermitGrant, LlmCall]] = field(default_factory=list)
    records: list[DecisionRecord] = field(default_factory=list)
    record_ids: list[UUID] = field(default_factory=list)
    failing_records: int = 1_000_000
    signals: list[NewSignal | None] = field(default_factory=list)

    # the store

    def get_strategy_context(self, strategy_id: UUID) -> StrategyContext | None:
        self.now += 0.01
        if isinstance(self.context, Exception):
            raise self.context
        return self.context

    def record_decision(
        self, decision_id: UUID, strategy_id: UUID, record: DecisionRecord, signal: NewSignal | None
    ) -> RecordedDecision:
        self.now += 0.01
        self.record_ids.append(decision_id)
        if self.record_error is not None and len(self.record_ids) <= self.failing_records:
            raise self.record_error
        self.records.append(record)
        self.signals.append(signal)
        left = signal is not None and self.suppressed is None
        return RecordedDecision(
            decision_id=decision_id, signal_id=decision_id if left else None, suppressed=self.suppressed
        )

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    # market and limiter

    def snapshot(self, venue: str, symbol: str, interval: str, deadline: float) -> MarketSnapshot:
        self.now += 0.1
        error = self.market_errors.get(symbol, self.market_error) if interval == "1m" else self.longer_error
        if error is not None:
            raise error
        return a_snapshot(symbol, interval=interval)

    def acquire(self, model: str, tokens: int, *, holds_position: bool, deadline: float) -> PermitGrant:
        assert 1_000 < tokens < 12_000
        if model in self.known_gone:
            raise ModelUnavailable("404 model_not_found")
        if self.permits_left == 0:
            self.now = deadline
            raise CycleSkipped(SkipKind.NO_PERMIT, "no permit in time")
        self.permits_left -= 1
        self.now += self.permit_wait_s
        return PermitGrant(UUID(int=self.permits_left), self.permit_wait_s, tokens)

    def release(self, granted: PermitGrant, call: LlmCall) -> None:
        self.released.append((granted, call))

    # the model

    def select_model(self, wanted: str | None) -> str:
        if not self.models:
            raise LlmUnavailable("no model is left")
        return wanted or self.models[0]

    def mark_unavailable(self, model: str, reason: str) -> None:
        self.models.remove(model)

    def count_request_tokens(self, prompt: Prompt, model: str) -> int:
        return estimate_tokens(prompt) + 800

    def raise_allowance(self, model: str) -> bool:
        return False

    def restore_allowance(self, model: str) -> bool:
        return False

    def has_price(self, model: str) -> bool:
        return model == MODEL

    def complete(self, prompt: Prompt, model: str, deadline: float) -> LlmCall:
        self.prompts.append(prompt)
        self.deadlines.append(deadline)
        call = self.calls.pop(0) if len(self.calls) > 1 else self.calls[0]
        self.now = min(self.now + call.latency_s, deadline)
        return call

    def run(self, max_attempts: int = 3, **changes: Any) -> CycleOutcome:
        rests: list[float] = []

        class Gate(CommitGate):
            def sleep(gate, seconds: float) -> None:  # noqa: N805 - `self` is the world
                rests.append(seconds)
                self.now += seconds

        if type(self.gate) is CommitGate and not self.gate._closed.is_set():
            self.gate = Gate()
        values: dict[str, Any] = {
            "deadline_s": 40.0,
            "llm_timeout_s": 20.0,
            "signal_ttl_s": 60.0,
            "model": self,
            **changes,
        }
        return run_cycle(
            STRATEGY_ID,
            CycleDependencies(
                store=self,
                services=self,
                gate=self.gate,
                clock=lambda: self.now,
                sleep=self.sleep,
                jitter=lambda: 0.5,
                new_id=lambda: UUID(int=99),
                **values,
            ),
            max_attempts,
        )
