"""A local server that speaks the part of Binance's USDⓈ-M futures API that ccxt and we use, on the simulated market.

Venue, markets, accounts and control addresses are those of the simulated Aster. What differs: requests are signed with
HMAC, each path has its own version, and conditional orders are algo orders (`simulator.binance.algo_orders`). Every
time in an answer is market time; a request's `timestamp` is compared with the real clock, because clients take it from
theirs.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp

from simulator.binance.algo_control import with_algo_control
from simulator.binance.algo_orders import AlgoOrders
from simulator.binance.binance_auth import KEYS, ApiKey, authenticate
from simulator.binance.binance_private import ALGO, PRIVATE
from simulator.binance.binance_weights import get_request_weight
from simulator.control.controls import with_controls
from simulator.faults import Faults
from simulator.futures_api.public_endpoints import PUBLIC
from simulator.futures_api.request_weights import with_weight_limit
from simulator.venue.api_error import VenueApiError
from simulator.venue.venue import SimulatedVenue

PREFIX: Final = "/fapi"
HEALTH: Final = f"{PREFIX}/v1/exchangeInfo"
Endpoint = Callable[[Request], Awaitable[JSONResponse]]


def create_binance(
    venue: SimulatedVenue, faults: Faults | None = None, keys: Mapping[str, ApiKey] | None = None
) -> ASGIApp:
    """The application; its state is `venue` and the faults of the algo service. `keys` maps API keys to accounts."""
    app = FastAPI(title="Sparky's stand-in for Binance", docs_url=None, redoc_url=None, openapi_url=None)
    algo = AlgoOrders(venue)
    accepted_keys = KEYS if keys is None else keys

    def public_endpoint(answer: Callable[..., object]) -> Endpoint:
        async def endpoint(request: Request) -> JSONResponse:
            return JSONResponse(answer(venue, dict(request.query_params)))

        return endpoint

    def signed_endpoint(answer: Callable[..., object], subject: object) -> Endpoint:
        async def endpoint(request: Request) -> JSONResponse:
            text = request.url.query + (await request.body()).decode("utf-8", "replace")
            venue.settings.check_access()
            now_ms = venue.settings.to_venue_us(time.time_ns() // 1_000) // 1_000
            user, given = authenticate(text, request.headers.get("X-MBX-APIKEY", ""), accepted_keys, now_ms)
            try:
                return JSONResponse(answer(subject, user, given))
            finally:
                venue.save_account(user, is_read_only=request.method == "GET")

        return endpoint

    for path, public_answer in PUBLIC.items():
        app.add_route(f"{PREFIX}/v1{path}", public_endpoint(public_answer), methods=["GET"])
    for (method, path), answer in PRIVATE.items():
        app.add_route(PREFIX + path, signed_endpoint(answer, venue), methods=[method])
    for (method, path), algo_answer in ALGO.items():
        app.add_route(PREFIX + path, signed_endpoint(algo_answer, algo), methods=[method])
    app.add_exception_handler(VenueApiError, _handle_api_error)
    weighed = with_weight_limit(app, venue.meter, PREFIX, get_request_weight)
    return with_controls(with_algo_control(weighed, algo), venue, faults)


async def _handle_api_error(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, VenueApiError):
        raise error
    return JSONResponse({"code": error.code, "msg": str(error)}, error.status)
