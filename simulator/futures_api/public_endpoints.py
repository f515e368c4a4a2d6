"""Public endpoints: market data. Each function takes the venue and the query, and returns the JSON."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from simulator.futures_api import book_shapes, shapes
from simulator.futures_api.funding_endpoints import FUNDING
from simulator.futures_api.parameters import Params, parse_integer
from simulator.market.candles import INTERVAL_MINUTES
from simulator.market.kline_faults import apply_faults
from simulator.market.market import Market
from simulator.venue.api_error import VenueApiError
from simulator.venue.book_config import BookConfig
from simulator.venue.venue import SimulatedVenue

MAX_CANDLES: Final = 1_500
MAX_LEVELS: Final = 1_000


def ping(_: SimulatedVenue, __: Params) -> object:
    return {}


def get_server_time(venue: SimulatedVenue, _: Params) -> object:
    return {"serverTime": venue.settings.to_venue_us(venue.clock.now_ms() * 1_000) // 1_000}


def get_exchange_info(venue: SimulatedVenue, _: Params) -> object:
    rules = {symbol: venue.get_rules(symbol) for symbol in venue.markets}
    return shapes.build_exchange_info(rules, venue.clock.now_ms(), venue.meter.limit)


def get_klines(venue: SimulatedVenue, query: Params) -> object:
    """Candles up to `endTime`, or from `startTime` on, oldest first; the last one is still forming."""
    market, now_ms = venue.get_market(query.get("symbol")), venue.clock.now_ms()
    interval = query.get("interval", "")
    minutes = INTERVAL_MINUTES.get(interval)
    if minutes is None:
        raise VenueApiError(-1120, "Invalid interval.")
    limit = min(parse_integer(query, "limit") or 500, MAX_CANDLES)
    since_ms, until_ms = parse_integer(query, "startTime"), parse_integer(query, "endTime")
    if since_ms is not None:
        first_full_ms = since_ms + (limit - 1) * minutes * 60_000
        until_ms = min(first_full_ms, until_ms if until_ms is not None else first_full_ms)
    faults = venue.kline_faults.get((query["symbol"], interval), [])
    # So many more than `limit` are read that `limit` are left without the missing ones.
    missing = sum(fault.count_max_missing(now_ms, minutes * 60_000) for fault in faults)
    candles = market.list_candles(now_ms, minutes, limit + missing, until_ms)
    whole = [candle for candle in candles if not any(fault.is_missing(candle.open_time_ms) for fault in faults)]
    shown = [candle for candle in whole[-limit:] if candle.open_time_ms >= (since_ms or 0)]
    return apply_faults([shapes.build_kline(candle, minutes, market.decimals) for candle in shown], faults)


def get_depth(venue: SimulatedVenue, query: Params) -> object:
    levels = min(parse_integer(query, "limit") or 20, MAX_LEVELS)
    market = venue.get_market(query.get("symbol"))
    return book_shapes.build_depth(market, venue.get_book_config(query["symbol"]), venue.clock.now_ms(), levels)


def _answer_one_or_all(
    shape: Callable[[str, Market, BookConfig, int], dict[str, Any]],
) -> Callable[[SimulatedVenue, Params], object]:
    def answer(venue: SimulatedVenue, query: Params) -> object:
        now_ms, symbol = venue.clock.now_ms(), query.get("symbol")
        if symbol is not None:
            return shape(symbol, venue.get_market(symbol), venue.get_book_config(symbol), now_ms)
        return [shape(name, market, venue.get_book_config(name), now_ms) for name, market in venue.markets.items()]

    return answer


PUBLIC: Final[Mapping[str, Callable[[SimulatedVenue, Params], object]]] = {
    "/ping": ping,
    "/time": get_server_time,
    "/exchangeInfo": get_exchange_info,
    "/klines": get_klines,
    "/depth": get_depth,
    "/ticker/24hr": _answer_one_or_all(book_shapes.build_ticker_24h),
    "/ticker/price": _answer_one_or_all(book_shapes.build_ticker_price),
    "/ticker/bookTicker": _answer_one_or_all(book_shapes.build_book_ticker),
    **FUNDING,
}
