"""Finds a venue's perpetual market for a symbol (BTCUSDT), and parses its filters into an Instrument."""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from ccxt.base.decimal_to_precision import TICK_SIZE

from engine.domain.decimals import product, to_decimal
from engine.domain.errors import StrategyFault
from engine.venues.ccxt_client.listing_tables import VANISHED_KEY, get_info, is_gone
from engine.venues.instrument import GONE, TRADING, Instrument, LotSize

UNLISTED_KEY: Final = "unlisted"  # marks a market that we build to query the record of an unlisted symbol
INACTIVE_STATUS: Final = "INACTIVE"  # for a venue without statuses of its own
_QUOTE_ASSETS: Final = ("USDT", "USDC", "USD1", "FDUSD", "BUSD", "USDF", "USD", "BTC")
_HUNDREDTH: Final = Decimal("0.01")


def get_market(exchange: Any, symbol: str) -> dict[str, Any]:
    """ccxt's market for `symbol`: the linear perpetual whose id, or base and quote put together, is `symbol`.

    Also one that is no longer listed. Loads the markets if necessary. Raises StrategyFault when there is none, and
    ccxt's errors.
    """
    market = find_market(exchange, symbol)
    if market is None:
        raise StrategyFault(f"{exchange.id} lists no perpetual called {symbol}")
    return market


def get_listed_market(exchange: Any, symbol: str) -> dict[str, Any]:
    """As `get_market`, but raises StrategyFault for one that is no longer listed."""
    market = get_market(exchange, symbol)
    if is_gone(market):
        raise StrategyFault(f"{exchange.id} lists {symbol} no more")
    return market


def get_record_market(exchange: Any, symbol: str) -> dict[str, Any]:
    """As `get_market`; for an unlisted symbol, a market with which the account's record in it can be queried."""
    market = find_market(exchange, symbol)
    if market is not None:
        return market
    made_up = _build_unlisted_market(exchange, symbol)
    exchange.markets = {**exchange.markets, made_up["symbol"]: made_up}
    exchange.markets_by_id = {**exchange.markets_by_id, symbol: [made_up]}
    return made_up


def find_market(exchange: Any, symbol: str) -> dict[str, Any] | None:
    """As `get_market`; None when there is none."""
    exchange.listing.update_client(exchange)
    for market in exchange.markets_by_id.get(symbol, []):
        if is_linear_perpetual(market):
            return dict(market)
    for market in exchange.markets.values():
        if is_linear_perpetual(market) and f"{market['base']}{market['quote']}" == symbol:
            return dict(market)
    return None


def refresh_if_missing(exchange: Any, market: Mapping[str, Any] | None) -> None:
    """Refreshes the list if a symbol's `market` was not found (None), or only the newest list lacks it.

    Raises nothing. It waits, so call it without the client's lock.
    """
    if market is None:
        exchange.listing.refresh_for_unlisted()
    elif market.get(VANISHED_KEY) and not is_gone(market):
        exchange.listing.refresh_for_missing()


def get_contract_size(market: Mapping[str, Any]) -> Decimal:
    """Base asset per unit of the venue's quantities: 1 unless it counts in contracts."""
    return to_decimal(market.get("contractSize") or 1)


def build_instrument(exchange: Any, symbol: str, market: dict[str, Any]) -> Instrument:
    """The Instrument of ccxt's `market`, with quantities in the base asset also where the venue counts in contracts.

    The tick is PRICE_FILTER's. Market orders must satisfy MARKET_LOT_SIZE and LOT_SIZE where both are given.
    """
    filters = _parse_filters(market)
    limits, leverage = market["limits"], market["limits"]["leverage"]["max"]
    limit, lot = _parse_limit_lot(exchange, market), _parse_market_lot(exchange, market, filters)
    band = filters.get("PERCENT_PRICE", {})
    return Instrument(
        symbol=symbol,
        tick=_parse_step(exchange, market["precision"]["price"]),
        lot=lot.step,
        min_quantity=lot.min_quantity,
        max_quantity=lot.max_quantity,
        min_notional=to_decimal(limits["cost"]["min"] or 0),
        max_leverage=int(leverage) if leverage else None,
        limit=None if limit == lot else limit,
        status=_parse_status(market),
        maintenance_rate=_parse_maintenance_rate(market),
        multiplier_up=_parse_bound(band.get("multiplierUp")),
        multiplier_down=_parse_bound(band.get("multiplierDown")),
        max_trigger_orders=_parse_positive_int(filters.get("MAX_NUM_ALGO_ORDERS", {}).get("limit")),
    )


