"""From our symbols (BTCUSDT) to a venue's perpetual markets, and from its filters to an Instrument."""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from ccxt.base.decimal_to_precision import TICK_SIZE

from engine.domain.decimals import product, to_decimal
from engine.domain.errors import StrategyFault
from engine.venues.venue import GONE, TRADING, Instrument, LotSize

__all__ = [
    "build_instrument",
    "contract_size",
    "find_market",
    "get_market",
    "get_record_market",
    "refresh_if_missing",
    "to_decimal",
]

VANISHED_KEY: Final = (
    "vanished"  # in ccxt's market: it was listed by the venue, and how many lists in a row lacked it since
)
GONE_AFTER_MISSES: Final = 2  # such lists: one may err, and until the next the symbol is asked for and traded as before
UNLISTED_KEY: Final = "unlisted"  # in a market made up by us, for the record of a symbol that is not listed
INACTIVE_STATUS: Final = "INACTIVE"  # the status where a venue tells no word of its own
_QUOTE_ASSETS: Final = ("USDT", "USDC", "USD1", "FDUSD", "BUSD", "USDF", "USD", "BTC")
_DECIMALS_FIELDS: Final = {"price": "pricePrecision", "amount": "quantityPrecision"}  # by ccxt's names of steps
_HUNDREDTH: Final = Decimal("0.01")


def get_market(exchange: Any, symbol: str) -> dict[str, Any]:
    """ccxt's market for `symbol`: the linear perpetual whose id, or base and quote put together, is `symbol`.

    Also one that vanished from the list. Loads the markets when that has not been done. Raises StrategyFault when there
    is none, and ccxt's errors.
    """
    market = find_market(exchange, symbol)
    if market is None:
        raise StrategyFault(f"{exchange.id} lists no perpetual called {symbol}")
    return market


def get_listed_market(exchange: Any, symbol: str) -> dict[str, Any]:
    """As `get_market`, and raises StrategyFault for one that vanished too."""
    market = get_market(exchange, symbol)
    if _is_gone(market):
        raise StrategyFault(f"{exchange.id} lists {symbol} no more")
    return market


def get_record_market(exchange: Any, symbol: str) -> dict[str, Any]:
    """As `get_market`; for a symbol that is not listed one that is good for asking what has happened in it."""
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


def refresh_if_missing(exchange: Any, found: Mapping[str, Any] | None) -> None:
    """Has the list read again for what was found of a symbol: nothing, or that the newest list alone lacks it. Call it
    outside the client's turn: it waits. Raises nothing."""
    if found is None:
        exchange.listing.refresh_for_unlisted()
    elif found.get(VANISHED_KEY) and not _is_gone(found):
        exchange.listing.refresh_for_missing()


