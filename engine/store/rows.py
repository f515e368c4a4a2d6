"""What the store takes and gives beyond the engine's own values: one model per shape that crosses its edge."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, SecretStr

from engine.store.people_rows import (
    DatabaseHealth,
    DecisionRow,
    DecisionStory,
    LastDecision,
    NewStrategy,
    OverviewRow,
    SignalRow,
    StrategyRow,
    TradeRow,
)
from engine.store.values import Booked, Document
from engine.types import (
    Action,
    Frozen,
    Position,
    Row,
    Side,
    SignalAction,
    StrategyStatus,
)

__all__ = [
    "BeganRequest",
    "BookedFill",
    "CallRecord",
    "DatabaseHealth",
    "DecisionRecord",
    "DecisionRow",
    "DecisionStory",
    "Fill",
    "LastDecision",
    "NewSignal",
    "NewStrategy",
    "OverviewRow",
    "Portfolio",
    "PortfolioStrategy",
    "RecordedDecision",
    "SignalRow",
    "StrategyRow",
    "TradeRow",
    "TradeSettings",
    "UnfinishedRequest",
    "VenueCredentials",
    "WantedRow",
]


class WantedRow(Row):
    """A strategy that should run; `revision` changes whenever its row does."""

    id: UUID
    user_id: UUID
    name: str
    cadence_seconds: float
    revision: str
    model: str | None = None


class CallRecord(Frozen):
    """One request to the model on the way to a decision; `answer` is kept where it is not the decision's own."""

    model: str
    outcome: str
    reason: str | None = None
    latency_s: float
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
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
    user_address: str | None = None
    signer_address: str | None = None
    private_key: SecretStr | None = None


class BeganRequest(Row):
    """What to do with a request.

    `new`: execute it. `busy`: another one is executing it. `done`: give `status` and `answer` again. `conflict`: the id
    was used for other content.
    """

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

    `trades_this_week` counts entries since Monday 00:00 UTC; `consecutive_failures` is 0 after an hour without one;
    `now` is the database's clock; `strategy` is None if none was named or it is not this user's.
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
