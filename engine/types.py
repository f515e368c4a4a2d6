"""The values that travel from market to booked fill: frozen, validated, in the field's own words."""

from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final, Literal, NamedTuple
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from engine.setting_values import model_name


class Frozen(BaseModel):
    """Base of every value: immutable, and closed to fields nobody declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Row(BaseModel):
    """Base of values read from the database: immutable; columns a newer schema adds are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def in_utc(value: datetime) -> datetime:
    """The same moment in UTC. Raises ValueError for one that lies beyond Python's years there."""
    try:
        return value if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise ValueError("lies beyond the years that are counted with") from None


# A database tells moments in its own zone, or in that of a role: they become UTC where rows become values.
Utc = Annotated[datetime, AfterValidator(in_utc)]


class RiskProfile(StrEnum):
    CONSERVATIVE = "conservative"
    BALANCED = "balanced"
    AGGRESSIVE = "aggressive"


class StrategyStatus(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    BACKTESTING = "backtesting"
    TERMINATED = "terminated"


class Action(StrEnum):
    """What the model may propose."""

    LONG = "LONG"
    SHORT = "SHORT"
    CLOSE = "CLOSE"
    HOLD = "HOLD"


class SignalAction(StrEnum):
    """What the webhook server is asked to do."""

    BUY = "BUY"
    SELL = "SELL"
    CLOSE = "CLOSE"


class Side(StrEnum):
    LONG = "LONG"
    SHORT = "SHORT"


class Adding(StrEnum):
    """Whether an entry may add to a position of its own side."""

    NEVER = "never"
    TO_WINNER = "to_winner"
    ALWAYS = "always"


class MarginMode(StrEnum):
    """What a position may lose: its own margin (isolated), or all that its account has (cross).

    Where a strategy names none, a live account stays as it is, and on paper a position is isolated.
    """

    ISOLATED = "isolated"
    CROSS = "cross"


class EntryRules(Row):
    """What an entry of a strategy must satisfy; see `engine.entry_rules`. Percents are 0 to 100.

    `max_entry_percent` is the share of `max_position_usd` that one entry may have, `min_stop_loss_percent` the least
    distance of a stop from the entry. The database gives the rules in force (SQL function `entry_rules`, which has the
    defaults of the profiles); the defaults here, for an answer without them, are the strictest of those.
    """

    stop_loss_required: bool = True
    max_entry_percent: Decimal = Field(default=Decimal(25), gt=0, le=100)
    adding: Adding = Adding.NEVER
    min_stop_loss_percent: Decimal = Field(default=Decimal("0.2"), ge=0, lt=50)


class SignalOutcome(StrEnum):
    """Where a signal ends; `retry` is the one that is not an end."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    EXPIRED = "expired"
    DEAD = "dead"
    RETRY = "retry"


SIGNAL_OF_ACTION = {
    Action.LONG: SignalAction.BUY,
    Action.SHORT: SignalAction.SELL,
    Action.CLOSE: SignalAction.CLOSE,
}


class Candle(NamedTuple):
    """One closed candle; `open_time_ms` is the venue's clock, UTC."""

    open_time_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float


class Indicators(Frozen):
    """Values at the last closed candle; None while the indicator is still warming up, never zero."""

    sma_20: float | None = None
    sma_50: float | None = None
    ema_12: float | None = None
    ema_26: float | None = None
    macd: float | None = None
    macd_signal: float | None = None
    macd_histogram: float | None = None
    rsi_14: float | None = None
    atr_14: float | None = None
    bollinger_upper: float | None = None
    bollinger_middle: float | None = None
    bollinger_lower: float | None = None
    volume_ratio: float | None = None


class MarketSnapshot(Frozen):
    """What a strategy is shown of one symbol.

    `candles` are the last 10 closed ones, oldest first (the indicators saw up to 100). `as_of_ms` is the venue's time
    when the data was read, `age_s` how old the data was when it was handed out. `filled` are the open times of those of
    `candles` that the venue did not tell, and `filled_count` is how many of up to 100 it did not.
    `funding_rate_percent` is what longs pay shorts (negative: get) in `next_funding_minutes`, None where that is not
    known.
    """

    venue: str
    symbol: str
    interval: str = "1m"
    as_of_ms: int
    age_s: float = 0.0
    last_price: float
    change_24h_percent: float | None
    candles: tuple[Candle, ...]
    filled: tuple[int, ...] = ()
    filled_count: int = 0
    indicators: Indicators
    funding_rate_percent: float | None = None
    next_funding_minutes: int | None = None


ContextInterval = Literal["15m", "1h"]
ModelName = Annotated[str, AfterValidator(model_name)]


class Strategy(Row):
    """A row of `ai_strategies`, as the engine needs it."""

    id: UUID
    user_id: UUID
    name: str
    status: StrategyStatus
    risk_profile: RiskProfile
    target_assets: tuple[str, ...] = Field(min_length=1)
    exchange: str
    is_paper_trading: bool
    cadence_seconds: float = Field(ge=1, le=86_400)
    min_confidence: float = Field(ge=0, le=1)
    max_drawdown_percent: float = Field(gt=0, le=100)
    leverage_max: int = Field(ge=1, le=125)
    max_position_usd: Decimal = Field(gt=0)
    capital_usd: Decimal = Field(gt=0)
    daily_llm_budget_usd: Decimal | None = Field(default=None, ge=0)
    model: ModelName | None = None
    custom_prompt: str | None = None
    context_intervals: tuple[ContextInterval, ...] = ()
    rules: EntryRules = EntryRules()
    paused_reason: str | None = None
    paused_at: Utc | None = None
    running_since: Utc | None = None  # when the row was last resumed
    updated_at: Utc


class Position(Row):
    """What one strategy holds in one symbol. Prices, quantity and money are exact."""

    id: UUID
    user_id: UUID
    strategy_id: UUID | None
    exchange: str
    symbol: str
    side: Side
    quantity: Decimal
    entry_price: Decimal
    entry_time: Utc
    position_size_usd: Decimal
    fees_usd: Decimal = Decimal(0)
    funding_usd: Decimal = Decimal(0)  # since it was opened, positive when received
    leverage: int = 1
    margin_mode: MarginMode | None = None
    current_price: Decimal | None = None
    unrealized_pnl_usd: Decimal | None = None
    liquidation_price: Decimal | None = None  # on paper computed, live as the venue told it last
    watched_until_ms: int | None = Field(default=None, exclude=True)  # see the column's comment
    stop_loss_price: Decimal | None = None
    take_profit_price: Decimal | None = None
    stop_loss_client_order_id: str | None = None  # of the orders that wait at a live venue
    take_profit_client_order_id: str | None = None
    exit_order_ids: frozenset[str] = Field(default=frozenset(), exclude=True)  # the venue's, of exits that are booked
    is_paper: bool


class StrategyContext(Row):
    """All that one cycle needs of the database, read in one call."""

    strategy: Strategy
    positions: tuple[Position, ...]
    equity_usd: Decimal
    peak_equity_usd: Decimal
    drawdown_percent: float
    llm_spent_today_usd: Decimal
    llm_spent_today_by_all_usd: Decimal = Decimal(0)


class Decision(Frozen):
    """A bounded decision: everything in it has passed the code's checks. `reason` says why a HOLD was forced."""

    action: Action
    symbol: str | None = None
    size_usd: Decimal = Decimal(0)
    confidence: float = 0.0
    reasoning: str = Field(default="", max_length=100)
    stop_loss_percent: float | None = None
    take_profit_percent: float | None = None
    reason: str | None = None
    size_reason: str | None = None  # why an entry is smaller than the model wanted it
    is_fault: bool = False  # True when the answer was unusable: it counts as a StrategyFault


class Usage(Frozen):
    """Tokens of one completion as the provider counted them."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


LimitName = Literal["rpm", "tpm", "rpd", "tpd"]
LIMIT_WORDS: Final[dict[LimitName, str]] = {
    "rpm": "requests per minute",
    "tpm": "tokens per minute",
    "rpd": "requests per day",
    "tpd": "tokens per day",
}


class KnownLimit(Frozen):
    """A limit of which a refusal told: its name, and its size in requests or tokens where that was said."""

    name: LimitName
    size: int | None = None


class Completion(Frozen):
    """One answer of the model, raw, with what it cost and took."""

    text: str
    model: str
    request_id: str | None
    usage: Usage
    cost_usd: Decimal
    latency_s: float
    is_usage_told: bool = True  # else `usage` is the most that it can have been


class Signal(Row):
    """A row of the outbox that the dispatcher has leased. `payload` is the body's JSON without any secret."""

    id: UUID
    user_id: UUID
    strategy_id: UUID | None
    symbol: str
    payload: dict[str, object]
    attempts: int
    created_at: Utc
    expires_at: Utc
