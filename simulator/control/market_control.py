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
from simulator.venue.trading_account import Kind
from simulator.venue.venue import Exchange

CONTROL: Final = "/_control/market"


class Wish(Frozen):
    """What shall change; None leaves it."""

    symbol: str | None = None
    jump_percent: float | None = Field(default=None, gt=-100, le=1_000)
    fill_delay_s: float | None = Field(default=None, ge=0, le=86_400)
    weight_per_minute: int | None = Field(default=None, ge=0)
    fill_percent: Decimal | None = Field(default=None, gt=0, le=100)
    refused_kinds: frozenset[Kind] | None = None


def with_control(app: ASGIApp, exchange: Exchange) -> ASGIApp:
    """`app` with the control address in front."""

    async def controlled(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == CONTROL:
            await (await _controlled(Request(scope, receive), exchange))(scope, receive, send)
        else:
            await app(scope, receive, send)

    return controlled


async def _controlled(request: Request, exchange: Exchange) -> JSONResponse:
    if request.client is None or request.client.host not in LOOPBACK:
        return JSONResponse({"error": "only from the same host"}, 403)
    if request.method == "POST":
        try:
            wish = Wish.model_validate_json(await request.body())
        except ValidationError as error:
            return JSONResponse({"error": json.loads(error.json(include_url=False))}, 400)
        if wish.symbol is not None and wish.symbol not in exchange.markets:
            return JSONResponse({"error": f"no such symbol: {wish.symbol}"}, 400)
        _fulfil(wish, exchange)
    return JSONResponse(_state(exchange))


def _fulfil(wish: Wish, exchange: Exchange) -> None:
    if wish.jump_percent is not None:
        for symbol, market in exchange.markets.items():
            if wish.symbol in (None, symbol):
                market.jump(exchange.clock.now_ms(), wish.jump_percent)
    if wish.fill_delay_s is not None:
        exchange.fill_delay_ms = round(wish.fill_delay_s * 1_000)
    if wish.weight_per_minute is not None:
        exchange.meter.limit = wish.weight_per_minute
    if wish.fill_percent is not None:
        exchange.fill_percent = wish.fill_percent
    if wish.refused_kinds is not None:
        exchange.refused_kinds = wish.refused_kinds


def _state(exchange: Exchange) -> dict[str, Any]:
    return {
        "market_ms": exchange.clock.now_ms(),
        "prices": {symbol: str(exchange.price(symbol)) for symbol in exchange.markets},
        "fill_delay_s": exchange.fill_delay_ms / 1_000,
        "fill_percent": float(exchange.fill_percent),
        "refused_kinds": sorted(exchange.refused_kinds),
        "weight_per_minute": exchange.meter.limit,
        "weight_used": exchange.meter.used,
    }
