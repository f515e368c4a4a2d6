"""Messages between the trading actors: frozen, validated types that travel as JSON."""

from decimal import Decimal
from typing import Literal
from uuid import UUID

from actors.runtime.messages import Ask, Message
from engine.domain.completion import KnownLimit
from engine.domain.market import MarketSnapshot
from engine.platform.values import Frozen

# market


class GetSnapshot(Ask):
    venue: str
    symbol: str
    interval: str = "1m"


class Snapshot(Message):
    snapshot: MarketSnapshot


# limiter


class AcquirePermit(Ask):
    """Asks the limiter for one request to `model` of at most `tokens` (prompt and answer); waits in its fair queue."""

    strategy_id: UUID
    model: str
    tokens: int
    holds_position: bool = False


class Permit(Message):
    permit_id: UUID
    waited_s: float


class ReleasePermit(Message):
    """Tells the limiter how the request ended. `tokens` are those it used, None when nothing was sent.

    `requests_per_day` and `tokens_per_minute` are limits that the provider's headers announced. With `refused` the
    provider refused for now: by `limit` and for `retry_after_s` seconds where it said so, with the words `reason`.
    `account_refused` is why it refuses every request of this host, `gone` why it does not serve the model. `is_served`
    is true only when the answer proves that it serves the model.
    """

    permit_id: UUID
    model: str
    tokens: int | None
    refused: bool = False
    limit: KnownLimit | None = None
    reason: str | None = None
    account_refused: str | None = None
    gone: str | None = None
    is_served: bool = False
    requests_per_day: int | None = None
    tokens_per_minute: int | None = None
    retry_after_s: float | None = None


class PriorLlmRequests(Frozen):
    """`requests` to `model` at `at` (monotonic seconds), for `tokens` together."""

    model: str
    at: float
    requests: int
    tokens: int


class PriorLlmUsage(Message):
    """Engine lease to limiter: what the engine before this one asked of models in the last minute, oldest first."""

    asked: tuple[PriorLlmRequests, ...]


class LlmDemand(Frozen):
    """The number of strategies that ask `model` (None: the settings' own) every `cadence_s` seconds."""

    model: str | None
    cadence_s: float
    strategies: int


class LlmDemandReport(Message):
    """Strategy watcher to limiter: the demand of all running strategies."""

    demands: tuple[LlmDemand, ...]


# dispatcher


class SignalQueued(Message):
    """Strategy to dispatcher: the signal is in the outbox."""

    signal_id: UUID


class EngineState(Message):
    """Engine lease to monitor: whether this engine holds the lease, and `location` and `epoch` of the holder.

    `state` is running, standing by, or waiting for the database; the last may be with or without the lease.
    """

    state: Literal["running", "standing by", "waiting"]
    is_held: bool = False
    epoch: int | None = None
    location: str | None = None
    reason: str | None = None


class UnattendedPositions(Message):
    """Strategy watcher to monitor, every 15 s: the number of open positions without a running strategy, by book."""

    paper: int
    live: int


class StrategyChanged(Message):
    """Strategy watcher to a strategy: its row has changed; read it now."""

    revision: str


# events for the monitor: sent with `tell`, never waited for


class CycleFinished(Message):
    """`outcome` is ok, skip_<kind>, fault, cut, upstream_<service> or abandoned; `next_tick_at` is Unix seconds.

    Set only while the breaker is not closed: `probe_at`, when the next cycle runs as a probe; `breaker_since`, when it
    opened (both Unix seconds); and `breaker_reason`, the failure that opened it.
    """

    strategy_id: UUID
    name: str
    outcome: str
    reason: str | None = None
    duration_s: float
    engine_s: float  # the part of it that was ours, not waiting on others
    lateness_s: float
    missed_ticks: int = 0
    at: float
    next_tick_at: float
    failures: int
    breaker: Literal["closed", "open", "half_open"]
    probe_at: float | None = None
    breaker_since: float | None = None
    breaker_reason: str | None = None
    action: str | None = None
    symbol: str | None = None
    confidence: float | None = None
    signal_id: UUID | None = None
    waited_permit_s: float | None = None


class LlmCalled(Message):
    """`outcome` is ok or a short cause such as rate_limited, timeout, server_error."""

    strategy_id: UUID
    model: str
    outcome: str
    duration_s: float
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: Decimal = Decimal(0)


class SignalAttempted(Message):
    """One delivery attempt; `age_s` counts from the decision."""

    signal_id: UUID
    strategy_id: UUID | None
    outcome: str
    status: int | None
    reason: str | None
    age_s: float


class OutboxState(Message):
    """Dispatcher to monitor, every second: the number of signals that have not reached an end."""

    pending: int


class LimiterState(Message):
    """Queue and use of each limit, by model; `used` and `limit` are keyed rpm, tpm, rpd, tpd, concurrency.

    `need_rpm`, `limit_rpm`, `limited_by` and `effective_cadence_s` are those of `engine.ratelimit.capacity.Capacity`.
    `gone` is why the provider does not serve the model any more. While it refuses for a time, `refused_until` is the
    end (Unix seconds) and `refused_by` the limit in words; `account_refused` is why it refuses every request.
    """

    model: str
    queue_length: int
    oldest_wait_s: float
    used: dict[str, float]
    limit: dict[str, float]
    need_rpm: float | None = None
    limit_rpm: float | None = None
    limited_by: str | None = None
    effective_cadence_s: float | None = None
    gone: str | None = None
    refused_until: float | None = None
    refused_by: str | None = None
    account_refused: str | None = None


class MarketFetched(Message):
    venue: str
    symbol: str
    interval: str
    outcome: str
    duration_s: float
