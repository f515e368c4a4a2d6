"""Order book, tickers and mark price as JSON, quoted by a `BookConfig`."""

import itertools
from typing import Any

from simulator.futures_api import shapes
from simulator.market.market import Market
from simulator.venue.book_config import BookConfig, iter_levels


def build_depth(market: Market, config: BookConfig, now_ms: int, max_levels: int) -> dict[str, Any]:
    """The best `max_levels` levels of each side."""
    at_ms = now_ms - config.book_age_ms
    times = {} if config.times_hidden else {"E": at_ms, "T": at_ms}
    return {
        "lastUpdateId": at_ms,
        **times,
        "bids": _build_side(market, config, now_ms, max_levels, are_asks=False),
        "asks": _build_side(market, config, now_ms, max_levels, are_asks=True),
    }


def build_book_ticker(symbol: str, market: Market, config: BookConfig, now_ms: int) -> dict[str, Any]:
    """Best bid and ask; price and quantity are 0 where a side is empty."""
    ticker: dict[str, Any] = {"symbol": symbol}
    for name, are_asks in (("bid", False), ("ask", True)):
        side = list(itertools.islice(iter_levels(market, config, now_ms, are_asks=are_asks), 1))
        price, quantity = side[0] if side else (0, 0)
        moved = float(price) * (1 + config.ticker_percent / 100)
        ticker |= {f"{name}Price": shapes.format_float(moved, market.decimals), f"{name}Qty": f"{quantity:f}"}
    at_ms = now_ms - config.book_age_ms
    return ticker | {"time": at_ms, "lastUpdateId": at_ms}


def build_ticker_price(symbol: str, market: Market, config: BookConfig, now_ms: int) -> dict[str, Any]:
    price = market.get_price(now_ms) * (1 + config.ticker_percent / 100)
    return shapes.build_ticker_price(symbol, market, now_ms) | {"price": shapes.format_float(price, market.decimals)}


def build_ticker_24h(symbol: str, market: Market, config: BookConfig, now_ms: int) -> dict[str, Any]:
    price = market.get_price(now_ms) * (1 + config.ticker_percent / 100)
    return shapes.build_ticker_24h(symbol, market, now_ms) | {"lastPrice": shapes.format_float(price, market.decimals)}


def build_premium_index(symbol: str, market: Market, config: BookConfig, now_ms: int) -> dict[str, Any]:
    row = shapes.build_premium_index(symbol, market, now_ms)
    price = shapes.format_float(market.get_price(now_ms) * (1 + config.mark_percent / 100), market.decimals)
    mark = {"markPrice": "" if config.mark_hidden else price, "time": now_ms - config.mark_age_ms}
    return row | mark


def _build_side(market: Market, config: BookConfig, now_ms: int, max_levels: int, *, are_asks: bool) -> list[list[str]]:
    side = itertools.islice(iter_levels(market, config, now_ms, are_asks=are_asks), max_levels)
    return [[f"{price:f}", f"{quantity:f}"] for price, quantity in side]
