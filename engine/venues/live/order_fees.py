"""What an order that has filled was made at and what it cost: by its trades, or by its own answer while those fail."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

from engine.domain.decimals import product, quotient, to_decimal, total
from engine.platform.errors import SparkyError
from engine.venues.ccxt_client.errors import translate_errors
from engine.venues.live import parsers
from engine.venues.market_data.coin_prices import CoinPrices
from engine.venues.market_data.instruments import contract_size

Raw = Mapping[str, Any]
MAX_TRADES: Final = 1_000
# Binance's taker rate of an account without a discount.
ASSUMED_TAKER_RATE: Final = Decimal("0.0005")


class Commission(NamedTuple):
    """A commission: `amount` of `asset`, paid at `at_ms` for what was worth `value` dollars."""

    asset: str
    amount: Decimal
    at_ms: int
    value: Decimal


def calculate_price_and_fee(exchange: Any, raw: Raw, market: Raw, coins: CoinPrices) -> tuple[Decimal, Decimal]:
    """Average price and fee in USD of ccxt's order `raw`: its trades' where all of them are shown; else its cost by its
    quantity, and the taker rate. A fee paid in a coin is what that was worth by `coins`, else the taker rate of what it
    was paid for. Raises ValueError where nothing tells a price.

    A failure of the question about trades says nothing of the order: it is filled all the same. Venues round the
    average that they tell of an order, so it comes last.
    """
    fee = raw.get("fee") or {}
    trades = () if fee.get("cost") is not None else _fetch_trades(exchange, raw, market)
    quantity = product(to_decimal(raw["filled"]), contract_size(market))
    price = parsers.calculate_average_price(trades) if trades else _order_price(raw, quantity)
    if price <= 0:
        raise ValueError("the answer tells no price of a filled order")
    if fee.get("cost") is not None:
        at_ms = int(raw.get("lastTradeTimestamp") or raw.get("timestamp") or 0)
        told = [
            Commission(
                fee.get("currency") or parsers.USD_ASSETS[0], to_decimal(fee["cost"]), at_ms, product(price, quantity)
            )
        ]
    else:
        told = [_parse_commission(trade, market) for trade in trades]
    if not told:
        return price, product(price, quantity, _fetch_taker_rate(exchange, market))
    return price, _sum_in_usd(told, coins, lambda: _fetch_taker_rate(exchange, market))


def _parse_commission(trade: Raw, market: Raw) -> Commission:
    value = product(to_decimal(trade["price"]), to_decimal(trade["amount"]), contract_size(market))
    cost = abs(to_decimal(trade["fee"]["cost"]))
    return Commission(trade["fee"]["currency"] or "", cost, int(trade.get("timestamp") or 0), value)


def _sum_in_usd(paid: Iterable[Commission], coins: CoinPrices, taker_rate: Callable[[], Decimal]) -> Decimal:
    """The rate is asked for once, and only where a coin has no price. The newest first: one question about a coin's
    price in a minute that lasts is then good for all before."""
    usd, unpriced = list[Decimal](), list[Decimal]()
    for each in sorted(paid, key=lambda one: one.at_ms, reverse=True):
        worth = coins.convert_to_usd(each.asset, each.amount, each.at_ms)
        if worth is None:
            unpriced.append(each.value)
        else:
            usd.append(worth)
    return total([*usd, product(total(unpriced), taker_rate())] if unpriced else usd)


def _fetch_trades(exchange: Any, raw: Raw, market: Raw) -> Sequence[Raw]:
    """All trades of the order; none where some are not shown yet, or cannot be asked for or read."""
    try:
        with translate_errors(exchange):
            told = exchange.fetch_my_trades(market["symbol"], raw.get("timestamp"), MAX_TRADES)
            ours = [trade for trade in told if trade["order"] == raw["id"]]
            for trade in ours:
                to_decimal(trade["price"]), to_decimal(trade["fee"]["cost"]), trade["fee"]["currency"]
            is_whole = total(to_decimal(trade["amount"]) for trade in ours) == to_decimal(raw["filled"])
    except SparkyError:
        return ()
    return ours if is_whole else ()


def _order_price(raw: Raw, quantity: Decimal) -> Decimal:
    cost = to_decimal(raw.get("cost") or 0)
    return quotient(cost, quantity) if cost > 0 else to_decimal(raw.get("average") or 0)


def _fetch_taker_rate(exchange: Any, market: Raw) -> Decimal:
    try:
        with translate_errors(exchange):
            return to_decimal(exchange.fetch_trading_fee(market["symbol"])["taker"])
    except SparkyError:
        return ASSUMED_TAKER_RATE
