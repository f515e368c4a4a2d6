"""``/_control/account``: what happens to accounts of a simulated venue outside their API, and faults of their record.

``POST`` takes a JSON object; ``GET`` shows the switches and the users. Only from the same host. ``"user"`` names one
account (at Aster the address in lower case), else all are meant.

At most one event:

- ``{"trade": {"symbol": "BTCUSDT", "side": "SELL", "quantity": "0.01"}}``, ``{"close": "BTCUSDT"}``,
  ``{"cancel_all": "BTCUSDT"}``: what a person does on the venue's page.
- ``{"self_trade": {"symbol": "BTCUSDT", "quantity": "0.001"}}``: the account trades with itself, one trade id on both
  sides.
- ``{"liquidate": "BTCUSDT"}`` and ``{"adl": "BTCUSDT"}``: the venue's own orders, for a part of the position with
  ``"quantity"`` or ``"percent"``, in several trades with ``"pieces"``; a liquidation also takes ``"fee_percent"`` and
  ``"keeps_orders"``. These two and ``close`` are answered with 400 where no account holds the symbol.
- ``{"funding": {"symbol": "BTCUSDT", "rate": "0.0001"}}``: pays funding once.
- ``{"fee_coin": "BNB"}``: commissions are paid in that coin, at a discount and at the price of its market if the venue
  lists one, until ``"fee_coin_left"`` of it is used up; then, or with ``""``, in dollars.

Switches, for all accounts: ``{"trades_hidden": true}`` leaves trades of forced orders out of ``userTrades``,
``{"forced_hidden": true}`` leaves ``forceOrders`` empty, ``{"record_lag_s": 3}`` shows trades, income and forced orders
only after so much market time, ``{"income_lag_s": 60}`` income alone, ``{"rows_of_flat": false}`` leaves symbols
without position and order out of ``positionRisk``, ``{"trades_per_order": 3}`` fills new orders in so many trades.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final, Literal, Self

from pydantic import Field, model_validator
from starlette.types import ASGIApp

from engine.platform.values import Frozen
from simulator.control.refusals import translate_refusals
from simulator.control_address import with_control
from simulator.venue import account_events as events
from simulator.venue.api_error import VenueApiError
from simulator.venue.venue import SimulatedVenue

CONTROL: Final = "/_control/account"
EVENTS: Final = ("trade", "self_trade", "close", "liquidate", "adl", "cancel_all", "funding", "fee_coin")
DETAILS: Final = ("quantity", "percent", "pieces", "fee_percent", "keeps_orders")


class ManualTrade(Frozen):
    symbol: str
    side: Literal["BUY", "SELL"]
    quantity: Decimal = Field(gt=0)


class SelfTrade(Frozen):
    symbol: str
    quantity: Decimal = Field(gt=0)


class Funding(Frozen):
    symbol: str
    rate: Decimal


class AccountChange(Frozen):
    """At most one event and any switches; None keeps a switch unchanged."""

    user: str | None = None
    trade: ManualTrade | None = None
    self_trade: SelfTrade | None = None
    close: str | None = None
    liquidate: str | None = None
    adl: str | None = None
    cancel_all: str | None = None
    funding: Funding | None = None
    fee_coin: str | None = Field(default=None, pattern=r"^[A-Z0-9]*$")
    fee_coin_left: Decimal | None = Field(default=None, ge=0)
    quantity: Decimal | None = Field(default=None, gt=0)
    percent: Decimal | None = Field(default=None, gt=0, le=100)
    pieces: int = Field(default=1, ge=1, le=1_000)
    fee_percent: Decimal = Field(default=events.INSURANCE_PERCENT, ge=0, le=100)
    keeps_orders: bool = False
    trades_hidden: bool | None = None
    forced_hidden: bool | None = None
    record_lag_s: float | None = Field(default=None, ge=0, le=86_400)
    income_lag_s: float | None = Field(default=None, ge=0, le=86_400)
    rows_of_flat: bool | None = None
    trades_per_order: int | None = Field(default=None, ge=1, le=1_000)

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        if len(self.events) > 1:
            raise ValueError("one event at a time")
        if self.model_fields_set.intersection(DETAILS) and not {"liquidate", "adl"}.intersection(self.events):
            raise ValueError(f"{', '.join(DETAILS)} belong to liquidate and adl")
        if self.fee_coin_left is not None and not self.fee_coin:
            raise ValueError("fee_coin_left belongs to fee_coin")
        if self.quantity is not None and self.percent is not None:
            raise ValueError("either a quantity or a percentage")
        return self

    @property
    def events(self) -> list[str]:
        return [name for name in EVENTS if getattr(self, name) is not None]

    @property
    def symbol(self) -> str | None:
        """The symbol of the event."""
        values = [getattr(self, name) for name in self.events if name != "fee_coin"]
        return next((one if isinstance(one, str) else one.symbol for one in values), None)


def with_account_control(app: ASGIApp, venue: SimulatedVenue) -> ASGIApp:
    """`app` behind the control address."""

    def apply(change: AccountChange) -> None:
        with translate_refusals():
            apply_change(venue, change)

    return with_control(app, CONTROL, lambda: _describe_state(venue), AccountChange.model_validate_json, apply)


def apply_change(venue: SimulatedVenue, change: AccountChange) -> None:
    """Applies the event to the accounts, then changes the switches. Raises VenueApiError."""
    users = [change.user] if change.user is not None else venue.list_users()
    if change.user is not None and change.user not in venue.list_users():
        raise VenueApiError(-2015, f"No account of {change.user}.")
    if change.symbol is not None:
        venue.get_market(change.symbol)
    if {"close", "liquidate", "adl"}.intersection(change.events) and not _is_held(venue, users, change):
        raise VenueApiError(-2022, f"No position in {change.symbol} is held.")
    for user in users:
        try:
            _apply_event(venue, user, change)
        finally:
            venue.save_account(user, is_read_only=False)
    if change.funding is not None:
        venue.funding.add_single_payment(change.funding.symbol, venue.clock.now_ms(), change.funding.rate)
    _apply_switches(venue, change)


def _is_held(venue: SimulatedVenue, users: Sequence[str], change: AccountChange) -> bool:
    symbol = change.symbol or ""
    return any(venue.get_account(user).get_holding(symbol).amount for user in users)


def _apply_event(venue: SimulatedVenue, user: str, change: AccountChange) -> None:
    symbol = change.symbol or ""
    match change.events:
        case ["trade" | "self_trade" | "close"]:
            _apply_manual_event(venue, user, change)
        case ["liquidate"]:
            fee, keeps = change.fee_percent, change.keeps_orders
            quantity = _calculate_quantity(venue, user, change)
            events.liquidate(venue, user, symbol, quantity, change.pieces, fee, keeps_orders=keeps)
        case ["adl"]:
            events.auto_deleverage(venue, user, symbol, _calculate_quantity(venue, user, change), change.pieces)
        case ["cancel_all"]:
            events.cancel_all(venue, user, symbol)
        case ["fee_coin"]:
            account = venue.get_account(user)
            account.fee_coin, account.fee_coin_left = change.fee_coin or None, change.fee_coin_left
        case ["funding"] if change.funding is not None:
            events.pay_funding(venue, user, symbol, change.funding.rate)


def _apply_manual_event(venue: SimulatedVenue, user: str, change: AccountChange) -> None:
    symbol = change.symbol or ""
    if change.trade is not None:
        events.trade_manually(venue, user, symbol, change.trade.side, change.trade.quantity)
    elif change.self_trade is not None:
        events.trade_with_itself(venue, user, symbol, change.self_trade.quantity)
    else:
        events.close_manually(venue, user, symbol)


def _calculate_quantity(venue: SimulatedVenue, user: str, change: AccountChange) -> Decimal | None:
    if change.percent is None:
        return change.quantity
    return events.calculate_position_part(venue, user, change.symbol or "", change.percent)


def _apply_switches(venue: SimulatedVenue, change: AccountChange) -> None:
    record = venue.record_config
    if change.trades_hidden is not None:
        record.trades_hidden = change.trades_hidden
    if change.forced_hidden is not None:
        record.forced_hidden = change.forced_hidden
    if change.record_lag_s is not None:
        record.lag_ms = round(change.record_lag_s * 1_000)
    if change.income_lag_s is not None:
        record.income_lag_ms = round(change.income_lag_s * 1_000)
    if change.rows_of_flat is not None:
        record.rows_of_flat = change.rows_of_flat
    if change.trades_per_order is not None:
        venue.trades_per_order = change.trades_per_order


def _describe_state(venue: SimulatedVenue) -> dict[str, Any]:
    record = venue.record_config
    return {
        "market_ms": venue.clock.now_ms(),
        "users": venue.list_users(),
        "trades_hidden": record.trades_hidden,
        "forced_hidden": record.forced_hidden,
        "record_lag_s": record.lag_ms / 1_000,
        "income_lag_s": record.income_lag_ms / 1_000,
        "rows_of_flat": record.rows_of_flat,
        "trades_per_order": venue.trades_per_order,
    }
