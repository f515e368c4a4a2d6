"""From our symbols (BTCUSDT) to a venue's perpetual markets, and from its filters to an Instrument."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ccxt.base.decimal_to_precision import TICK_SIZE

from engine.booked import exact, product
from engine.errors import StrategyFault
from engine.exchanges.venue import Instrument

__all__ = ["contract_size", "exact", "instrument_of", "market_of"]


def market_of(exchange: Any, symbol: str) -> dict[str, Any]:
    """ccxt's market for `symbol`: the linear perpetual whose id, or base and quote put together, is `symbol`.

    Loads the markets when that has not been done. Raises StrategyFault when there is none, and ccxt's errors.
    """
    exchange.load_markets()
    for market in exchange.markets_by_id.get(symbol, []):
        if is_linear_perpetual(market):
            return dict(market)
    for market in exchange.markets.values():
        if is_linear_perpetual(market) and f"{market['base']}{market['quote']}" == symbol:
            return dict(market)
    raise StrategyFault(f"{exchange.id} lists no perpetual called {symbol}")


def contract_size(market: Mapping[str, Any]) -> Decimal:
    """Base asset per unit in which the venue counts quantities: 1 but where it counts in contracts."""
    return exact(market.get("contractSize") or 1)


def instrument_of(exchange: Any, symbol: str, market: dict[str, Any]) -> Instrument:
    """Filters as quantities of the base asset, also where the venue counts in contracts. The tick is PRICE_FILTER's."""
    size = contract_size(market)
    limits = market["limits"]
    amount, market_amount = limits["amount"], limits.get("market") or {}
    leverage = limits["leverage"]["max"]
    most = market_amount.get("max") or amount["max"]
    return Instrument(
        symbol=symbol,
        tick=_step(exchange, market["precision"]["price"]),
        lot=product(_step(exchange, market["precision"]["amount"]), size),
        min_quantity=product(max(exact(amount["min"] or 0), exact(market_amount.get("min") or 0)), size),
        max_quantity=product(exact(most), size) if most else None,
        min_notional=exact(limits["cost"]["min"] or 0),
        max_leverage=int(leverage) if leverage else None,
        maintenance_rate=_maintenance_rate(market),
    )


def _maintenance_rate(market: Mapping[str, Any]) -> Decimal | None:
    """What a Binance-shaped venue publishes as a percentage; None where there is none, or it cannot be read."""
    try:
        rate = product(exact((market.get("info") or {})["maintMarginPercent"]), Decimal("0.01"))
    except (KeyError, ValueError):
        return None
    return rate if 0 < rate < 1 else None


def _step(exchange: Any, precision: Any) -> Decimal:
    return exact(precision) if exchange.precisionMode == TICK_SIZE else Decimal(1).scaleb(-int(precision))


def is_linear_perpetual(market: Mapping[str, Any]) -> bool:
    """Whether ccxt's market is a perpetual that is settled in its quote."""
    return bool(market.get("swap")) and bool(market.get("linear"))
