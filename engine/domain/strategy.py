"""A strategy's row, its entry rules, and the data that one cycle reads from the database."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field

from engine.domain.positions import Position
from engine.platform.settings.setting_values import model_name
from engine.platform.values import Row, Utc


class RiskProfile(StrEnum):
    CONSERVATIVE = "conservative"
    BALANCED = "balanced"
    AGGRESSIVE = "aggressive"


class StrategyStatus(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    BACKTESTING = "backtesting"
    TERMINATED = "terminated"


class Adding(StrEnum):
    """Whether an entry may add to a position of its own side."""

    NEVER = "never"
    TO_WINNER = "to_winner"
    ALWAYS = "always"


class EntryRules(Row):
    """The rules for entries of a strategy; see `engine.risk.entry_rules`. Percents are 0 to 100.

    `max_entry_percent` is the maximum of one entry as a share of `max_position_usd`, `min_stop_loss_percent` the
    minimum distance of a stop-loss from the entry price. The database returns the rules in force (SQL function
    `entry_rules`, which has the defaults of the profiles). The defaults here are for an answer without rules; they are
    the strictest of all profiles, so that a missing field never allows more.
    """

    stop_loss_required: bool = True
    max_entry_percent: Decimal = Field(default=Decimal(25), gt=0, le=100)
    adding: Adding = Adding.NEVER
    min_stop_loss_percent: Decimal = Field(default=Decimal("0.2"), ge=0, lt=50)


ContextInterval = Literal["15m", "1h"]
ModelName = Annotated[str, AfterValidator(model_name)]


class Strategy(Row):
    """A row of `ai_strategies`, with the columns that the engine uses."""

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


class StrategyContext(Row):
    """The data that one cycle reads from the database, in one call. Equity and costs are in USD."""

    strategy: Strategy
    positions: tuple[Position, ...]
    equity_usd: Decimal
    peak_equity_usd: Decimal
    drawdown_percent: float
    llm_spent_today_usd: Decimal
    llm_spent_today_by_all_usd: Decimal = Decimal(0)
