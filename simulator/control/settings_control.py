"""``/_control/settings``: settings of all accounts of a simulated venue.

``POST`` with a JSON object changes the fields it names; ``GET`` shows them. Only from the same host.

- ``{"hedge_mode": true}``: orders must name their side of a hedge, else -4061.
- ``{"multi_assets": true}``: no symbol can be set to isolated margin (-4168).
- ``{"can_trade": false}``: the account reports it, and takes reduce-only orders only (-4087).
- ``{"refused_ip": "203.0.113.7"}``: every signed request is refused with -2015, as from an address that the key
  does not allow (``null`` or ``""``: none is).
- ``{"clock_offset_s": 15}``: the venue's clock is so many seconds ahead of this host's (negative: behind). ``/time``
  shows it, and signed requests are compared with it (-1021).
- ``{"isolated": ["BTCUSDT"]}``: these symbols have isolated margin (``[]``: none).
- ``{"ids_stay_taken": true}``: a client order id is refused as taken also after its order has ended.
- ``{"liquidates": true}``: liquidates what is at its maintenance margin; see `simulator.control.margin_control`.
- ``{"balance": "0"}``: of every account, also of one that is opened later.
"""

from decimal import Decimal
from typing import Any, Final

from pydantic import Field
from starlette.types import ASGIApp

from engine.platform.values import Frozen
from simulator.control.refusals import check_symbol_listed
from simulator.control_address import with_control
from simulator.venue.account_settings import AccountSettings
from simulator.venue.venue import SimulatedVenue

CONTROL: Final = "/_control/settings"


class SettingsChange(Frozen):
    """The changes; fields that are not set are kept."""

    hedge_mode: bool = False
    multi_assets: bool = False
    can_trade: bool = True
    refused_ip: str | None = Field(default=None, max_length=45)
    clock_offset_s: float = Field(default=0.0, ge=-86_400, le=86_400)
    isolated: frozenset[str] = frozenset()
    ids_stay_taken: bool = False
    liquidates: bool = False
    balance: Decimal | None = Field(default=None, ge=0)


def with_settings_control(app: ASGIApp, venue: SimulatedVenue) -> ASGIApp:
    """`app` behind the control address."""
    return with_control(
        app,
        CONTROL,
        lambda: _describe_state(venue.settings),
        SettingsChange.model_validate_json,
        lambda change: _apply_change(change, venue),
    )


def _apply_change(change: SettingsChange, venue: SimulatedVenue) -> None:
    for symbol in sorted(change.isolated):
        check_symbol_listed(venue, symbol)
    named = change.model_fields_set
    for name in named:
        setattr(venue.settings, name, getattr(change, name))
    venue.settings.refused_ip = venue.settings.refused_ip or None
    for user in venue.list_users():
        account = venue.get_account(user)
        if "isolated" in named:
            venue.settings.set_margin_types(account, venue.markets)
        if "balance" in named:
            venue.settings.set_balance(account, venue.clock.now_ms())
        venue.save_account(user, is_read_only=False)


def _describe_state(settings: AccountSettings) -> dict[str, Any]:
    return {
        "hedge_mode": settings.hedge_mode,
        "multi_assets": settings.multi_assets,
        "can_trade": settings.can_trade,
        "refused_ip": settings.refused_ip,
        "clock_offset_s": settings.clock_offset_s,
        "ids_stay_taken": settings.ids_stay_taken,
        "liquidates": settings.liquidates,
    }
