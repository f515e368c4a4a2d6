"""What a cycle needs from outside, and what it returns."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol
from uuid import UUID, uuid4

from engine.deciding.budget import UnrecordedSpend
from engine.deciding.commit_gate import CommitGate
from engine.domain.decision import Decision
from engine.domain.errors import CompletionCutOff
from engine.domain.market import MarketSnapshot
from engine.domain.strategy import Strategy, StrategyContext
from engine.llm.llm_call import LlmCall
from engine.llm.retry import LlmClient, PermitClient
from engine.platform.errors import CycleSkipped, DatabaseUnavailable, SkipKind, SparkyError, UpstreamUnavailable
from engine.store.cycles import DecisionRecord, NewSignal, RecordedDecision
from engine.store.transport.sqlstates import DatabaseRequestError, is_value_error


class DecisionStore(Protocol):
    """What the cycle needs of `engine.store.Store`."""

    def get_strategy_context(self, strategy_id: UUID) -> StrategyContext | None: ...

    def record_decision(
        self, decision_id: UUID, strategy_id: UUID, record: DecisionRecord, signal: NewSignal | None
    ) -> RecordedDecision: ...


class CycleServices(PermitClient, Protocol):
    """Market data and permits, which other processes provide."""

    def snapshot(self, venue: str, symbol: str, interval: str, deadline: float) -> MarketSnapshot:
        """Raises CycleSkipped when there is no usable data by the monotonic `deadline`, StrategyFault for a symbol that
        does not exist."""
        ...


@dataclass(frozen=True)
class CycleDependencies:
    """Everything that one strategy's cycles reach outside; clock, sleep, jitter and ids are passed in for tests.

    `deadline_s` is for the whole cycle, `llm_timeout_s` for one request to the model. `host_budget_usd` is the daily
    LLM budget of all strategies together, None for no limit.
    """

    store: DecisionStore
    services: CycleServices
    model: LlmClient
    gate: CommitGate
    deadline_s: float
    llm_timeout_s: float
    signal_ttl_s: float
    host_budget_usd: Decimal | None = None
    unrecorded: UnrecordedSpend = field(default_factory=UnrecordedSpend)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random
    new_id: Callable[[], UUID] = uuid4


@dataclass(frozen=True)
class CycleOutcome:
    """How a cycle ended. `outcome` is the label of `CycleFinished`; `failure` is None if the cycle went through.

    `engine_s` is `duration_s` without the time spent waiting on other services. `strategy` is the row as it was read,
    None if it could not be. `must_pause` is the reason for which the row is to be paused now. `without_data` has the
    symbols that were left out, each with the reason.
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


def build_failed_outcome(failure: SparkyError, duration_s: float) -> CycleOutcome:
    """The outcome of a cycle that failed before it began."""
    return CycleOutcome(
        outcome=label_outcome(failure), duration_s=duration_s, engine_s=0.0, reason=str(failure), failure=failure
    )


def label_outcome(failure: SparkyError | None) -> str:
    """The metric label of a cycle that ended with `failure`."""
    if failure is None:
        return "ok"
    if isinstance(failure, CompletionCutOff):
        return "cut"
    if isinstance(failure, CycleSkipped):
        return "abandoned" if failure.kind is SkipKind.STOPPING else f"skip_{failure.kind}"
    return f"upstream_{failure.service}" if isinstance(failure, UpstreamUnavailable) else "fault"


@contextmanager
def report_refusals_as_outages() -> Iterator[None]:
    """Raises DatabaseUnavailable for a request that the database refuses, except for its values.

    No strategy can cause the refusal of rights or schema: they were in order when its engine started, and may be again.
    A refused value is the strategy's own and raised as it is.
    """
    try:
        yield
    except DatabaseRequestError as error:
        if is_value_error(error.state):
            raise
        raise DatabaseUnavailable(str(error)) from None
