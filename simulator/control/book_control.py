"""What a test or a person may do to the order books of a simulated venue, beside `simulator.control.market_control`.

``POST /_control/book`` with a JSON object, for one ``"symbol"`` or all: ``{"spread_percent": 8}`` puts the ask 8 %
above the bid (below 0: a crossed book), ``{"level_quantity": "0.01", "level_step_percent": 0.5, "most_levels": 10}``
makes a thin one, ``{"empty_side": "asks"}`` (or "bids", "both") an empty one. ``{"book_age_s": 60, "mark_age_s": 60}``
tells older times of book and mark price (below 0: later ones), ``{"times_hidden": true}`` none of the book,
``{"mark_percent": 5}`` moves the mark price away from the market, ``{"mark_hidden": true}`` tells none, and
``{"ticker_percent": -5}`` lets the tickers disagree with the book. ``{"fills_through": true}`` fills market orders
through the levels. ``{"reset": true}`` forgets all that first. ``GET`` shows it. Only from the same host.
"""

import json
from dataclasses import asdict, replace
from decimal import Decimal
from typing import Any, Final

from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.platform.values import Frozen
from simulator.faults import LOOPBACK
from simulator.venue.book_config import BookConfig, EmptySide
from simulator.venue.venue import SimulatedVenue

CONTROL: Final = "/_control/book"


class BookChange(Frozen):
    """What shall change; None leaves it."""

    symbol: str | None = None
    reset: bool = False
    spread_percent: float | None = Field(default=None, gt=-50, le=1_000)
    level_quantity: Decimal | None = Field(default=None, gt=0)
    level_step_percent: float | None = Field(default=None, ge=0, le=50)
    most_levels: int | None = Field(default=None, ge=1, le=1_000)
    empty_side: EmptySide | None = None
    book_age_s: float | None = None
    times_hidden: bool | None = None
    mark_percent: float | None = Field(default=None, gt=-100, le=1_000)
    mark_age_s: float | None = None
    mark_hidden: bool | None = None
    ticker_percent: float | None = Field(default=None, gt=-100, le=1_000)
    fills_through: bool | None = None

    def apply_to(self, config: BookConfig) -> BookConfig:
        given = self.model_dump(exclude={"symbol", "reset", "book_age_s", "mark_age_s"}, exclude_none=True)
        if self.book_age_s is not None:
            given["book_age_ms"] = round(self.book_age_s * 1_000)
        if self.mark_age_s is not None:
            given["mark_age_ms"] = round(self.mark_age_s * 1_000)
        return replace(BookConfig() if self.reset else config, **given)


def with_book_control(app: ASGIApp, venue: SimulatedVenue) -> ASGIApp:
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
            change = BookChange.model_validate_json(await request.body())
        except ValidationError as error:
            return JSONResponse({"error": json.loads(error.json(include_url=False))}, 400)
        if change.symbol is not None and change.symbol not in venue.markets:
            return JSONResponse({"error": f"no such symbol: {change.symbol}"}, 400)
        for symbol in venue.markets if change.symbol is None else (change.symbol,):
            venue.book_configs[symbol] = change.apply_to(venue.book_config(symbol))
    return JSONResponse({symbol: _state(venue.book_config(symbol)) for symbol in venue.markets})


def _state(config: BookConfig) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Decimal) else value for name, value in asdict(config).items()}
