"""What the store takes and gives beyond the engine's own values: one model per shape that crosses the database's edge."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BeforeValidator, Field, SecretStr, ValidationError

from engine.errors import BadConfiguration
from engine.types import (
    Action,
    Frozen,
    Position,
    RiskProfile,
    Row,
    Side,
    SignalAction,
    StrategyStatus,
)

# Prices, quantities and money are booked to 8 places, half-even.
_EIGHT_PLACES = Decimal("0.00000001")


def _booked(value: object) -> object:
    return value.quantize(_EIGHT_PLACES) if isinstance(value, Decimal) and value.is_finite() else value


Booked = Annotated[Decimal, BeforeValidator(_booked)]


def plain(value: Any) -> Any:
    """A JSON document as `json.dumps` takes it: numbers are floats (their shortest text is kept), not Decimals."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value


Document = Annotated[dict[str, Any], BeforeValidator(plain)]


class WantedRow(Row):
    """A strategy that should run; `revision` changes whenever its row does."""

    id: UUID
    user_id: UUID
    name: str
    cadence_seconds: float
    revision: str


class DecisionRecord(Frozen):
    """One decision as it is kept in `ai_trade_log`; `market` is the block that the model was shown."""

    action: Action
    symbol: str | None = None
    size_usd: Decimal = Decimal(0)
    confidence: float = Field(default=0.0, ge=0, le=1)
    reasoning: str = ""
    reason: str | None = None
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


class RecordedDecision(Row):
    """`suppressed` says why an entry left no signal although the model wanted one."""

    decision_id: UUID
    signal_id: UUID | None
    suppressed: str | None


class VenueCredentials(Row):
    environment: str = "production"
    api_key: SecretStr | None = None
    api_secret: SecretStr | None = None
    passphrase: SecretStr | None = None
    user_address: SecretStr | None = None
    signer_address: SecretStr | None = None
    private_key: SecretStr | None = None


class BeganRequest(Row):
    """`new`: execute it. `busy`: another one is. `done`: give `status` and `answer` again. `conflict`: same id, other content."""

    state: Literal["new", "done", "busy", "conflict"]
    answer: Document | None = None
    status: int | None = None


class UnfinishedRequest(Row):
    """A request whose executor died; `booked_kinds` are the fills that had reached the books."""

    request_id: str
    user_id: UUID
    strategy_id: UUID | None
    exchange: str
    symbol: str
    action: str
    status: str
    fingerprint: str | None = None
    payload: Document
    attempts: int
    created_at: datetime
    booked_kinds: tuple[Literal["open", "close"], ...] = ()


class TradeSettings(Row):
    """A row of `trade_settings_exchange`; None or 0 is unlimited."""

    kill_switch: bool
    allow_weekends: bool
    max_signal_age_sec: int | None = Field(default=None, ge=0)
    max_daily_loss_usd: Decimal | None = Field(default=None, ge=0)
    max_loss_per_week_usd: Decimal | None = Field(default=None, ge=0)
    max_trades_per_week: int | None = Field(default=None, ge=0)
    max_consecutive_failures: int | None = Field(default=None, ge=0)
    max_concurrent_positions: int | None = Field(default=None, ge=0)
    max_position_size_usd: Decimal | None = Field(default=None, ge=0)


class PortfolioStrategy(Row):
    """The part of a strategy that risk needs; its drawdown is that of the book (paper or live) asked for."""

    id: UUID
    user_id: UUID
    name: str
    status: StrategyStatus
    exchange: str
    is_paper_trading: bool
    leverage_max: int = Field(ge=1)
    max_position_usd: Decimal = Field(gt=0)
    max_drawdown_percent: float = Field(gt=0)
    equity_usd: Decimal
    drawdown_percent: float


class Portfolio(Row):
    """What the risk checks look at, of one user on one exchange, paper or live. Losses are negative P&L.

    `trades_this_week` counts entries since Monday 00:00 UTC; `consecutive_failures` is 0 after an hour without one; `now` is the
    database's clock; `strategy` is None if none was named or it is not this user's.
    """

    now: datetime
    settings: TradeSettings | None
    realized_pnl_today_usd: Decimal
    realized_pnl_week_usd: Decimal
    trades_this_week: int
    consecutive_failures: int
    open_positions: tuple[Position, ...]
    strategy: PortfolioStrategy | None


class Fill(Frozen):
    """One execution to be booked. `side` is the position's, also for a close; `leverage` counts for an open."""

    kind: Literal["open", "close"]
    exchange: str
    symbol: str
    side: Side
    quantity: Annotated[Booked, Field(gt=0)]
    price: Annotated[Booked, Field(gt=0)]
    fee_usd: Booked
    leverage: int = Field(default=1, ge=1)
    is_paper: bool
    strategy_id: UUID | None = None
    order_id: str | None = None
    client_order_id: str | None = None
    stop_loss_price: Booked | None = None
    take_profit_price: Booked | None = None
    exit_reason: str | None = None
    market_time_ms: int | None = None


class BookedFill(Row):
    """What a fill did to the books. `answer` is the one stored (a close adds `pnl` to it): send exactly this."""

    position_id: UUID | None
    trade_id: UUID | None
    pnl_usd: Decimal | None
    pnl_percent: Decimal | None
    answer: Document | None = None


