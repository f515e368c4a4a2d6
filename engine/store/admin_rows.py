"""Rows of the administrative methods, for display: invalid ones too."""

from decimal import Decimal
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field

from engine.domain.decimals import format_plain
from engine.domain.positions import Position, Side
from engine.domain.signal import SignalAction
from engine.platform.values import Row, Utc
from engine.store.values import AnyDocument, Moment, ShownRow


def _strip_trailing_zeros(value: Decimal) -> Decimal:
    """Without trailing zeros, which the column adds."""
    return Decimal(format_plain(value))


Percent = Annotated[Decimal, AfterValidator(_strip_trailing_zeros)]


class StrategyRow(ShownRow):
    """A strategy's row, also with invalid values, so that people can see and fix it."""

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
    context_intervals: tuple[str, ...] = ()
    stop_loss_required: bool | None = None
    max_entry_percent: Percent | None = None
    adding: str | None = None
    min_stop_loss_percent: Percent | None = None
    max_spread_percent: Percent | None = None
    max_slippage_percent: Percent | None = None
    margin_mode: str | None = None
    paused_reason: str | None = None
    paused_at: Moment | None = None
    paused_traceback: str | None = None
    running_since: Moment | None = None
    created_at: Moment
    updated_at: Moment


class HeldPosition(Position):
    """A position's row, also with invalid values, to display it or to remove it."""

    model_config = ConfigDict(allow_inf_nan=True)

    side: Annotated[Side | str, Field(union_mode="left_to_right")]  # type: ignore[assignment]  # as for `entry_time`
    entry_time: Moment  # type: ignore[assignment]  # its base is what the engine trades by


class DecisionRow(ShownRow):
    """A decision of `ai_trade_log`; `raw_answer` and `market` are set only when one decision is read."""

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
    market: AnyDocument | None = None
    decision_json: AnyDocument | None = None
    created_at: Moment


class SignalRow(ShownRow):
    """A signal of the outbox, pending or ended."""

    id: UUID
    strategy_id: UUID
    strategy_name: str
    exchange: str
    symbol: str
    action: SignalAction
    status: str
    attempts: int
    next_attempt_at: Moment
    last_status: int | None
    last_reason: str | None
    created_at: Moment
    expires_at: Moment
    settled_at: Moment | None
    payload: AnyDocument


class SignalAttempt(ShownRow):
    """One attempt to deliver a signal, or another event of it (retried or dropped by hand)."""

    attempt: int
    owner: str | None
    outcome: str
    status: int | None
    reason: str | None
    started_at: Moment | None
    ended_at: Moment


class SignalHistory(SignalRow):
    """A signal with every attempt, oldest first."""

    history: tuple[SignalAttempt, ...] = ()


class TradeRow(ShownRow):
    """A closed position (or the closed part of one). `pnl_usd` is net of `fees_usd` and of `funding_usd`, which is
    positive when received; percent is of the entry cost."""

    id: UUID
    user_id: UUID
    strategy_id: UUID | None
    strategy_name: str | None
    exchange: str
    symbol: str
    side: Side
    quantity: Decimal
    entry_price: Decimal
    entry_time: Moment | None
    exit_price: Decimal | None
    exit_time: Moment | None
    fees_usd: Decimal
    funding_usd: Decimal = Decimal(0)
    pnl_usd: Decimal | None
    pnl_percent: Decimal | None
    exit_reason: str | None
    is_paper: bool
    request_id: str | None = None
    decision_id: UUID | None = None
    entry_market_time_ms: int | None = None
    exit_market_time_ms: int | None = None


class RequestRow(ShownRow):
    """The webhook server's request for a signal; `answer` is sent to every repetition of it."""

    status: str | None
    answer_status: int | None
    answer: AnyDocument | None
    error_message: str | None
    created_at: Moment
    processed_at: Moment | None


class FillRow(ShownRow):
    kind: str
    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal
    fee_usd: Decimal
    is_paper: bool
    order_id: str | None
    pnl_usd: Decimal | None
    created_at: Moment


class DecisionTrace(ShownRow):
    """A decision and its effects; `trades` are those that it opened or closed."""

    decision: DecisionRow
    signal: SignalRow | None
    attempts: tuple[SignalAttempt, ...]
    request: RequestRow | None
    fills: tuple[FillRow, ...]
    positions: tuple[HeldPosition, ...]
    trades: tuple[TradeRow, ...]


class DatabaseHealth(Row):
    """`migrations` are the names that were applied; `now` is the database's clock.

    `unreadable` are tables of applied migrations that cannot be read, each with the database's reason.
    """

    version: str
    migrations: tuple[str, ...]
    now: Utc
    read_only: bool = False
    unreadable: tuple[str, ...] = ()
