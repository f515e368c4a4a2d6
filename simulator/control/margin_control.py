"""How rude a simulated venue is about margin, and its automatic liquidation of accounts.

``POST /_control/margin`` with a JSON object changes what it names; ``GET`` shows it; only from the same host:

- ``{"ignored": true}``: a change of the margin type is answered with 200 and not made.
- ``{"sets_leverage": 20}``: a change of the margin type sets that leverage as well (``null``: it does not).
- ``{"shown_only_held": true}``: symbols without a position are left out where margin type and leverage are told.

With ``{"liquidates": true}`` in ``/_control/settings`` every request, a look at a control address too, first lets the
venue close what has no more margin than it must keep: an isolated position also when the price has recovered since the
last request, cross ones by the prices of now.
"""

import json
from dataclasses import asdict
from typing import Final

from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.platform.values import Frozen
from simulator.faults import LOOPBACK
from simulator.venue import account_events, margin
from simulator.venue.trading_account import Account, Holding
from simulator.venue.venue import SimulatedVenue, to_decimal

CONTROL: Final = "/_control/margin"


class MarginChange(Frozen):
    """What shall change; what is not named stays."""

    ignored: bool = False
    sets_leverage: int | None = Field(default=None, ge=1, le=125)
    shown_only_held: bool = False


def with_margin_control(app: ASGIApp, venue: SimulatedVenue) -> ASGIApp:
    """`app` with the control address in front, and liquidations before every request."""
    liquidator = Liquidator(venue)

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            liquidator.liquidate_due()
        if scope["type"] == "http" and scope["path"] == CONTROL:
            await (await _handle_control(Request(scope, receive), venue))(scope, receive, send)
        else:
            await app(scope, receive, send)

    return dispatch


class Liquidator:
    """Liquidates what is due, when that is switched on."""

    def __init__(self, venue: SimulatedVenue) -> None:
        self._venue = venue
        self._last_check_ms = venue.clock.now_ms()

    def liquidate_due(self) -> None:
        """Looks at the prices since the last look."""
        since_ms, self._last_check_ms = self._last_check_ms, self._venue.clock.now_ms()
        for user in self._venue.users() if self._venue.settings.liquidates else ():
            account = self._venue.account(user)
            for symbol in [name for name, held in account.holdings.items() if held.amount]:
                if self._is_due(account, symbol, account.holding(symbol), min(since_ms, self._last_check_ms)):
                    account_events.liquidate(self._venue, user, symbol)
            self._venue.save_account(user, is_read_only=False)

    def _is_due(self, account: Account, symbol: str, holding: Holding, since_ms: int) -> bool:
        if holding.margin_type != margin.ISOLATED:
            return margin.is_cross_exhausted(account, self._venue.price)
        at, market = margin.liquidation_price(account, symbol, self._venue.price), self._venue.market(symbol)
        since_ms = max(since_ms, min(holding.changed_ms, self._last_check_ms))  # it was not held before
        path = market.segments(since_ms, self._last_check_ms)
        prices = [to_decimal(price, market.decimals) for each in path for price in (each.first, each.last)]
        return bool(at) and (min(prices) <= at if holding.amount > 0 else max(prices) >= at)


async def _handle_control(request: Request, venue: SimulatedVenue) -> JSONResponse:
    if request.client is None or request.client.host not in LOOPBACK:
        return JSONResponse({"error": "only from the same host"}, 403)
    if request.method == "POST":
        try:
            change = MarginChange.model_validate_json(await request.body())
        except ValidationError as error:
            return JSONResponse({"error": json.loads(error.json(include_url=False))}, 400)
        for name in change.model_fields_set:
            setattr(venue.margin_config, name, getattr(change, name))
    return JSONResponse(asdict(venue.margin_config))
