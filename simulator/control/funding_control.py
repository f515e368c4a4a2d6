"""What a test or a person may have the simulated venue do about funding.

``POST /_control/funding`` with a JSON object; ``GET`` shows the schedule. Only from the same host. ``{"symbol":
"BTCUSDT", "rate": "0.0001", "interval_h": 8}`` has funding paid from now on at every full multiple of the interval (of
market time); ``"rates": ["0.0001", "-0.0002"]`` takes turns, and ``"interval_h": 0`` ends it. An interval may be
changed at any time. Switches are those of `simulator.venue.funding.FundingManners`, ``{"late_s": 5}``, say.
"""

import json
from decimal import Decimal
from typing import Final, Self

from pydantic import Field, ValidationError, model_validator
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.platform.values import Frozen
from simulator.faults import LOOPBACK
from simulator.venue.venue import SimulatedVenue

CONTROL: Final = "/_control/funding"
MAX_INTERVAL_H: Final = 8


class FundingChange(Frozen):
    """What shall change; None leaves it."""

    symbol: str | None = None
    rate: Decimal | None = None
    rates: tuple[Decimal, ...] = ()
    interval_h: int = Field(default=MAX_INTERVAL_H, ge=0, le=MAX_INTERVAL_H)
    late_s: int | None = Field(default=None, ge=0, le=3_600)
    rows_twice: bool | None = None
    small_letters: bool | None = None
    asset: str | None = Field(default=None, pattern=r"^[A-Z0-9]+$")
    rate_hidden: bool | None = None
    next_hidden: bool | None = None
    mark_hidden: bool | None = None

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        is_plan = self.rate is not None or bool(self.rates) or "interval_h" in self.model_fields_set
        if is_plan != (self.symbol is not None):
            raise ValueError("a schedule needs a symbol, and a symbol a schedule")
        if self.rate is not None and self.rates:
            raise ValueError("either a rate or rates")
        return self

    @property
    def new_rates(self) -> tuple[Decimal, ...]:
        """The rates from now on; none ends it."""
        if self.interval_h == 0:
            return ()
        return self.rates or (() if self.rate is None else (self.rate,))


def with_funding_control(app: ASGIApp, venue: SimulatedVenue) -> ASGIApp:
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
            change = FundingChange.model_validate_json(await request.body())
        except ValidationError as error:
            errors = json.loads(error.json(include_url=False, include_context=False))
            return JSONResponse({"error": errors}, 400)
        if change.symbol is not None and change.symbol not in venue.markets:
            return JSONResponse({"error": f"no such symbol: {change.symbol}"}, 400)
        _apply_change(change, venue)
    return JSONResponse(venue.funding.state() | {"market_ms": venue.clock.now_ms()})


def _apply_change(change: FundingChange, venue: SimulatedVenue) -> None:
    schedule = venue.funding
    if change.symbol is not None:
        for user in venue.users():
            venue.account(user)  # what was due until now is paid by the old schedule
            venue.save_account(user, is_read_only=True)
        schedule.set_rates(change.symbol, venue.clock.now_ms(), change.new_rates, change.interval_h or MAX_INTERVAL_H)
    for name in vars(schedule.config):
        if getattr(change, name) is not None:
            setattr(schedule.config, name, getattr(change, name))
