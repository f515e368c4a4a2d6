"""How the accounts of a simulated venue are set up, and what the venue refuses because of that.

``POST /_control/settings`` with a JSON object changes what it names, for every account of the venue; ``GET`` shows it;
only from the same host:

- ``{"hedge_mode": true}``: orders must say which side of a hedge they are for, else -4061.
- ``{"multi_assets": true}``: no symbol can be set to isolated margin (-4168).
- ``{"can_trade": false}``: the account says so, and takes reduce-only orders alone (-4087).
- ``{"refused_ip": "203.0.113.7"}``: every signed request is refused with -2015, as from an address that the key
  does not allow (``null`` or ``""``: none is).
- ``{"clock_offset_s": 15}``: the venue's clock is so many seconds ahead of this host's (negative: behind). ``/time``
  tells it, and signed requests are compared with it (-1021).
- ``{"isolated": ["BTCUSDT"]}``: these symbols have isolated margin (``[]``: none).
- ``{"ids_stay_taken": true}``: a client order id is refused as taken also after its order has ended.
- ``{"liquidates": true}``: what has no more margin than it must keep is liquidated; see
`simulator.control.margin_control`.
- ``{"balance": "0"}``: what every account has, also one that is opened later.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.platform.values import Frozen
from simulator.faults import LOOPBACK
from simulator.venue.api_error import VenueApiError
from simulator.venue.trading_account import Account

if TYPE_CHECKING:
    from simulator.venue.venue import SimulatedVenue

CONTROL: Final = "/_control/settings"
HEDGED_SIDES: Final = ("LONG", "SHORT")


class SettingsChange(Frozen):
    """What shall change; what is not named stays."""

    hedge_mode: bool = False
    multi_assets: bool = False
    can_trade: bool = True
    refused_ip: str | None = Field(default=None, max_length=45)
    clock_offset_s: float = Field(default=0.0, ge=-86_400, le=86_400)
    isolated: frozenset[str] = frozenset()
    ids_stay_taken: bool = False
    liquidates: bool = False
    balance: Decimal | None = Field(default=None, ge=0)


@dataclass
class AccountSettings:
    """The settings of all accounts of one venue."""

    hedge_mode: bool = False
    multi_assets: bool = False
    can_trade: bool = True
    refused_ip: str | None = None
    clock_offset_s: float = 0.0
    ids_stay_taken: bool = False
    liquidates: bool = False
    isolated: frozenset[str] | None = None  # None, as for `balance`: accounts are left as they are
    balance: Decimal | None = None

    def set_margin_types(self, account: Account, symbols: Iterable[str]) -> None:
        for symbol in symbols if self.isolated is not None else ():
            account.holding(symbol).margin_type = "isolated" if symbol in (self.isolated or ()) else "cross"

    def set_balance(self, account: Account, at_ms: int) -> None:
        """Brings the account to the balance by a transfer, which its record shows."""
        if self.balance is not None and self.balance != account.balance:
            account.pay("TRANSFER", "", self.balance - account.balance, at_ms)

    def to_venue_us(self, host_us: int) -> int:
        """The venue's clock when this host's shows `host_us`, both in µs."""
        return host_us + round(self.clock_offset_s * 1_000_000)

    def check_access(self) -> None:
        """Before a signed request is answered. Raises AsterRefusal."""
        if self.refused_ip:
            words = f"Invalid API-key, IP, or permissions for action, request ip: {self.refused_ip}"
            raise VenueApiError(-2015, words, status=401)

    def check_order(self, params: Mapping[str, str]) -> None:
        """Before a new order, of any kind, is looked at any further. Raises AsterRefusal."""
        if (params.get("positionSide") in HEDGED_SIDES) is not self.hedge_mode:
            raise VenueApiError(-4061, "Order's position side does not match user's setting.")
        if not self.can_trade and params.get("reduceOnly", "").lower() != "true":
            raise VenueApiError(-4087, "User can only place reduce only order")

    def check_client_order_id(self, account: Account, client_order_id: str) -> None:
        """Before a new order is taken under that client order id. Raises AsterRefusal."""
        if self.ids_stay_taken and any(one.client_order_id == client_order_id for one in account.orders.values()):
            raise VenueApiError(-4115, "ClientOrderId is duplicated.")

    def check_margin_type(self, wanted: str) -> None:
        """Before a symbol's margin type is changed. Raises AsterRefusal."""
        if self.multi_assets and wanted == "isolated":
            raise VenueApiError(-4168, "Unable to adjust to isolated-margin mode under the Multi-Assets mode.")


def with_settings_control(app: ASGIApp, venue: "SimulatedVenue") -> ASGIApp:
    """`app` with the control address in front."""

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == CONTROL:
            await (await _handle_control(Request(scope, receive), venue))(scope, receive, send)
        else:
            await app(scope, receive, send)

    return dispatch


async def _handle_control(request: Request, venue: "SimulatedVenue") -> JSONResponse:
    if request.client is None or request.client.host not in LOOPBACK:
        return JSONResponse({"error": "only from the same host"}, 403)
    if request.method == "POST":
        try:
            change = SettingsChange.model_validate_json(await request.body())
        except ValidationError as error:
            return JSONResponse({"error": json.loads(error.json(include_url=False))}, 400)
        unknown = sorted(change.isolated - venue.markets.keys())
        if unknown:
            return JSONResponse({"error": f"no such symbol: {unknown[0]}"}, 400)
        _apply_change(change, venue)
    return JSONResponse(_state(venue.settings))


def _apply_change(change: SettingsChange, venue: "SimulatedVenue") -> None:
    named = change.model_fields_set
    for name in named:
        setattr(venue.settings, name, getattr(change, name))
    venue.settings.refused_ip = venue.settings.refused_ip or None
    for user in venue.users():
        account = venue.account(user)
        if "isolated" in named:
            venue.settings.set_margin_types(account, venue.markets)
        if "balance" in named:
            venue.settings.set_balance(account, venue.clock.now_ms())
        venue.save_account(user, is_read_only=False)


def _state(settings: AccountSettings) -> dict[str, Any]:
    return {
        "hedge_mode": settings.hedge_mode,
        "multi_assets": settings.multi_assets,
        "can_trade": settings.can_trade,
        "refused_ip": settings.refused_ip,
        "clock_offset_s": settings.clock_offset_s,
        "ids_stay_taken": settings.ids_stay_taken,
        "liquidates": settings.liquidates,
    }
