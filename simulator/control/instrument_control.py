"""What a test or a person may change of the instruments that a simulated venue lists.

``POST /_control/instruments`` with a JSON object; ``GET`` shows what is listed. Only from the same host. With a
``"symbol"``: ``{"tick": "0.5"}``, ``{"step": "0.01"}`` (of LOT_SIZE and MARKET_LOT_SIZE, and their minimum where it
was the step), ``{"market_lot": {"step": "0", "least": "0.002", "most": "5"}}`` and ``{"lot": {...}}`` (one filter; what
is left out stays), ``{"min_notional": "100"}``, ``{"multiplier_up": "1.05", "multiplier_down": "0.95"}``,
``{"most_stops": 1}``, ``{"status": "SETTLING"}`` with ``"reductions_refused": true`` where exits are refused too,
``{"contract_type": ""}``, ``{"maintenance_percent": "5"}``, ``{"refused_with": -1013}`` (0: the filter's own code), and
``{"remove": "trades"}``: the symbol is settled, at ``"price"`` where one is told, and gone. What of the settlement the
account's record shows is ``trades``, ``REALIZED_PNL`` or ``DELIVERED_SETTELMENT`` (a row of income alone), or
``nothing``. A status or a filter applies from the next request on.

``{"list": {"symbol": "BTCUSDT_261225", "like": "BTCUSDT", "jump_percent": 5, "contract_type": "CURRENT_QUARTER",
"first": true}}`` lists a new symbol that trades as another one does; ``"contract_type": null`` leaves the field out.
"""

import json
from decimal import Decimal
from typing import Final

from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.platform.values import Frozen
from simulator.aster import shapes
from simulator.faults import LOOPBACK
from simulator.venue.api_error import VenueApiError
from simulator.venue.instrument_changes import SettlementRecord, add_symbol, remove_symbol
from simulator.venue.instrument_rules import InstrumentRules, LotRule
from simulator.venue.venue import SimulatedVenue

CONTROL: Final = "/_control/instruments"
PLAIN_FIELDS: Final = (
    "tick",
    "min_notional",
    "multiplier_up",
    "multiplier_down",
    "most_stops",
    "status",
    "maintenance_percent",
    "reductions_refused",
)


class LotChange(Frozen):
    """What shall change of one filter of quantities; None leaves it."""

    step: Decimal | None = Field(default=None, ge=0)
    least: Decimal | None = Field(default=None, ge=0)
    most: Decimal | None = Field(default=None, ge=0)


class NewSymbol(Frozen):
    symbol: str
    like: str
    jump_percent: float = Field(default=0, gt=-100, le=1_000)
    contract_type: str | None = "PERPETUAL"
    first: bool = False


class InstrumentChange(Frozen):
    """What shall change; None leaves it."""

    symbol: str | None = None
    tick: Decimal | None = Field(default=None, gt=0)
    step: Decimal | None = Field(default=None, gt=0)
    lot: LotChange | None = None
    market_lot: LotChange | None = None
    min_notional: Decimal | None = Field(default=None, ge=0)
    multiplier_up: Decimal | None = Field(default=None, gt=0)
    multiplier_down: Decimal | None = Field(default=None, gt=0)
    most_stops: int | None = Field(default=None, ge=0)
    status: str | None = Field(default=None, pattern=r"^[A-Z_]+$")
    contract_type: str | None = None
    maintenance_percent: Decimal | None = Field(default=None, ge=0, lt=100)
    reductions_refused: bool | None = None
    refused_with: int | None = Field(default=None, le=0)
    remove: SettlementRecord | None = None
    price: Decimal | None = Field(default=None, gt=0)
    list: NewSymbol | None = None


def with_instrument_control(app: ASGIApp, venue: SimulatedVenue) -> ASGIApp:
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
            apply_change(venue, InstrumentChange.model_validate_json(await request.body()))
        except ValidationError as error:
            return JSONResponse({"error": json.loads(error.json(include_url=False))}, 400)
        except VenueApiError as refusal:
            return JSONResponse({"error": str(refusal), "code": refusal.code}, 400)
    return JSONResponse([shapes.symbol_info(symbol, venue.rules(symbol)) for symbol in venue.markets])


def apply_change(venue: SimulatedVenue, change: InstrumentChange) -> None:
    """Raises AsterRefusal for a symbol that is not listed, or is to be listed twice."""
    if change.list is not None:
        new = change.list
        kind, first = new.contract_type, new.first
        add_symbol(venue, new.symbol, new.like, new.jump_percent, contract_type=kind, first=first)
    if change.symbol is None:
        return
    venue.market(change.symbol)
    _change_rules(venue.rules(change.symbol), change)
    if change.remove is not None:
        remove_symbol(venue, change.symbol, change.remove, change.price)


def _change_rules(rules: InstrumentRules, change: InstrumentChange) -> None:
    for name in PLAIN_FIELDS:
        if getattr(change, name) is not None:
            setattr(rules, name, getattr(change, name))
    if change.refused_with is not None:
        rules.refused_with = change.refused_with or None
    if "contract_type" in change.model_fields_set:
        rules.contract_type = change.contract_type
    for rule, lot in ((rules.lot, change.lot), (rules.market_lot, change.market_lot)):
        if change.step is not None:
            _change_step(rule, change.step)
        if lot is not None:
            _change_lot(rule, lot)


def _change_step(rule: LotRule, step: Decimal) -> None:
    rule.min_quantity = step if rule.min_quantity == rule.step else max(rule.min_quantity, step)
    rule.step = step


def _change_lot(rule: LotRule, change: LotChange) -> None:
    rule.step = rule.step if change.step is None else change.step
    rule.min_quantity = rule.min_quantity if change.least is None else change.least
    rule.max_quantity = rule.max_quantity if change.most is None else change.most
