"""Messages that the trading actors send each other: frozen, validated types that travel as JSON."""

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
    """Asks for one request of about `tokens` (prompt and answer) on `model`. Waits in the limiter's fair queue."""

    strategy_id: UUID
    model: str
    tokens: int
    holds_position: bool = False


class Permit(Message):
    permit_id: UUID
    waited_s: float


class ReleasePermit(Message):
    """Tells the limiter how the request ended. `tokens` is None when nothing was sent.

    `requests_per_day` and `tokens_per_minute` are limits announced by the provider's headers. `refused` says that it
    refused for now, `limit` by which limit where it said so, `retry_after_s` for how long where it said so.
    `account_refused` is why the provider refuses every request of this host, `gone` why it does not serve the model;
    `reason` are its words. `is_served` says that it does serve: none of these where nothing proves it.
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
    """Lease actor to limiter: what another home's engine asked of models before this one took over, oldest first."""

    asked: tuple[PriorLlmRequests, ...]


class LlmDemand(Frozen):
    """How many strategies want `model` (None: the settings' own) every `cadence_s` seconds."""

    model: str | None
    cadence_s: float
    strategies: int


class LlmDemandReport(Message):
    """Roster to limiter: all that is wanted now."""

    demands: tuple[LlmDemand, ...]


# dispatcher


class SignalQueued(Message):
    signal_id: UUID


class EngineState(Message):
    """Lease actor to monitor: whether this engine holds the database's lease, and who does otherwise.

    `state` is running, standing by, or waiting (for the database, which an engine that holds the lease does as well).
    """

    state: Literal["running", "standing by", "waiting"]
    is_held: bool = False
    epoch: int | None = None
    location: str | None = None
    reason: str | None = None


class UnattendedPositions(Message):
    """Roster to monitor, now and then: how many positions no strategy steers, in each book."""

    paper: int
    live: int


class StrategyChanged(Message):
    """Roster to a strategy: its row is another; read it now."""

    revision: str


# events for the monitor; told, never waited for


class CycleFinished(Message):
    """`outcome` is ok, skip_<kind>, fault, cut, upstream_<service> or abandoned; `next_tick_at` is Unix seconds.

    Of a breaker that is not closed: when a cycle next runs as its probe, when it was last closed (Unix seconds), and
    the failure that opened it.
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
    pending: int


class LimiterState(Message):
    """Queue and use of each limit, by model; `used` and `limit` are keyed rpm, tpm, rpd, tpd, concurrency.

    Need and limit in requests a minute and the cadence that is left are those of `engine.ratelimit.capacity.Capacity`.
    `gone` is why the provider does not serve the model any more. `refused_until` (Unix seconds) and `refused_by`, in
    words, tell of a refusal for now, `account_refused` of one of everything.
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
