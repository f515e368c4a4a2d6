"""``/_control/instruments``: which instruments a simulated venue lists, and their filters.

``POST`` takes a JSON object; ``GET`` shows what is listed. Only from the same host. With a ``"symbol"``:

- ``{"tick": "0.5"}``, ``{"min_notional": "100"}``, ``{"multiplier_up": "1.05", "multiplier_down": "0.95"}``,
  ``{"max_stops": 1}``, ``{"contract_type": ""}``, ``{"maintenance_percent": "5"}``.
- ``{"step": "0.01"}``: of LOT_SIZE and MARKET_LOT_SIZE, and their minimum where it was the step.
- ``{"market_lot": {"step": "0", "min_quantity": "0.002", "max_quantity": "5"}}`` and ``{"lot": {...}}``: one filter;
  fields that are left out stay.
- ``{"status": "SETTLING"}``, with ``"reductions_refused": true`` where exits are refused too.
- ``{"refused_with": -1013}``: this code in place of the filter's own (0: the filter's own again).
- ``{"remove": "trades"}``: settles the symbol, at ``"price"`` if given, and lists it no more. The account's record
  shows the settlement as ``trades``, ``REALIZED_PNL`` or ``DELIVERED_SETTELMENT`` (one row of income), or
  ``nothing``.

``{"list": {"symbol": "BTCUSDT_261225", "like": "BTCUSDT", "jump_percent": 5, "contract_type": "CURRENT_QUARTER",
"first": true}}`` lists a new symbol that trades as another one does; ``"contract_type": null`` leaves the field out.
"""

from decimal import Decimal
from typing import Final

from pydantic import Field
from starlette.types import ASGIApp

from engine.platform.values import Frozen
from simulator.control.refusals import translate_refusals
from simulator.control_address import with_control
from simulator.futures_api import shapes
from simulator.venue.instrument_changes import SettlementRecord, add_symbol, remove_symbol
from simulator.venue.instrument_rules import InstrumentRules, LotRule
from simulator.venue.venue import SimulatedVenue

CONTROL: Final = "/_control/instruments"
PLAIN_FIELDS: Final = (
    "tick",
    "min_notional",
    "multiplier_up",
    "multiplier_down",
    "max_stops",
    "status",
    "maintenance_percent",
    "reductions_refused",
)


class LotChange(Frozen):
    """Changes of one quantity filter; None keeps a value."""

    step: Decimal | None = Field(default=None, ge=0)
    min_quantity: Decimal | None = Field(default=None, ge=0)
    max_quantity: Decimal | None = Field(default=None, ge=0)


class NewSymbol(Frozen):
    symbol: str
    like: str
    jump_percent: float = Field(default=0, gt=-100, le=1_000)
    contract_type: str | None = "PERPETUAL"
    first: bool = False


class InstrumentChange(Frozen):
    """The changes; None keeps a value."""

    symbol: str | None = None
    tick: Decimal | None = Field(default=None, gt=0)
    step: Decimal | None = Field(default=None, gt=0)
    lot: LotChange | None = None
    market_lot: LotChange | None = None
    min_notional: Decimal | None = Field(default=None, ge=0)
    multiplier_up: Decimal | None = Field(default=None, gt=0)
    multiplier_down: Decimal | None = Field(default=None, gt=0)
    max_stops: int | None = Field(default=None, ge=0)
    status: str | None = Field(default=None, pattern=r"^[A-Z_]+$")
    contract_type: str | None = None
    maintenance_percent: Decimal | None = Field(default=None, ge=0, lt=100)
    reductions_refused: bool | None = None
    refused_with: int | None = Field(default=None, le=0)
    remove: SettlementRecord | None = None
    price: Decimal | None = Field(default=None, gt=0)
    list: NewSymbol | None = None


def with_instrument_control(app: ASGIApp, venue: SimulatedVenue) -> ASGIApp:
    """`app` behind the control address."""

    def apply(change: InstrumentChange) -> None:
        with translate_refusals():
            apply_change(venue, change)

    def show() -> object:
        return [shapes.build_symbol_info(symbol, venue.get_rules(symbol)) for symbol in venue.markets]

    return with_control(app, CONTROL, show, InstrumentChange.model_validate_json, apply)


def apply_change(venue: SimulatedVenue, change: InstrumentChange) -> None:
    """Raises VenueApiError for a symbol that is not listed, or is to be listed twice."""
    if change.list is not None:
        new = change.list
        kind, first = new.contract_type, new.first
        add_symbol(venue, new.symbol, new.like, new.jump_percent, contract_type=kind, first=first)
    if change.symbol is None:
        return
    venue.get_market(change.symbol)
    _change_rules(venue.get_rules(change.symbol), change)
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
    rule.min_quantity = rule.min_quantity if change.min_quantity is None else change.min_quantity
    rule.max_quantity = rule.max_quantity if change.max_quantity is None else change.max_quantity
