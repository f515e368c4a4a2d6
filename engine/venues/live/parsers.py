"""Parses ccxt's unified answers into our values, exactly; a missing value is an error, not zero."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from engine.domain.decimals import product, quotient, to_decimal, total
from engine.domain.positions import Side
from engine.venues.account_state import USD_ASSETS, Balance, OpenOrder, OrderKind, VenuePosition
from engine.venues.market_data.instruments import get_contract_size
from engine.venues.orders import OrderStatus

Raw = Mapping[str, Any]
TERMINAL_STATUSES: Final = (
    "closed",
    "canceled",
    "expired",
    "rejected",
)  # ccxt's; some venues acknowledge without a status
# Binance-shaped venues (Aster too) state the kind only in their own fields, which ccxt keeps in `info`.
ORDER_KINDS: Final = {
    "MARKET": OrderKind.MARKET,
    "LIMIT": OrderKind.LIMIT,
    "STOP": OrderKind.STOP_LOSS,
    "STOP_MARKET": OrderKind.STOP_LOSS,
    "TAKE_PROFIT": OrderKind.TAKE_PROFIT,
    "TAKE_PROFIT_MARKET": OrderKind.TAKE_PROFIT,
}


def parse_status(raw: Raw, filled: Decimal) -> OrderStatus:
    """An ended order with any fill is FILLED, whatever its status: the rest of it was cancelled or expired."""
    if raw.get("status") not in TERMINAL_STATUSES:
        return OrderStatus.OPEN
    return OrderStatus.FILLED if filled > 0 else OrderStatus.REJECTED


def parse_open_order(raw: Raw, symbol: str, size: Decimal) -> OpenOrder:
    """An order in our `symbol`, with contracts of `size`. Raises ValueError for an answer without an order."""
    if raw.get("id") is None or raw.get("side") is None:
        raise ValueError("the answer names no order")
    info = raw.get("info") or {}
    kind = ORDER_KINDS.get(
        str(info.get("origType") or info.get("type") or info.get("orderType") or raw.get("type")).upper(),
        OrderKind.OTHER,
    )
    price = raw.get("triggerPrice") or raw.get("stopPrice") or raw.get("price")
    return OpenOrder(
        order_id=str(raw["id"]),
        client_order_id=raw.get("clientOrderId") or None,
        symbol=symbol,
        kind=kind,
        is_buy=raw["side"] == "buy",
        quantity=product(to_decimal(raw["amount"] or 0), size),
        filled=product(to_decimal(raw.get("filled") or 0), size),
        price=to_decimal(price or 0),
        reduce_only=_is_reduce_only(raw, info),
        at_ms=int(raw.get("timestamp") or raw.get("lastUpdateTimestamp") or 0),
    )


def parse_position(raw: Raw, market: Raw) -> VenuePosition | None:
    """None for an empty position."""
    quantity = product(to_decimal(raw["contracts"] or 0), get_contract_size(market))
    if quantity == 0:
        return None
    leverage, profit = raw.get("leverage"), raw.get("unrealizedPnl")
    return VenuePosition(
        symbol=to_symbol(market),
        side=Side.LONG if raw["side"] == "long" else Side.SHORT,
        quantity=quantity,
        entry_price=to_decimal(raw["entryPrice"]),
        leverage=None if leverage is None else int(leverage),
        unrealized_pnl_usd=None if profit is None else to_decimal(profit),
    )


def parse_balance(raw: Raw) -> Balance:
    dollars = [raw[asset] for asset in USD_ASSETS if asset in raw]
    if not dollars:
        raise ValueError("the balance has no dollar asset")
    return Balance(
        wallet_usd=sum((to_decimal(asset["total"] or 0) for asset in dollars), Decimal(0)),
        available_usd=max(
            to_decimal(asset["free"] or 0) for asset in dollars
        ),  # one order has its margin in one asset,
    )


def calculate_average_price(trades: Sequence[Raw]) -> Decimal:
    """The average price of ccxt's `trades`, weighted by quantity; exact where all have one price."""
    prices = {to_decimal(trade["price"]) for trade in trades}
    if len(prices) == 1:
        return prices.pop()
    value = total(product(to_decimal(trade["price"]), to_decimal(trade["amount"])) for trade in trades)
    return quotient(value, total(to_decimal(trade["amount"]) for trade in trades))


def parse_leverage(raw: Raw) -> int | None:
    """The leverage in ccxt's leverage structure, where long and short have the same; else None."""
    long, short = raw.get("longLeverage"), raw.get("shortLeverage")
    leverages = {int(leverage) for leverage in (long, short) if leverage is not None}
    return leverages.pop() if len(leverages) == 1 else None


def to_symbol(market: Raw) -> str:
    """Our symbol (BTCUSDT) of one of ccxt's markets: the venue's id where that is its base and quote."""
    if market.get("id") == f"{market.get('baseId')}{market.get('quoteId')}":
        return str(market["id"])
    return f"{market['base']}{market['quote']}"


def _is_reduce_only(raw: Raw, info: Raw) -> bool:
    flags = (raw.get("reduceOnly"), info.get("reduceOnly"), info.get("closePosition"))
    return any(str(flag).lower() == "true" for flag in flags)  # some venues write it as text, which ccxt does not read
