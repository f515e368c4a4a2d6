"""A strategy's row, its entry rules, and the data that one cycle reads from the database."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field

from engine.domain.positions import MAX_LEVERAGE, Position
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


# The bounds of a strategy's figures, for rows to be created (`engine.admin.strategy_checks`) and rows that are read.
CadenceSeconds = Annotated[float, Field(ge=1, le=86_400)]
Confidence = Annotated[float, Field(ge=0, le=1)]
DrawdownLimitPercent = Annotated[float, Field(gt=0, le=100)]
Leverage = Annotated[int, Field(ge=1, le=MAX_LEVERAGE)]
EntryShare = Annotated[Decimal, Field(gt=0, le=100)]  # percent of `max_position_usd`
StopDistancePercent = Annotated[Decimal, Field(ge=0, lt=50)]
ContextInterval = Literal["15m", "1h"]
ModelName = Annotated[str, AfterValidator(model_name)]


class EntryRules(Row):
    """The rules for entries of a strategy; see `engine.risk.entry_rules`. Percents are 0 to 100.

    `max_entry_percent` is the maximum of one entry as a share of `max_position_usd`, `min_stop_loss_percent` the
    minimum distance of a stop-loss from the entry price. The database returns the rules in force (SQL function
    `entry_rules`, which has the defaults of the profiles). The defaults here are for an answer without rules; they are
    the strictest of all profiles, so that a missing field never allows more.
    """

    stop_loss_required: bool = True
    max_entry_percent: EntryShare = Decimal(25)
    adding: Adding = Adding.NEVER
    min_stop_loss_percent: StopDistancePercent = Decimal("0.2")


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
    cadence_seconds: CadenceSeconds
    min_confidence: Confidence
    max_drawdown_percent: DrawdownLimitPercent
    leverage_max: Leverage
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
