"""Parses ccxt's order books and mark prices."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from engine.domain.decimals import product, to_decimal
from engine.venues.market_data.instruments import get_contract_size
from engine.venues.order_book import Level, sort_levels


def parse_levels(rows: Sequence[Sequence[Any]], market: Mapping[str, Any], *, are_bids: bool) -> tuple[Level, ...]:
    """One side of ccxt's book, in the base asset. Raises ValueError for impossible values."""
    size = get_contract_size(market)
    levels = (Level(to_decimal(row[0]), product(to_decimal(row[1]), size)) for row in rows)
    return sort_levels(levels, are_bids=are_bids)


def fetch_mark_price(exchange: Any, market: Mapping[str, Any]) -> tuple[Decimal | None, int | None]:
    """The mark price and its time, None where the venue does not publish them."""
    answer = exchange.fetch_funding_rate(market["symbol"])
    price, at_ms = answer.get("markPrice"), answer.get("timestamp")
    mark = None if price is None else to_decimal(price)
    return mark if mark is not None and mark > 0 else None, None if at_ms is None else int(at_ms)
