"""Order book, book ticker, price ticker and mark price in Aster's JSON, as a market is told to quote them."""

import itertools
from typing import Any

from simulator.aster import shapes
from simulator.market.market import Market
from simulator.venue.book_config import BookManners, levels


def depth(market: Market, manners: BookManners, now_ms: int, most: int) -> dict[str, Any]:
    """The best `most` levels of each side."""
    at_ms = now_ms - manners.book_age_ms
    times = {} if manners.times_hidden else {"E": at_ms, "T": at_ms}
    return {
        "lastUpdateId": at_ms,
        **times,
        "bids": _side(market, manners, now_ms, most, are_asks=False),
        "asks": _side(market, manners, now_ms, most, are_asks=True),
    }


def book_ticker(symbol: str, market: Market, manners: BookManners, now_ms: int) -> dict[str, Any]:
    """The first level of each side, at zero where there is none."""
    told: dict[str, Any] = {"symbol": symbol}
    for name, are_asks in (("bid", False), ("ask", True)):
        side = list(itertools.islice(levels(market, manners, now_ms, are_asks=are_asks), 1))
        price, quantity = side[0] if side else (0, 0)
        moved = float(price) * (1 + manners.ticker_percent / 100)
        told |= {f"{name}Price": shapes.text(moved, market.decimals), f"{name}Qty": f"{quantity:f}"}
    at_ms = now_ms - manners.book_age_ms
    return told | {"time": at_ms, "lastUpdateId": at_ms}


def ticker_price(symbol: str, market: Market, manners: BookManners, now_ms: int) -> dict[str, Any]:
    price = market.price(now_ms) * (1 + manners.ticker_percent / 100)
    return shapes.ticker_price(symbol, market, now_ms) | {"price": shapes.text(price, market.decimals)}


def ticker_24h(symbol: str, market: Market, manners: BookManners, now_ms: int) -> dict[str, Any]:
    price = market.price(now_ms) * (1 + manners.ticker_percent / 100)
    return shapes.ticker_24h(symbol, market, now_ms) | {"lastPrice": shapes.text(price, market.decimals)}


def premium_index(symbol: str, market: Market, manners: BookManners, now_ms: int) -> dict[str, Any]:
    told = shapes.premium_index(symbol, market, now_ms)
    price = shapes.text(market.price(now_ms) * (1 + manners.mark_percent / 100), market.decimals)
    mark = {"markPrice": "" if manners.mark_hidden else price, "time": now_ms - manners.mark_age_ms}
    return told | mark


def _side(market: Market, manners: BookManners, now_ms: int, most: int, *, are_asks: bool) -> list[list[str]]:
    side = itertools.islice(levels(market, manners, now_ms, are_asks=are_asks), most)
    return [[f"{price:f}", f"{quantity:f}"] for price, quantity in side]
