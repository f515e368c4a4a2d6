"""Values of the webhook server's own types, each a valid default that a test changes where it matters."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from engine.domain.positions import Position, Side
from engine.domain.strategy import StrategyStatus
from engine.risk.entry_rules import UNRESTRICTED
from engine.store.webhook_rows import Portfolio, PortfolioStrategy, RiskSettings
from webhook_server.intake.schemas import WebhookSignal

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)  # a Wednesday
USER = UUID("00000000-0000-4000-8000-000000000001")
STRATEGY = UUID("00000000-0000-4000-8000-000000000002")


def order(**fields: Any) -> WebhookSignal:
    """BUY 1,000 USD of BTCUSDT for STRATEGY."""
    given = {
        "exchange": "aster",
        "symbol": "BTCUSDT",
        "action": "BUY",
        "position_size_usd": 1000,
        "strategy_id": STRATEGY,
    }
    return WebhookSignal.model_validate(given | fields)


def settings(**fields: Any) -> RiskSettings:
    return RiskSettings.model_validate({"kill_switch": False, "allow_weekends": True} | fields)


def strategy(**fields: Any) -> PortfolioStrategy:
    given = {
        "id": STRATEGY,
        "user_id": USER,
        "name": "one",
        "status": StrategyStatus.RUNNING,
        "exchange": "aster",
        "is_paper_trading": True,
        "leverage_max": 10,
        "max_position_usd": 1000,
        "max_drawdown_percent": 20,
        "equity_usd": 10_000,
        "drawdown_percent": 0,
        "rules": UNRESTRICTED,
    }
    return PortfolioStrategy.model_validate(given | fields)


def portfolio(**fields: Any) -> Portfolio:
    given = {
        "now": NOW,
        "settings": None,
        "realized_pnl_today_usd": Decimal(0),
        "realized_pnl_week_usd": Decimal(0),
        "trades_this_week": 0,
        "consecutive_failures": 0,
        "undone_in_symbol": 0,
        "open_positions": (),
        "strategy": strategy(),
        "open_position_count": len(fields.get("open_positions", ())),
    }
    return Portfolio.model_validate(given | fields)


def position(**fields: Any) -> Position:
    """LONG 0.02 BTCUSDT from 25,000 (500 USD), of STRATEGY."""
    given = {
        "id": UUID("00000000-0000-4000-8000-000000000003"),
        "user_id": USER,
        "strategy_id": STRATEGY,
        "exchange": "aster",
        "symbol": "BTCUSDT",
        "side": Side.LONG,
        "quantity": Decimal("0.02"),
        "entry_price": Decimal(25_000),
        "entry_time": NOW,
        "position_size_usd": Decimal(500),
        "is_paper": True,
    }
    return Position.model_validate(given | fields)
