"""An account at the simulated venue whose record a test reads back."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from engine.venues.live.ccxt_venue import CcxtVenue
from engine.venues.orders import OrderRequest
from simulator.venue.trading_account import Account
from simulator.venue.venue import SimulatedVenue

OpenVenue = Callable[..., CcxtVenue]
Happens = Callable[..., dict[str, Any]]
Misbehave = Callable[..., None]
BTC = "BTCUSDT"
DAY_MS = 86_400_000
TAKER = Decimal("0.0004")


def trade(venue: CcxtVenue, name: str, quantity: str, *, is_buy: bool = True) -> str:
    order = OrderRequest(client_order_id=name, symbol=BTC, is_buy=is_buy, quantity=Decimal(quantity), leverage=1)
    return venue.place_market_order(order).order_id


def only_account(exchange: SimulatedVenue) -> Account:
    (account,) = exchange._accounts.values()
    return account
