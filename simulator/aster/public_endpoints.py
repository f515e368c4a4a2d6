"""What Aster answers to anybody: market data. Each function takes the exchange and the query, and returns the JSON."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from simulator.aster import book_shapes, shapes
from simulator.aster.funding_endpoints import FUNDING
from simulator.market.candles import DAY_MINUTES
from simulator.market.kline_faults import with_faults
from simulator.market.market import Market
from simulator.venue.api_error import AsterRefusal
from simulator.venue.book_config import BookManners
from simulator.venue.venue import Exchange

Query = Mapping[str, str]
MINUTES_OF: Final = {"1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "1d": DAY_MINUTES}
MOST_CANDLES: Final = 1_500
MOST_LEVELS: Final = 1_000


def integer(given: Query, name: str, default: int | None = None) -> int | None:
    """A whole number among the parameters. Raises AsterRefusal when it is none."""
    text = given.get(name)
    if text is None:
        return default
    if not text.isdecimal():
        raise AsterRefusal(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
    return int(text)


def ping(_: Exchange, __: Query) -> object:
    return {}


def server_time(exchange: Exchange, _: Query) -> object:
    return {"serverTime": exchange.settings.venue_us(exchange.clock.now_ms() * 1_000) // 1_000}


def exchange_info(exchange: Exchange, _: Query) -> object:
    rules = {symbol: exchange.rules(symbol) for symbol in exchange.markets}
    return shapes.exchange_info(rules, exchange.clock.now_ms(), exchange.meter.limit)


def klines(exchange: Exchange, query: Query) -> object:
    """The newest candles up to `endTime`, or from `startTime` on; the forming one is the last, as on the real venue."""
    market, now_ms = exchange.market(query.get("symbol")), exchange.clock.now_ms()
    interval = query.get("interval", "")
    minutes = MINUTES_OF.get(interval)
    if minutes is None:
        raise AsterRefusal(-1120, "Invalid interval.")
    limit = min(integer(query, "limit") or 500, MOST_CANDLES)
    since_ms, until_ms = integer(query, "startTime"), integer(query, "endTime")
    if since_ms is not None:
        first_full_ms = since_ms + (limit - 1) * minutes * 60_000
        until_ms = min(first_full_ms, until_ms if until_ms is not None else first_full_ms)
    faults = exchange.kline_faults.get((query["symbol"], interval), [])
    missing = sum(fault.most_missing(now_ms, minutes * 60_000) for fault in faults)  # as many as asked for are told
    candles = market.candles(now_ms, minutes, limit + missing, until_ms)
    whole = [candle for candle in candles if not any(fault.is_missing(candle.open_time_ms) for fault in faults)]
    shown = [candle for candle in whole[-limit:] if candle.open_time_ms >= (since_ms or 0)]
    return with_faults([shapes.kline(candle, minutes, market.decimals) for candle in shown], faults)


def depth(exchange: Exchange, query: Query) -> object:
    levels = min(integer(query, "limit") or 20, MOST_LEVELS)
    market = exchange.market(query.get("symbol"))
    return book_shapes.depth(market, exchange.manners(query["symbol"]), exchange.clock.now_ms(), levels)


def _one_or_all(
    shape: Callable[[str, Market, BookManners, int], dict[str, Any]],
) -> Callable[[Exchange, Query], object]:
    def answer(exchange: Exchange, query: Query) -> object:
        now_ms, symbol = exchange.clock.now_ms(), query.get("symbol")
        if symbol is not None:
            return shape(symbol, exchange.market(symbol), exchange.manners(symbol), now_ms)
        return [shape(name, market, exchange.manners(name), now_ms) for name, market in exchange.markets.items()]

    return answer


PUBLIC: Final[Mapping[str, Callable[[Exchange, Query], object]]] = {
    "/ping": ping,
    "/time": server_time,
    "/exchangeInfo": exchange_info,
    "/klines": klines,
    "/depth": depth,
    "/ticker/24hr": _one_or_all(book_shapes.ticker_24h),
    "/ticker/price": _one_or_all(book_shapes.ticker_price),
    "/ticker/bookTicker": _one_or_all(book_shapes.book_ticker),
    **FUNDING,
}
