"""A local server that speaks the part of Aster's ``/fapi/v3`` that ccxt and we use, on the simulated market.

`/fapi/v3/time` and every time in an answer are market time. Nonces are compared with the real clock, because clients
make them from theirs.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp

from simulator.aster.aster_auth import SignatureVerifier
from simulator.control.controls import with_controls
from simulator.faults import Faults
from simulator.futures_api.private_endpoints import PRIVATE
from simulator.futures_api.public_endpoints import PUBLIC
from simulator.futures_api.request_weights import with_weight_limit
from simulator.venue.api_error import VenueApiError
from simulator.venue.venue import SimulatedVenue

PREFIX: Final = "/fapi/v3"
HEALTH: Final = f"{PREFIX}/exchangeInfo"
Endpoint = Callable[[Request], Awaitable[JSONResponse]]


def create_aster(venue: SimulatedVenue, faults: Faults | None = None) -> ASGIApp:
    """The application; `venue` is its whole state."""
    app = FastAPI(title="Sparky's stand-in for Aster", docs_url=None, redoc_url=None, openapi_url=None)
    verifier = SignatureVerifier()

    def public_endpoint(answer: Callable[..., object]) -> Endpoint:
        async def endpoint(request: Request) -> JSONResponse:
            return JSONResponse(answer(venue, dict(request.query_params)))

        return endpoint

    def signed_endpoint(answer: Callable[..., object]) -> Endpoint:
        async def endpoint(request: Request) -> JSONResponse:
            # Aster takes the signed text as the query or as a form; ccxt sends a form for everything but GET.
            text = (await request.body()).decode("utf-8", "replace") or request.url.query
            venue.settings.check_access()
            user, given = verifier.verify(text, venue.settings.to_venue_us(time.time_ns() // 1_000))
            try:
                return JSONResponse(answer(venue, user, given))
            finally:
                venue.save_account(user, is_read_only=request.method == "GET")

        return endpoint

    for path, public_answer in PUBLIC.items():
        app.add_route(PREFIX + path, public_endpoint(public_answer), methods=["GET"])
    for (method, path), private_answer in PRIVATE.items():
        app.add_route(PREFIX + path, signed_endpoint(private_answer), methods=[method])
    app.add_exception_handler(VenueApiError, _handle_api_error)
    return with_controls(with_weight_limit(app, venue.meter, PREFIX), venue, faults)


async def _handle_api_error(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, VenueApiError):
        raise error
    return JSONResponse({"code": error.code, "msg": str(error)}, error.status)
