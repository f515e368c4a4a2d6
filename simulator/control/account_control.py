"""What a test or a person may let happen to accounts of a simulated venue beside their API, and how rude the record is.

``POST /_control/account`` with a JSON object; ``GET`` shows the switches and the accounts. Only from the same host.
One event: ``{"trade": {"symbol": "BTCUSDT", "side": "SELL", "quantity": "0.01"}}`` and ``{"close": "BTCUSDT"}`` are a
hand on the venue's page, ``{"cancel_all": "BTCUSDT"}`` and ``{"self_trade": {"symbol": "BTCUSDT", "quantity":
"0.001"}}`` too (the account trades with itself, one id on both sides); ``{"liquidate": "BTCUSDT"}`` and ``{"adl":
"BTCUSDT"}`` are
the venue's own orders, with ``"quantity"`` or ``"percent"`` of a part of the position and ``"pieces"`` of several
trades, and for a liquidation ``"fee_percent"`` and ``"keeps_orders"``; ``{"funding": {"symbol": "BTCUSDT", "rate":
"0.0001"}}`` is paid, and ``{"fee_coin": "BNB"}`` has commissions paid in that coin from now on (``""``: in dollars
again; at the price of its market if the venue lists one, with a discount), as far as ``"fee_coin_left"`` of it goes,
then in dollars. What closes is answered by 400 where no account holds the symbol. ``"user"`` names one account (for
Aster the address in small letters), else it happens to all.

Switches, for all accounts: ``{"trades_hidden": true}`` keeps trades of forced orders out of ``userTrades``,
``{"forced_hidden": true}`` leaves ``forceOrders`` empty, ``{"record_lag_s": 3}`` shows trades, income and forced orders
only after so much market time, ``{"income_lag_s": 60}`` income alone, ``{"rows_of_flat": false}`` leaves symbols
without position and order out of ``positionRisk``, ``{"trades_per_order": 3}`` fills new orders in so many trades.
"""

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.platform.values import Frozen
from simulator.faults import LOOPBACK
from simulator.venue import account_events as events
from simulator.venue.api_error import AsterRefusal
from simulator.venue.venue import Exchange

CONTROL: Final = "/_control/account"
EVENTS: Final = ("trade", "self_trade", "close", "liquidate", "adl", "cancel_all", "funding", "fee_coin")
DETAILS: Final = ("quantity", "percent", "pieces", "fee_percent", "keeps_orders")


class HandTrade(Frozen):
    symbol: str
    side: Literal["BUY", "SELL"]
    quantity: Decimal = Field(gt=0)


class SelfTrade(Frozen):
    symbol: str
    quantity: Decimal = Field(gt=0)


class Funding(Frozen):
    symbol: str
    rate: Decimal


class Happening(Frozen):
    """At most one event and any switches; None leaves a switch as it is."""

    user: str | None = None
    trade: HandTrade | None = None
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
    def _makes_sense(self) -> Self:
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
        told = [getattr(self, name) for name in self.events if name != "fee_coin"]
        return next((one if isinstance(one, str) else one.symbol for one in told), None)


