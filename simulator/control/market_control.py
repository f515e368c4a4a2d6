"""What a test or a person may do to the simulated market by hand, beside `simulator.faults`.

``POST /_control/market`` with a JSON object: ``{"symbol": "BTCUSDT", "jump_percent": -5}`` moves a price at once
(without a symbol: all), ``{"fill_delay_s": 3}`` lets market orders stay NEW for so long (market time) from now on, and
``{"weight_per_minute": 100}`` changes the limit (0: none). ``{"fill_percent": 40}`` fills so much of every market order
from now on, and the rest expires. ``{"refused_kinds": ["STOP_MARKET", "TAKE_PROFIT_MARKET"]}`` refuses every new order
of these kinds (``[]``: none). ``GET`` shows them. Only from the same host.
"""

import json
from decimal import Decimal
from typing import Any, Final

from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.platform.values import Frozen
from simulator.faults import LOOPBACK
from simulator.venue.trading_account import OrderKind
from simulator.venue.venue import SimulatedVenue

CONTROL: Final = "/_control/market"


class MarketChange(Frozen):
    """What shall change; None leaves it."""

    symbol: str | None = None
    jump_percent: float | None = Field(default=None, gt=-100, le=1_000)
    fill_delay_s: float | None = Field(default=None, ge=0, le=86_400)
    weight_per_minute: int | None = Field(default=None, ge=0)
    fill_percent: Decimal | None = Field(default=None, gt=0, le=100)
    refused_kinds: frozenset[OrderKind] | None = None


def with_market_control(app: ASGIApp, venue: SimulatedVenue) -> ASGIApp:
    """`app` with the control address in front."""

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == CONTROL:
            await (await _handle_control(Request(scope, receive), venue))(scope, receive, send)
        else:
            await app(scope, receive, send)

    return dispatch


async def _handle_control(request: Request, venue: SimulatedVenue) -> JSONResponse:
    if request.client is None or request.client.host not in LOOPBACK:
        return JSONResponse({"error": "only from the same host"}, 403)
    if request.method == "POST":
        try:
            change = MarketChange.model_validate_json(await request.body())
        except ValidationError as error:
            return JSONResponse({"error": json.loads(error.json(include_url=False))}, 400)
        if change.symbol is not None and change.symbol not in venue.markets:
            return JSONResponse({"error": f"no such symbol: {change.symbol}"}, 400)
        _apply_change(change, venue)
    return JSONResponse(_state(venue))


def _apply_change(change: MarketChange, venue: SimulatedVenue) -> None:
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


def _state(venue: SimulatedVenue) -> dict[str, Any]:
    return {
        "market_ms": venue.clock.now_ms(),
        "prices": {symbol: str(venue.price(symbol)) for symbol in venue.markets},
        "fill_delay_s": venue.fill_delay_ms / 1_000,
        "fill_percent": float(venue.fill_percent),
        "refused_kinds": sorted(venue.refused_kinds),
        "weight_per_minute": venue.meter.limit,
        "weight_used": venue.meter.used,
    }
