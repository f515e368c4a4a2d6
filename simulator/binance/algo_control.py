"""What a test or a person may ask the simulated algo service to do, beside `simulator.control.market_control`.

``POST /_control/algo`` with a JSON object: ``{"unseen_for": 2}`` hides algo orders placed from now on from two
questions, ``{"new_for": 2}`` lets orders cancelled from now on say NEW to two questions, ``{"triggering_for": 2}``
lets orders that have filled say TRIGGERING to two questions, ``{"triggered_end":
"REJECTED"}`` (or ``EXPIRED``, or ``FINISHED``: with a plain order that expired) ends orders without a fill when their
condition is met (``"FILLED"``: fills them again).
``GET`` shows them. Only from the same host.
"""

import json
from typing import Final, Literal

from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.platform.values import Frozen
from simulator.binance.algo_orders import AlgoOrders
from simulator.faults import LOOPBACK

CONTROL: Final = "/_control/algo"


class AlgoChange(Frozen):
    """What shall change; None leaves it."""

    unseen_for: int | None = Field(default=None, ge=0)
    triggering_for: int | None = Field(default=None, ge=0)
    new_for: int | None = Field(default=None, ge=0)
    triggered_end: Literal["FILLED", "REJECTED", "EXPIRED", "FINISHED"] | None = None


def with_algo_control(app: ASGIApp, algo: AlgoOrders) -> ASGIApp:
    """`app` with the control address in front."""

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == CONTROL:
            await (await _handle_control(Request(scope, receive), algo))(scope, receive, send)
        else:
            await app(scope, receive, send)

    return dispatch


async def _handle_control(request: Request, algo: AlgoOrders) -> JSONResponse:
    if request.client is None or request.client.host not in LOOPBACK:
        return JSONResponse({"error": "only from the same host"}, 403)
    if request.method == "POST":
        try:
            change = AlgoChange.model_validate_json(await request.body())
        except ValidationError as error:
            return JSONResponse({"error": json.loads(error.json(include_url=False))}, 400)
        if change.unseen_for is not None:
            algo.unseen_for = change.unseen_for
        if change.triggering_for is not None:
            algo.triggering_for = change.triggering_for
        if change.new_for is not None:
            algo.new_for = change.new_for
        if change.triggered_end is not None:
            algo.venue.triggered_end = change.triggered_end
    shown = (algo.unseen_for, algo.triggering_for, algo.new_for, algo.venue.triggered_end)
    return JSONResponse(dict(zip(("unseen_for", "triggering_for", "new_for", "triggered_end"), shown, strict=True)))