def with_account_control(app: ASGIApp, exchange: Exchange) -> ASGIApp:
    """`app` with the control address in front."""

    async def controlled(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == CONTROL:
            await (await _controlled(Request(scope, receive), exchange))(scope, receive, send)
        else:
            await app(scope, receive, send)

    return controlled


async def _controlled(request: Request, exchange: Exchange) -> JSONResponse:
    if request.client is None or request.client.host not in LOOPBACK:
        return JSONResponse({"error": "only from the same host"}, 403)
    if request.method != "POST":
        return JSONResponse(_state(exchange))
    try:
        happening = Happening.model_validate_json(await request.body())
        happen(exchange, happening)
    except ValidationError as error:
        return JSONResponse({"error": json.loads(error.json(include_url=False, include_context=False))}, 400)
    except AsterRefusal as refusal:
        return JSONResponse({"error": str(refusal), "code": refusal.code}, 400)
    return JSONResponse(_state(exchange))


def happen(exchange: Exchange, happening: Happening) -> None:
    """Changes the switches, and lets the event happen to the accounts. Raises AsterRefusal."""
    users = [happening.user] if happening.user is not None else exchange.users()
    if happening.user is not None and happening.user not in exchange.users():
        raise AsterRefusal(-2015, f"No account of {happening.user}.")
    if happening.symbol is not None:
        exchange.market(happening.symbol)
    if {"close", "liquidate", "adl"}.intersection(happening.events) and not _is_held(exchange, users, happening):
        raise AsterRefusal(-2022, f"No position in {happening.symbol} is held.")
    for user in users:
        try:
            _event(exchange, user, happening)
        finally:
            exchange.keep(user, has_asked_only=False)
    if happening.funding is not None:
        exchange.funding.paid_at_once(happening.funding.symbol, exchange.clock.now_ms(), happening.funding.rate)
    _switch(exchange, happening)


def _is_held(exchange: Exchange, users: Sequence[str], happening: Happening) -> bool:
    symbol = happening.symbol or ""
    return any(exchange.account(user).holding(symbol).amount for user in users)


def _event(exchange: Exchange, user: str, happening: Happening) -> None:
    symbol = happening.symbol or ""
    match happening.events:
        case ["trade" | "self_trade" | "close"]:
            _hand(exchange, user, happening)
        case ["liquidate"]:
            fee, keeps = happening.fee_percent, happening.keeps_orders
            quantity = _quantity(exchange, user, happening)
            events.liquidate(exchange, user, symbol, quantity, happening.pieces, fee, keeps_orders=keeps)
        case ["adl"]:
            events.adl(exchange, user, symbol, _quantity(exchange, user, happening), happening.pieces)
        case ["cancel_all"]:
            events.cancel_all(exchange, user, symbol)
        case ["fee_coin"]:
            account = exchange.account(user)
            account.fee_coin, account.fee_coin_left = happening.fee_coin or None, happening.fee_coin_left
        case ["funding"] if happening.funding is not None:
            events.pay_funding(exchange, user, symbol, happening.funding.rate)


def _hand(exchange: Exchange, user: str, happening: Happening) -> None:
    symbol = happening.symbol or ""
    if happening.trade is not None:
        events.trade_by_hand(exchange, user, symbol, happening.trade.side, happening.trade.quantity)
    elif happening.self_trade is not None:
        events.trade_with_itself(exchange, user, symbol, happening.self_trade.quantity)
    else:
        events.close_by_hand(exchange, user, symbol)


def _quantity(exchange: Exchange, user: str, happening: Happening) -> Decimal | None:
    if happening.percent is None:
        return happening.quantity
    return events.part(exchange, user, happening.symbol or "", happening.percent)


def _switch(exchange: Exchange, happening: Happening) -> None:
    record = exchange.record
    if happening.trades_hidden is not None:
        record.trades_hidden = happening.trades_hidden
    if happening.forced_hidden is not None:
        record.forced_hidden = happening.forced_hidden
    if happening.record_lag_s is not None:
        record.lag_ms = round(happening.record_lag_s * 1_000)
    if happening.income_lag_s is not None:
        record.income_lag_ms = round(happening.income_lag_s * 1_000)
    if happening.rows_of_flat is not None:
        record.rows_of_flat = happening.rows_of_flat
    if happening.trades_per_order is not None:
        exchange.trades_per_order = happening.trades_per_order


def _state(exchange: Exchange) -> dict[str, Any]:
    record = exchange.record
    return {
        "market_ms": exchange.clock.now_ms(),
        "users": exchange.users(),
        "trades_hidden": record.trades_hidden,
        "forced_hidden": record.forced_hidden,
        "record_lag_s": record.lag_ms / 1_000,
        "income_lag_s": record.income_lag_ms / 1_000,
        "rows_of_flat": record.rows_of_flat,
        "trades_per_order": exchange.trades_per_order,
    }
