"""``/_control/market``: prices, fills of market orders and the request limit of a simulated venue.

``POST`` takes a JSON object; ``GET`` shows the present values. Only from the same host.

- ``{"symbol": "BTCUSDT", "jump_percent": -5}`` moves a price at once (without a symbol: all prices).
- ``{"fill_delay_s": 3}``: market orders stay NEW for so long (market time) from now on.
- ``{"fill_percent": 40}``: so much of every market order fills from now on, and the rest expires.
- ``{"refused_kinds": ["STOP_MARKET", "TAKE_PROFIT_MARKET"]}`` refuses new orders of these kinds (``[]``: none).
- ``{"weight_per_minute": 100}`` changes the request limit (0: none).
"""

from decimal import Decimal
from typing import Any, Final

from pydantic import Field
from starlette.types import ASGIApp

from engine.platform.values import Frozen
from simulator.control.refusals import check_symbol_listed
from simulator.control_address import with_control
from simulator.venue.trading_account import OrderKind
from simulator.venue.venue import SimulatedVenue

CONTROL: Final = "/_control/market"


class MarketChange(Frozen):
    """The changes; None keeps a value."""

    symbol: str | None = None
    jump_percent: float | None = Field(default=None, gt=-100, le=1_000)
    fill_delay_s: float | None = Field(default=None, ge=0, le=86_400)
    weight_per_minute: int | None = Field(default=None, ge=0)
    fill_percent: Decimal | None = Field(default=None, gt=0, le=100)
    refused_kinds: frozenset[OrderKind] | None = None


def with_market_control(app: ASGIApp, venue: SimulatedVenue) -> ASGIApp:
    """`app` behind the control address."""
    return with_control(
        app,
        CONTROL,
        lambda: _describe_state(venue),
        MarketChange.model_validate_json,
        lambda change: _apply_change(change, venue),
    )


def _apply_change(change: MarketChange, venue: SimulatedVenue) -> None:
    check_symbol_listed(venue, change.symbol)
    if change.jump_percent is not None:
        for symbol, market in venue.markets.items():
            if change.symbol in (None, symbol):
                market.jump(venue.clock.now_ms(), change.jump_percent)
    if change.fill_delay_s is not None:
        venue.fill_delay_ms = round(change.fill_delay_s * 1_000)
    if change.weight_per_minute is not None:
        venue.meter.limit = change.weight_per_minute
    if change.fill_percent is not None:
        venue.fill_percent = change.fill_percent
    if change.refused_kinds is not None:
        venue.refused_kinds = change.refused_kinds


def _describe_state(venue: SimulatedVenue) -> dict[str, Any]:
    return {
        "market_ms": venue.clock.now_ms(),
        "prices": {symbol: str(venue.get_price(symbol)) for symbol in venue.markets},
        "fill_delay_s": venue.fill_delay_ms / 1_000,
        "fill_percent": float(venue.fill_percent),
        "refused_kinds": sorted(venue.refused_kinds),
        "weight_per_minute": venue.meter.limit,
        "weight_used": venue.meter.used,
    }