def add_missing_steps(exchange: Any, market: dict[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """`market` with a tick and a step of quantities also where the venue tells 0, which is none: those `before`, else
    the decimals that it allows. ccxt sends no order without them."""
    told = market.get("precision")
    if not told or exchange.precisionMode != TICK_SIZE:
        return market
    lacking = {name: key for name, key in _DECIMALS_FIELDS.items() if to_decimal(told.get(name) or 0) <= 0}
    known = {} if before is None else before["precision"]
    steps = {name: known.get(name) or _step_from_decimals(exchange, market, key) for name, key in lacking.items()}
    return {**market, "precision": {**told, **steps}} if steps else market


def contract_size(market: Mapping[str, Any]) -> Decimal:
    """Base asset per unit in which the venue counts quantities: 1 but where it counts in contracts."""
    return to_decimal(market.get("contractSize") or 1)


def build_instrument(exchange: Any, symbol: str, market: dict[str, Any]) -> Instrument:
    """Filters as quantities of the base asset, also where the venue counts in contracts. The tick is PRICE_FILTER's.

    Market orders have to satisfy MARKET_LOT_SIZE and LOT_SIZE where both are told.
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
    """What a Binance-shaped venue publishes as a percentage; None where there is none, or it cannot be read."""
    try:
        rate = product(to_decimal(_get_info(market)["maintMarginPercent"]), _HUNDREDTH)
    except (KeyError, ValueError):
        return None
    return rate if 0 < rate < 1 else None


def find_common_step(one: Decimal, other: Decimal) -> Decimal:
    """The least step whose multiples are multiples of both."""
    places = max(0, *(-int(step.normalize().as_tuple().exponent) for step in (one, other)))
    return Decimal(math.lcm(int(one.scaleb(places)), int(other.scaleb(places)))).scaleb(-places)


def is_linear_perpetual(market: Mapping[str, Any]) -> bool:
    """Whether ccxt's market is a perpetual that is settled in its quote, and is or was listed."""
    is_perpetual = bool(market.get("swap")) and bool(market.get("linear")) and not market.get("expiry")
    return is_perpetual and not market.get(UNLISTED_KEY)


def _parse_limit_lot(exchange: Any, market: Mapping[str, Any]) -> LotSize:
    size, amount = contract_size(market), market["limits"]["amount"]
    most = _parse_bound(amount["max"])
    return LotSize(
        step=product(_parse_step(exchange, market["precision"]["amount"]), size),
        min_quantity=product(to_decimal(amount["min"] or 0), size),
        max_quantity=None if most is None else product(most, size),
    )


def _parse_market_lot(exchange: Any, market: Mapping[str, Any], filters: Mapping[str, Mapping[str, Any]]) -> LotSize:
    limit, size = _parse_limit_lot(exchange, market), contract_size(market)
    bounds = market["limits"].get("market") or {}
    step, most = _parse_bound(filters.get("MARKET_LOT_SIZE", {}).get("stepSize")), _parse_bound(bounds.get("max"))
    return LotSize(
        step=limit.step if step is None else find_common_step(limit.step, product(step, size)),
        min_quantity=max(limit.min_quantity, product(to_decimal(bounds.get("min") or 0), size)),
        max_quantity=limit.max_quantity if most is None else product(most, size),
    )


def _is_gone(market: Mapping[str, Any]) -> bool:
    return int(market.get(VANISHED_KEY) or 0) >= GONE_AFTER_MISSES


def _step_from_decimals(exchange: Any, market: Mapping[str, Any], name: str) -> Any:
    """As ccxt writes it; None where the venue does not tell it either."""
    told = str(_get_info(market).get(name))
    return exchange.parse_number(exchange.parse_precision(told)) if told.isdecimal() else None


def _parse_status(market: Mapping[str, Any]) -> str:
    if _is_gone(market):
        return GONE
    told = _get_info(market).get("status")
    if _parse_filters(market) and isinstance(told, str) and told:
        return told
    return INACTIVE_STATUS if market.get("active") is False else TRADING


def _parse_filters(market: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What a Binance-shaped venue tells, by the filters' names."""
    told = _get_info(market).get("filters")
    rows = told if isinstance(told, list) else []
    return {str(row["filterType"]): row for row in rows if isinstance(row, dict) and "filterType" in row}


def _get_info(market: Mapping[str, Any]) -> Mapping[str, Any]:
    told = market.get("info")
    return told if isinstance(told, dict) else {}


def _parse_bound(told: Any) -> Decimal | None:
    """None for none, and for 0, as venues write it."""
    return to_decimal(told or 0) or None


def _parse_positive_int(told: Any) -> int | None:
    """None for what is no number above 0."""
    return int(str(told)) if str(told).isdecimal() and int(str(told)) > 0 else None


def _parse_step(exchange: Any, precision: Any) -> Decimal:
    return to_decimal(precision) if exchange.precisionMode == TICK_SIZE else Decimal(1).scaleb(-int(precision))


def _build_unlisted_market(exchange: Any, symbol: str) -> dict[str, Any]:
    quote = next((each for each in _QUOTE_ASSETS if symbol.endswith(each) and symbol != each), "")
    base = symbol.removesuffix(quote)
    kind = {"type": "swap", "swap": True, "spot": False, "contract": True, "linear": True, "inverse": False}
    names = {"base": base, "quote": quote, "settle": quote, "baseId": base, "quoteId": quote, "settleId": quote}
    more = {"id": symbol, "symbol": f"{base}/{quote}:{quote}", "contractSize": 1, "active": False, UNLISTED_KEY: True}
    return dict(exchange.safe_market_structure({**kind, **names, **more}))
