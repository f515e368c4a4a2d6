"""A local server that speaks the part of Aster's ``/fapi/v3`` that ccxt and we use, on the simulated market.

Simulated: `/fapi/v3/time` and every time in an answer are market time. Not simulated: nonces are compared with the real
clock, as the client's are real.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp

from simulator.aster.aster_auth import Doorkeeper
from simulator.aster.private_endpoints import PRIVATE
from simulator.aster.public_endpoints import PUBLIC
from simulator.aster.request_weights import with_weights
from simulator.control.controls import with_controls
from simulator.faults import Faults
from simulator.venue.api_error import AsterRefusal
from simulator.venue.venue import Exchange

PREFIX: Final = "/fapi/v3"
HEALTH: Final = f"{PREFIX}/exchangeInfo"
Endpoint = Callable[[Request], Awaitable[JSONResponse]]


def create_aster(exchange: Exchange, faults: Faults | None = None) -> ASGIApp:
    """The application; `exchange` is its whole state."""
    app = FastAPI(title="Sparky's stand-in for Aster", docs_url=None, redoc_url=None, openapi_url=None)
    doorkeeper = Doorkeeper()

    def open_to_all(answer: Callable[..., object]) -> Endpoint:
        async def endpoint(request: Request) -> JSONResponse:
            return JSONResponse(answer(exchange, dict(request.query_params)))

        return endpoint

    def signed(answer: Callable[..., object]) -> Endpoint:
        async def endpoint(request: Request) -> JSONResponse:
            # Aster takes the signed text as the query or as a form; ccxt sends a form for everything but GET.
            text = (await request.body()).decode("utf-8", "replace") or request.url.query
            exchange.settings.check_access()
            user, given = doorkeeper.admit(text, exchange.settings.venue_us(time.time_ns() // 1_000))
            try:
                return JSONResponse(answer(exchange, user, given))
            finally:
                exchange.keep(user, has_asked_only=request.method == "GET")

        return endpoint

    for path, public_answer in PUBLIC.items():
        app.add_route(PREFIX + path, open_to_all(public_answer), methods=["GET"])
    for (method, path), private_answer in PRIVATE.items():
        app.add_route(PREFIX + path, signed(private_answer), methods=[method])
    app.add_exception_handler(AsterRefusal, _refusal)
    return with_controls(with_weights(app, exchange.meter, PREFIX), exchange, faults)


async def _refusal(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, AsterRefusal):
        raise error
    return JSONResponse({"code": error.code, "msg": str(error)}, error.status)