class NewStrategy(Frozen):
    """A strategy to be created; the defaults are those of the table."""

    user_id: UUID
    name: str = Field(min_length=1, max_length=100)
    status: StrategyStatus = StrategyStatus.PAUSED
    risk_profile: RiskProfile = RiskProfile.BALANCED
    target_assets: tuple[Annotated[str, Field(pattern=r"^[A-Z0-9]{2,30}$")], ...] = Field(
        default=("BTCUSDT", "ETHUSDT", "SOLUSDT"), min_length=1
    )
    exchange: str = Field(default="aster", pattern=r"^[a-z0-9]+$")
    is_paper_trading: bool = True
    cadence_seconds: float = Field(default=45, ge=1, le=86_400)
    min_confidence: float = Field(default=0.6, ge=0, le=1)
    max_drawdown_percent: float = Field(default=20, gt=0, le=100)
    leverage_max: int = Field(default=10, ge=1, le=125)
    max_position_usd: Decimal = Field(default=Decimal(1000), gt=0, le=1_000_000_000)
    capital_usd: Decimal = Field(default=Decimal(10_000), gt=0, le=1_000_000_000)
    daily_llm_budget_usd: Decimal | None = Field(default=None, ge=0, le=100_000)
    model: str | None = None
    custom_prompt: str | None = Field(default=None, max_length=4_000)

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Self:
        """From a person's words. Raises BadConfiguration naming every field that is unknown or wrong, in one sentence."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise BadConfiguration(f"The strategy cannot be created: {faults(error, 'no such field')}.") from None


class StrategyRow(Row):
    """A strategy as it stands in the table, right or wrong: people must see a row to mend it."""

    id: UUID
    user_id: UUID
    name: str
    status: str
    risk_profile: str
    target_assets: tuple[str, ...] = ()
    exchange: str
    is_paper_trading: bool
    cadence_seconds: float | None
    min_confidence: float | None
    max_drawdown_percent: float | None
    leverage_max: int | None
    max_position_usd: Decimal | None
    capital_usd: Decimal | None
    daily_llm_budget_usd: Decimal | None = None
    model: str | None = None
    custom_prompt: str | None = None
    paused_reason: str | None = None
    paused_at: datetime | None = None
    paused_traceback: str | None = None
    created_at: datetime
    updated_at: datetime


class DecisionRow(Row):
    """A decision of `ai_trade_log`; `raw_answer` and `market` are filled only when one decision is asked for."""

    id: UUID
    ai_strategy_id: UUID
    strategy_name: str
    signal_action: str | None
    symbol: str | None
    size_usd: Decimal | None
    confidence_score: float | None
    reasoning: str | None
    reason: str | None = None
    is_fault: bool = False
    suppressed: str | None = None
    actual_pnl: Decimal | None = None
    model: str | None = None
    request_id: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: Decimal | None = None
    latency_s: float | None = None
    stop_loss_percent: float | None = None
    take_profit_percent: float | None = None
    raw_answer: str | None = None
    market: Document | None = None
    created_at: datetime


class SignalRow(Row):
    """A signal of the outbox, open or ended."""

    id: UUID
    strategy_id: UUID
    strategy_name: str
    exchange: str
    symbol: str
    action: SignalAction
    status: str
    attempts: int
    next_attempt_at: datetime
    last_status: int | None
    last_reason: str | None
    created_at: datetime
    expires_at: datetime
    settled_at: datetime | None
    payload: Document


class TradeRow(Row):
    """A closed position (or the closed part of one). `pnl_usd` is net of `fees_usd`; percent is of the entry cost."""

    id: UUID
    user_id: UUID
    strategy_id: UUID | None
    strategy_name: str | None
    exchange: str
    symbol: str
    side: Side
    quantity: Decimal
    entry_price: Decimal
    entry_time: datetime | None
    exit_price: Decimal | None
    exit_time: datetime | None
    fees_usd: Decimal
    pnl_usd: Decimal | None
    pnl_percent: Decimal | None
    exit_reason: str | None
    is_paper: bool
    request_id: str | None = None
    decision_id: UUID | None = None
    entry_market_time_ms: int | None = None
    exit_market_time_ms: int | None = None


class LastDecision(Row):
    id: UUID
    action: str | None
    symbol: str | None
    confidence: float | None
    reason: str | None
    at: datetime


class OverviewRow(Row):
    """One strategy at a glance. Equity is capital plus both P&Ls; the unrealised one is net of entry fees."""

    id: UUID
    name: str
    status: str
    paused_reason: str | None
    paused_at: datetime | None
    exchange: str
    is_paper_trading: bool
    last_decision: LastDecision | None
    positions: tuple[Position, ...]
    realized_pnl_usd: Decimal
    unrealized_pnl_usd: Decimal
    equity_usd: Decimal | None
    peak_equity_usd: Decimal | None
    drawdown_percent: float | None
    llm_cost_today_usd: Decimal


class DatabaseHealth(Row):
    """`migrations` are the names that `sparky migrate` applied; `now` is the database's clock."""

    version: str
    migrations: tuple[str, ...]
    now: datetime
    read_only: bool = False


def faults(error: ValidationError, unknown: str = "is unknown") -> str:
    """Every fault with its field's name, in one line, without the values."""
    found = []
    for entry in error.errors(include_url=False, include_input=False):
        where = ".".join(str(part) for part in entry["loc"])
        found.append(f"{where}: {unknown if entry['type'] == 'extra_forbidden' else entry['msg']}")
    return "; ".join(found)
