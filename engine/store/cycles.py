"""Store methods of the engine: its lease, running strategies, decisions and the outbox, with their values."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import structlog
from pydantic import BeforeValidator, Field, ValidationError

from engine.domain.decision import Action
from engine.domain.errors import StrategyFault
from engine.domain.positions import Position
from engine.domain.signal import Signal, SignalOutcome
from engine.domain.signal_payload import SignalPayload
from engine.domain.strategy import StrategyContext
from engine.platform.values import Frozen, Row, Utc
from engine.store.transport.rpc import Rpc
from engine.store.values import format_validation_errors

logger = structlog.get_logger()


def _normalize_revision(value: object) -> object:
    """Empty for an infinite moment, for which PostgreSQL returns null."""
    return "" if value is None else value


class RunnableStrategy(Row):
    """A strategy that should run; `revision` changes whenever its row does."""

    id: UUID
    user_id: UUID
    name: str
    cadence_seconds: float
    revision: Annotated[str, BeforeValidator(_normalize_revision)]
    model: str | None = None


class CallRecord(Frozen):
    """One request to the model on the way to a decision; `answer` is kept where it is not the decision's own.

    Where `is_usage_told` is False, tokens and cost are upper bounds.
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
    """One decision as recorded in `ai_trade_log`; `market` is the market block of the prompt.

    Tokens and cost are those of all `calls` together. `notes` are the owner's notes in the prompt,
    `system_sha256` is the digest of the static text before them.
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
    """A signal for the outbox, recorded with its decision; it expires `ttl_s` seconds after the call by the database's
    clock."""

    payload: SignalPayload
    ttl_s: float = Field(gt=0)


class EngineLeaseHolder(Row):
    """The engine that holds the database's lease: its run, its epoch, and where it runs, for people.

    `until` is the end of the lease, which each renewal extends, and `left_s` the seconds until then, 0 once it has
    expired. `is_taken_over`: the lease was just taken, and an engine of another home held it before.
    """

    run: UUID
    epoch: int
    location: str
    since: Utc
    until: Utc
    left_s: float
    is_taken_over: bool = False


class ModelUsage(Row):
    """Requests to one model that ended in recorded decisions `age_s` seconds ago, and their tokens together."""

    model: str
    age_s: float
    requests: int
    tokens: int


class RecordedDecision(Row):
    """A decision as recorded; `suppressed` is the reason why the entry of the model left no signal."""

    decision_id: UUID
    signal_id: UUID | None
    suppressed: str | None


class DeliveryOutcome(Frozen):
    """How one attempt to deliver a signal ended; see `EngineStore.record_delivery_outcomes`."""

    signal_id: UUID
    outcome: SignalOutcome
    status: int | None = None
    reason: str | None = None
    retry_in_s: float | None = None


class EngineStore:
    """Methods that need the engine's lease raise Superseded when another engine holds it."""

    rpc: Rpc
    engine: UUID | None

    def get_engine_lease_holder(self) -> EngineLeaseHolder | None:
        """The engine that holds the lease, or held it last; None if none ever did."""
        row = self.rpc.call("engine_tenure")
        return EngineLeaseHolder.model_validate(row) if row else None

    def hold_engine_lease(
        self, home: str, location: str, ttl_s: float, *, is_new: bool, expired_at: datetime | None = None
    ) -> EngineLeaseHolder:
        """Takes or keeps the lease for this store's `engine`; returns its holder.

        `home` names the state directory and boot, where a lock lets one supervisor run: a new engine takes the lease
        from its predecessor there, from an engine that gave it back, and from one whose lease ended at `expired_at` and
        was not renewed since. An engine that is not new keeps what it has.
        """
        held = self.rpc.call(
            "hold_engine",
            run=self.engine,
            home=home,
            location=location,
            ttl_s=ttl_s,
            is_new=is_new,
            unrenewed=expired_at,
        )
        return EngineLeaseHolder.model_validate(held)

    def list_model_usage(self, seconds: float) -> tuple[ModelUsage, ...]:
        """Requests to models for decisions of the last `seconds`, of all engines; oldest first."""
        return tuple(ModelUsage.model_validate(row) for row in self.rpc.call("model_use", seconds=seconds))

    def release_engine_lease(self) -> bool:
        """Lets another engine take the lease at once; False if it was not this engine's."""
        return bool(self.rpc.call("release_engine", run=self.engine))

    def list_running_strategies(self) -> tuple[RunnableStrategy, ...]:
        """The strategies whose status is running, in order of creation."""
        return tuple(RunnableStrategy.model_validate(row) for row in self.rpc.call("running_strategies"))

    def get_strategy_context(self, strategy_id: UUID) -> StrategyContext | None:
        """The strategy with the positions and equity of its book (paper or live), or None if the row is gone.

        Raises StrategyFault naming each column that fails validation.
        """
        row = self.rpc.call("strategy_context", strategy_id=strategy_id, engine=self.engine)
        if row is None:
            return None
        try:
            return StrategyContext.model_validate(row)
        except ValidationError as error:
            raise StrategyFault(
                f"The strategy's row is invalid: {format_validation_errors(error).replace('strategy.', '')}"
            ) from None

    def record_decision(
        self, decision_id: UUID, strategy_id: UUID, record: DecisionRecord, signal: NewSignal | None
    ) -> RecordedDecision:
        """Records the decision and, in the same transaction, its signal (whose id is the decision's).

        Idempotent by `decision_id`. An entry is suppressed while the strategy is not running or beyond its drawdown; a
        CLOSE never is. Raises InvalidCommand for a payload of another decision, strategy or person.
        """
        recorded = self.rpc.call(
            "record_decision",
            decision_id=decision_id,
            strategy_id=strategy_id,
            record=record.model_dump(mode="json"),
            payload=signal.payload.to_json() if signal else None,
            ttl_s=signal.ttl_s if signal else None,
            engine=self.engine,
        )
        return RecordedDecision.model_validate(recorded)

    def pause_strategy(self, strategy_id: UUID, reason: str, traceback: str | None = None) -> bool:
        """Pauses a running strategy; False if it was not running."""
        arguments = {"strategy_id": strategy_id, "reason": reason, "traceback": traceback}
        return bool(self.rpc.call("pause_strategy", **arguments, engine=self.engine))

    def claim_signals(self, owner: str, limit: int, lease_s: float) -> tuple[Signal, ...]:
        """Leases up to `limit` due signals, oldest first, one per (strategy, symbol); expires those that are overdue.

        `attempts` counts the claims of a signal, this one included.
        """
        rows = self.rpc.call("claim_signals", owner=owner, limit=limit, lease_s=lease_s, engine=self.engine)
        return tuple(Signal.model_validate(row) for row in rows)

    def record_delivery_outcomes(self, owner: str, outcomes: Sequence[DeliveryOutcome]) -> frozenset[UUID]:
        """Ends attempts; returns the signal ids whose lease `owner` still had. A retry after expiry expires the
        signal."""
        rows = [outcome.model_dump(mode="json") for outcome in outcomes]
        return frozenset(
            UUID(signal_id) for signal_id in self.rpc.call("settle_signals", owner=owner, settlements=rows)
        )

    def release_signals(self, owner_prefix: str) -> int:
        """Ends the leases of all owners whose name begins with `owner_prefix`; returns their number.

        Call it only when those owners have ended: another one could send a leased signal a second time.
        """
        return int(self.rpc.call("release_signals", owners=owner_prefix, engine=self.engine))

    def count_pending_signals(self) -> int:
        return int(self.rpc.call("outbox_pending"))

    def mark_positions(self, exchange: str, symbol: str, price: object) -> int:
        """Values the open positions in `symbol` at `price` and raises equity peaks; returns the number of positions."""
        return int(self.rpc.call("mark_symbol", exchange=exchange, symbol=symbol, price=price))

    def list_open_positions(
        self, user_id: UUID | None = None, strategy_id: UUID | None = None, exchange: str | None = None
    ) -> tuple[Position, ...]:
        """Open positions that match all given arguments, oldest first; paper and live.

        Invalid rows are logged and omitted, so that one of them does not make the others unreadable.
        """
        rows = self.rpc.call("open_positions", user_id=user_id, strategy_id=strategy_id, exchange=exchange)
        return tuple(position for position in map(_parse_position, rows) if position is not None)


def _parse_position(row: dict[str, Any]) -> Position | None:
    try:
        return Position.model_validate(row)
    except ValidationError as error:
        logger.warning("position_unreadable", position=str(row.get("id")), reason=format_validation_errors(error))
        return None
