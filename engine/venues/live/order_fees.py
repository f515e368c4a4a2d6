"""Average price and fee of a filled order: from its trades, or from the order itself while those are not available."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

from engine.domain.decimals import product, quotient, to_decimal, total
from engine.platform.errors import SparkyError
from engine.venues.account_state import USD_ASSETS
from engine.venues.ccxt_client.errors import translate_errors
from engine.venues.live import parsers
from engine.venues.market_data.coin_prices import CoinPrices
from engine.venues.market_data.instruments import get_contract_size

Raw = Mapping[str, Any]
MAX_TRADES: Final = 1_000
# Binance's taker rate of an account without a discount: at worst the booked fee is too high.
ASSUMED_TAKER_RATE: Final = Decimal("0.0005")


class Commission(NamedTuple):
    """A commission: `amount` of `asset`, paid at `at_ms` for what was worth `value` dollars."""

    asset: str
    amount: Decimal
    at_ms: int
    value: Decimal


def calculate_price_and_fee(exchange: Any, raw: Raw, market: Raw, coins: CoinPrices) -> tuple[Decimal, Decimal]:
    """Average price and fee (USD) of ccxt's order `raw`, from its trades where all of them are shown; else from its
    cost and quantity, and the taker rate. A fee paid in a coin is converted by `coins`, else the taker rate is applied
    to the value that it was paid for. Raises ValueError for an order without any price.

    A failed query for trades is ignored, because the order is filled all the same. The order's own average is used
    last, because venues round it.
    """
    fee = raw.get("fee") or {}
    trades = () if fee.get("cost") is not None else _fetch_trades(exchange, raw, market)
    quantity = product(to_decimal(raw["filled"]), get_contract_size(market))
    price = parsers.calculate_average_price(trades) if trades else _calculate_order_price(raw, quantity)
    if price <= 0:
        raise ValueError("the answer has no price of a filled order")
    if fee.get("cost") is not None:
        at_ms = int(raw.get("lastTradeTimestamp") or raw.get("timestamp") or 0)
        commissions = [
            Commission(fee.get("currency") or USD_ASSETS[0], to_decimal(fee["cost"]), at_ms, product(price, quantity))
        ]
    else:
        commissions = [_parse_commission(trade, market) for trade in trades]
    if not commissions:
        return price, product(product(price, quantity), _fetch_taker_rate(exchange, market))
    return price, _sum_in_usd(commissions, coins, lambda: _fetch_taker_rate(exchange, market))


def _parse_commission(trade: Raw, market: Raw) -> Commission:
    value = product(product(to_decimal(trade["price"]), to_decimal(trade["amount"])), get_contract_size(market))
    cost = abs(to_decimal(trade["fee"]["cost"]))
    return Commission(trade["fee"]["currency"] or "", cost, int(trade.get("timestamp") or 0), value)


def _sum_in_usd(paid: Iterable[Commission], coins: CoinPrices, taker_rate: Callable[[], Decimal]) -> Decimal:
    """The sum of commissions in USD; `taker_rate` is called only if a coin has no price."""
    usd, unpriced = list[Decimal](), list[Decimal]()
    # Newest first, because a coin's price in the current minute is reused for earlier moments of that minute.
    for commission in sorted(paid, key=lambda commission: commission.at_ms, reverse=True):
        amount_usd = coins.convert_to_usd(commission.asset, commission.amount, commission.at_ms)
        if amount_usd is None:
            unpriced.append(commission.value)
        else:
            usd.append(amount_usd)
    return total([*usd, product(total(unpriced), taker_rate())] if unpriced else usd)


def _fetch_trades(exchange: Any, raw: Raw, market: Raw) -> Sequence[Raw]:
    """All trades of the order; empty where some are not shown yet, or the query fails or cannot be read."""
    try:
        with translate_errors(exchange):
            trades = exchange.fetch_my_trades(market["symbol"], raw.get("timestamp"), MAX_TRADES)
            of_order = [trade for trade in trades if trade["order"] == raw["id"]]
            for trade in of_order:  # read here, so that an unreadable trade counts as none
                to_decimal(trade["price"]), to_decimal(trade["fee"]["cost"]), trade["fee"]["currency"]
            is_complete = total(to_decimal(trade["amount"]) for trade in of_order) == to_decimal(raw["filled"])
    except SparkyError:
        return ()
    return of_order if is_complete else ()


def _calculate_order_price(raw: Raw, quantity: Decimal) -> Decimal:
    cost = to_decimal(raw.get("cost") or 0)
    return quotient(cost, quantity) if cost > 0 else to_decimal(raw.get("average") or 0)


def _fetch_taker_rate(exchange: Any, market: Raw) -> Decimal:
    try:
        with translate_errors(exchange):
            return to_decimal(exchange.fetch_trading_fee(market["symbol"])["taker"])
    except SparkyError:
        return ASSUMED_TAKER_RATE
