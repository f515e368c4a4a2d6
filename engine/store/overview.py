"""Strategies and unattended positions for display: an unreadable field does not hide the others."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Self
from uuid import UUID

from pydantic import ValidationError

from engine.store.admin_rows import HeldPosition
from engine.store.values import Moment, ShownRow


class LastDecision(ShownRow):
    """The last decision of a strategy."""

    id: UUID
    action: str | None
    symbol: str | None
    confidence: float | None
    reason: str | None
    at: Moment


class OverviewRow(ShownRow):
    """Summary of one strategy. Equity (USD) is capital plus both P&Ls; the unrealised P&L is net of entry fees.

    None is unknown; `unreadable` names the fields that could not be read.
    """

    id: UUID
    name: str | None = None
    status: str | None = None
    paused_reason: str | None = None
    paused_at: Moment | None = None
    exchange: str | None = None
    is_paper_trading: bool | None = None
    last_decision: LastDecision | None = None
    positions: tuple[HeldPosition, ...] | None = None
    realized_pnl_usd: Decimal | None = None
    unrealized_pnl_usd: Decimal | None = None
    equity_usd: Decimal | None = None
    peak_equity_usd: Decimal | None = None
    drawdown_percent: float | None = None
    llm_cost_today_usd: Decimal | None = None
    llm_decisions_today: int | None = None
    daily_llm_budget_usd: Decimal | None = None
    unreadable: tuple[str, ...] = ()

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The row as far as it can be read. Raises ValidationError when not even its id can."""
        try:
            return cls.model_validate(row)
        except ValidationError as error:
            faulty = {str(entry["loc"][0]) for entry in error.errors(include_url=False, include_input=False)}
            readable = {name: value for name, value in row.items() if name not in faulty}
            return cls.model_validate(readable | {"unreadable": sorted(faulty)})


class UnattendedPosition(ShownRow):
    """An open position that no running strategy manages, also with invalid figures.

    `why` is the status of its strategy, or gone, other book, other exchange, other symbols; `since` is when that
    strategy was paused or ended. `strategy_id` is None where the strategy's row was deleted.
    """

    id: UUID
    user_id: UUID
    strategy_id: UUID | None
    strategy_name: str | None
    why: str
    since: Moment | None
    exchange: str
    symbol: str
    side: str | None
    quantity: Decimal
    entry_price: Decimal
    entry_time: Moment | None
    stop_loss_price: Decimal | None
    take_profit_price: Decimal | None
    is_paper: bool
