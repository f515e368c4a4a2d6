"""What the engine gives to the store and gets from it: strategies that should run, decisions, signals on their way."""

from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import BeforeValidator, Field

from engine.types import Action, Frozen, Row, SignalAction, SignalOutcome, Utc


def _revision(value: object) -> object:
    """PostgreSQL has no text for an infinite moment."""
    return "" if value is None else value


class WantedRow(Row):
    """A strategy that should run; `revision` changes whenever its row does."""

    id: UUID
    user_id: UUID
    name: str
    cadence_seconds: float
    revision: Annotated[str, BeforeValidator(_revision)]
    model: str | None = None


class CallRecord(Frozen):
    """One request to the model on the way to a decision; `answer` is kept where it is not the decision's own.

    Where `is_usage_told` is False, tokens and cost are the most that they can have been.
    """

    model: str
    outcome: str
    reason: str | None = None
    latency_s: float
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    is_usage_told: bool = True
    answer: str | None = None


class DecisionRecord(Frozen):
    """One decision as it is kept in `ai_trade_log`; `market` is the block that the model was shown.

    Tokens and cost are those of all `calls` together. `notes` are the owner's words as they were shown, `system_sha256`
    names the static text before them.
    """

    action: Action
    symbol: str | None = None
    size_usd: Decimal = Decimal(0)
    confidence: float = Field(default=0.0, ge=0, le=1)
    reasoning: str = ""
    reason: str | None = None
    size_reason: str | None = None
    raw_answer: str | None = None
    model: str | None = None
    request_id: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    latency_s: float = 0.0
    market: dict[str, Any] = Field(default_factory=dict)
    is_fault: bool = False
    stop_loss_percent: float | None = None
    take_profit_percent: float | None = None
    calls: tuple[CallRecord, ...] = ()
    notes: str | None = None
    system_sha256: str | None = None


class NewSignal(Frozen):
    """A signal to leave in the outbox with its decision; it lives `ttl_s` seconds from the moment it is recorded."""

    action: SignalAction
    symbol: str
    exchange: str
    size_usd: Decimal
    confidence: float
    reasoning: str = ""
    stop_loss_percent: float | None = None
    take_profit_percent: float | None = None
    ttl_s: float = Field(gt=0)


class EngineTenure(Row):
    """Which engine holds the database's lease since when: its run, its epoch, and where it runs, for people.

    `until` is the end of the lease, which each renewal puts off, and `left_s` are the seconds until then, 0 once it has
    run out. `is_taken_over` says of a lease that
    was just taken that another home's engine held it before.
    """

    run: UUID
    epoch: int
    location: str
    since: Utc
    until: Utc
    left_s: float
    is_taken_over: bool = False


class ModelUse(Row):
    """Requests to one model that ended in recorded decisions `age_s` seconds ago, and their tokens together."""

    model: str
    age_s: float
    requests: int
    tokens: int


class RecordedDecision(Row):
    """`suppressed` says why an entry left no signal although the model wanted one."""

    decision_id: UUID
    signal_id: UUID | None
    suppressed: str | None


class Settlement(Frozen):
    """How one attempt to deliver a signal ended; see `EngineStore.settle_signals`."""

    signal_id: UUID
    outcome: SignalOutcome
    status: int | None = None
    reason: str | None = None
    retry_in_s: float | None = None
