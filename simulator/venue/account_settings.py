"""Settings of all accounts of a simulated venue, and the refusals that follow from them.

`simulator.control.settings_control` describes and changes them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from simulator.venue.api_error import VenueApiError
from simulator.venue.trading_account import Account

HEDGED_SIDES: Final = ("LONG", "SHORT")


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
    isolated: frozenset[str] | None = None  # None: margin types are not changed
    balance: Decimal | None = None  # None: balances are not changed

    def set_margin_types(self, account: Account, symbols: Iterable[str]) -> None:
        for symbol in symbols if self.isolated is not None else ():
            account.get_holding(symbol).margin_type = "isolated" if symbol in (self.isolated or ()) else "cross"

    def set_balance(self, account: Account, at_ms: int) -> None:
        """Brings the account to `balance` by a transfer, which appears in its income."""
        if self.balance is not None and self.balance != account.balance:
            account.pay("TRANSFER", "", self.balance - account.balance, at_ms)

    def to_venue_us(self, host_us: int) -> int:
        """The venue's clock when this host's shows `host_us`, both in µs."""
        return host_us + round(self.clock_offset_s * 1_000_000)

    def check_access(self) -> None:
        """For every signed request. Raises VenueApiError if its address is refused."""
        if self.refused_ip:
            message = f"Invalid API-key, IP, or permissions for action, request ip: {self.refused_ip}"
            raise VenueApiError(-2015, message, status=401)

    def check_order(self, params: Mapping[str, str]) -> None:
        """For every new order. Raises VenueApiError for a wrong side of a hedge, or if the account may not trade."""
        if (params.get("positionSide") in HEDGED_SIDES) is not self.hedge_mode:
            raise VenueApiError(-4061, "Order's position side does not match user's setting.")
        if not self.can_trade and params.get("reduceOnly", "").lower() != "true":
            raise VenueApiError(-4087, "User can only place reduce only order")

    def check_client_order_id(self, account: Account, client_order_id: str) -> None:
        """For every new order. Raises VenueApiError if the client order id is taken."""
        if self.ids_stay_taken and any(one.client_order_id == client_order_id for one in account.orders.values()):
            raise VenueApiError(-4115, "ClientOrderId is duplicated.")

    def check_margin_type(self, wanted: str) -> None:
        """For every change of a symbol's margin type. Raises VenueApiError if multi-assets mode forbids it."""
        if self.multi_assets and wanted == "isolated":
            raise VenueApiError(-4168, "Unable to adjust to isolated-margin mode under the Multi-Assets mode.")
