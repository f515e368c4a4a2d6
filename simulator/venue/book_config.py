"""The order book of a simulated market: best prices and levels, by a configuration."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from simulator.market.market import Market

EmptySide = Literal["", "bids", "asks", "both"]
Level = tuple[Decimal, Decimal]  # price, quantity


@dataclass
class BookConfig:
    """How one symbol is quoted. Default: 1 basis point of spread, and levels larger than any order.

    `spread_percent` is how far the ask is above the bid; below 0 the book is crossed. Each of `max_levels` levels
    (None: as many as are asked for) holds `level_quantity` and is `level_step_percent` of the price (None: one tick)
    from the one before. `book_age_ms` and `mark_age_ms` (of market time) are the ages of book and mark price, below 0
    in the future; with `times_hidden` the book has no timestamps. `mark_percent` is how far the mark price is above the
    market, `ticker_percent` how far the prices of the tickers are above those of the book. With `fills_through` market
    orders are filled level by level, and what the book does not hold expires.
    """

    spread_percent: float | None = None
    level_quantity: Decimal | None = None
    level_step_percent: float | None = None
    max_levels: int | None = None
    empty_side: EmptySide = ""
    book_age_ms: int = 0
    times_hidden: bool = False
    mark_percent: float = 0.0
    mark_age_ms: int = 0
    mark_hidden: bool = False
    ticker_percent: float = 0.0
    fills_through: bool = False


def calculate_bid_ask(market: Market, config: BookConfig, now_ms: int) -> tuple[float, float]:
    """Best bid and ask: half the spread around the price, on the ticks."""
    if config.spread_percent is None:
        return market.get_bid_ask(now_ms)
    price, spread = market.get_price(now_ms), config.spread_percent / 100
    half = price * spread / (2 + spread)
    bid = round(math.floor((price - half) / market.tick + 1e-6) * market.tick, market.decimals)
    ask = round(math.ceil((price + half) / market.tick - 1e-6) * market.tick, market.decimals)
    return max(bid, market.tick), ask


def iter_levels(market: Market, config: BookConfig, now_ms: int, *, are_asks: bool) -> Iterator[Level]:
    """The levels of one side, best first; prices below one tick are left out."""
    if config.empty_side in ("both", "asks" if are_asks else "bids"):
        return
    bid, ask = calculate_bid_ask(market, config, now_ms)
    first = ask if are_asks else bid
    ticks = max(1, round(first * (config.level_step_percent or 0) / 100 / market.tick))
    quantity = config.level_quantity or Decimal(market.max_quantity)
    numbers = itertools.count() if config.max_levels is None else range(config.max_levels)
    for number in numbers:
        price = first + (1 if are_asks else -1) * number * ticks * market.tick
        if price < market.tick / 2:
            return
        yield Decimal(f"{price:.{market.decimals}f}"), quantity


def take_levels(market: Market, config: BookConfig, now_ms: int, quantity: Decimal, *, is_buy: bool) -> list[Level]:
    """What a market order takes from each level; in all less than `quantity` if the book is too small."""
    taken: list[Level] = []
    for price, offered in iter_levels(market, config, now_ms, are_asks=is_buy):
        part = min(offered, quantity)
        if part <= 0:
            break
        taken.append((price, part))
        quantity -= part
    return taken
