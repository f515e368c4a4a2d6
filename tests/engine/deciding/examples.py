"""Values that tests of deciding share: one strategy, its context and a snapshot of a seeded synthetic market."""

import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from engine.deciding.prompt import SymbolView
from engine.domain.market import Candle, Indicators, MarketSnapshot
from engine.domain.positions import Position, Side
from engine.domain.strategy import Strategy, StrategyContext

STRATEGY_ID = UUID("6f1c2a5e-0d1b-4a63-9f5e-3f1f6f0a7b21")
USER_ID = UUID("2b9dd6a4-8c0f-4b53-a5cb-0a1d8ce0f3d4")
START_MS = 1_700_000_040_000


def a_strategy(**changes: Any) -> Strategy:
    values: dict[str, Any] = {
        "id": STRATEGY_ID,
        "user_id": USER_ID,
        "name": "Example",
        "status": "running",
        "risk_profile": "balanced",
        "target_assets": ("BTCUSDT",),
        "exchange": "aster",
        "is_paper_trading": True,
        "cadence_seconds": 45,
        "min_confidence": 0.6,
        "max_drawdown_percent": 20,
        "leverage_max": 10,
        "max_position_usd": Decimal(1000),
        "capital_usd": Decimal(10_000),
        "updated_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return Strategy.model_validate({**values, **changes})


def a_position(**changes: Any) -> Position:
    values: dict[str, Any] = {
        "id": UUID(int=7),
        "user_id": USER_ID,
        "strategy_id": STRATEGY_ID,
        "exchange": "aster",
        "symbol": "BTCUSDT",
        "side": Side.LONG,
        "quantity": Decimal("0.01000000"),
        "entry_price": Decimal("23000.50000000"),
        "entry_time": datetime(2026, 1, 1, tzinfo=UTC),
        "position_size_usd": Decimal("230.00"),
        "unrealized_pnl_usd": Decimal("4.56789"),
        "is_paper": True,
    }
    return Position.model_validate({**values, **changes})


def a_context(strategy: Strategy | None = None, **changes: Any) -> StrategyContext:
    values: dict[str, Any] = {
        "strategy": strategy or a_strategy(),
        "positions": (),
        "equity_usd": Decimal("10004.57"),
        "peak_equity_usd": Decimal(10050),
        "drawdown_percent": 0.45,
        "llm_spent_today_usd": Decimal(0),
    }
    return StrategyContext.model_validate({**values, **changes})


def some_candles(count: int, seed: int = 1, price: float = 23_456.7) -> list[Candle]:
    dice = random.Random(seed)
    candles = []
    for index in range(count):
        close = round(price * (1 + dice.gauss(0, 0.001)), 1)
        high, low = max(price, close) + 5.0, min(price, close) - 5.0
        volume = round(dice.uniform(20, 300), 3)
        candles.append(Candle(START_MS + index * 60_000, price, round(high, 1), round(low, 1), close, volume))
        price = close
    return candles


def a_snapshot(symbol: str = "BTCUSDT", **changes: Any) -> MarketSnapshot:
    candles = some_candles(100)
    last = candles[-1].close
    names = Indicators.model_fields
    values: dict[str, Any] = {
        "venue": "aster",
        "symbol": symbol,
        "as_of_ms": candles[-1].open_time_ms + 60_500,
        "last_price": last,
        "change_24h_percent": -1.2345678,
        "candles": tuple(candles[-10:]),
        "indicators": Indicators(**{name: last / (index + 3) for index, name in enumerate(names)}),
    }
    return MarketSnapshot.model_validate({**values, **changes})


def a_view(symbol: str = "BTCUSDT", longer: tuple[str, ...] = (), **changes: Any) -> SymbolView:
    """The minute's snapshot, and those of `longer` intervals."""
    minute = a_snapshot(symbol, **changes)
    return SymbolView(minute, {interval: a_snapshot(symbol, interval=interval) for interval in longer})