def _parse_maintenance_rate(market: Mapping[str, Any]) -> Decimal | None:
    """A Binance-shaped venue's `maintMarginPercent` as a share; None if missing or unreadable."""
    try:
        rate = product(to_decimal(get_info(market)["maintMarginPercent"]), _HUNDREDTH)
    except (KeyError, ValueError):
        return None
    return rate if 0 < rate < 1 else None


def find_common_step(one: Decimal, other: Decimal) -> Decimal:
    """The smallest step whose multiples are multiples of both."""
    places = max(0, *(-int(step.normalize().as_tuple().exponent) for step in (one, other)))
    return Decimal(math.lcm(int(one.scaleb(places)), int(other.scaleb(places)))).scaleb(-places)


def is_linear_perpetual(market: Mapping[str, Any]) -> bool:
    """Whether ccxt's market is a perpetual that is settled in its quote, and is or was listed."""
    is_perpetual = bool(market.get("swap")) and bool(market.get("linear")) and not market.get("expiry")
    return is_perpetual and not market.get(UNLISTED_KEY)


def _parse_limit_lot(exchange: Any, market: Mapping[str, Any]) -> LotSize:
    size, amount = get_contract_size(market), market["limits"]["amount"]
    most = _parse_bound(amount["max"])
    return LotSize(
        step=product(_parse_step(exchange, market["precision"]["amount"]), size),
        min_quantity=product(to_decimal(amount["min"] or 0), size),
        max_quantity=None if most is None else product(most, size),
    )


def _parse_market_lot(exchange: Any, market: Mapping[str, Any], filters: Mapping[str, Mapping[str, Any]]) -> LotSize:
    limit, size = _parse_limit_lot(exchange, market), get_contract_size(market)
    bounds = market["limits"].get("market") or {}
    step, most = _parse_bound(filters.get("MARKET_LOT_SIZE", {}).get("stepSize")), _parse_bound(bounds.get("max"))
    return LotSize(
        step=limit.step if step is None else find_common_step(limit.step, product(step, size)),
        min_quantity=max(limit.min_quantity, product(to_decimal(bounds.get("min") or 0), size)),
        max_quantity=limit.max_quantity if most is None else product(most, size),
    )


def _parse_status(market: Mapping[str, Any]) -> str:
    if is_gone(market):
        return GONE
    raw = get_info(market).get("status")
    if _parse_filters(market) and isinstance(raw, str) and raw:
        return raw
    return INACTIVE_STATUS if market.get("active") is False else TRADING


def _parse_filters(market: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Filters of a Binance-shaped venue, by name."""
    raw = get_info(market).get("filters")
    rows = raw if isinstance(raw, list) else []
    return {str(row["filterType"]): row for row in rows if isinstance(row, dict) and "filterType" in row}


def _parse_bound(raw: Any) -> Decimal | None:
    """None if missing or 0, which venues use for no bound."""
    return to_decimal(raw or 0) or None


def _parse_positive_int(raw: Any) -> int | None:
    """None for what is no number above 0."""
    return int(str(raw)) if str(raw).isdecimal() and int(str(raw)) > 0 else None


def _parse_step(exchange: Any, precision: Any) -> Decimal:
    return to_decimal(precision) if exchange.precisionMode == TICK_SIZE else Decimal(1).scaleb(-int(precision))


def _build_unlisted_market(exchange: Any, symbol: str) -> dict[str, Any]:
    quote = next((asset for asset in _QUOTE_ASSETS if symbol.endswith(asset) and symbol != asset), "")
    base = symbol.removesuffix(quote)
    kind = {"type": "swap", "swap": True, "spot": False, "contract": True, "linear": True, "inverse": False}
    names = {"base": base, "quote": quote, "settle": quote, "baseId": base, "quoteId": quote, "settleId": quote}
    more = {"id": symbol, "symbol": f"{base}/{quote}:{quote}", "contractSize": 1, "active": False, UNLISTED_KEY: True}
    return dict(exchange.safe_market_structure({**kind, **names, **more}))
