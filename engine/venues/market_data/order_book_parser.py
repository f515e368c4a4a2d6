"""From ccxt's order book and mark price to our values."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from engine.domain.decimals import product, to_decimal
from engine.venues.market_data.instruments import contract_size
from engine.venues.order_book import Level, sort_levels


class OlderBookTimeMixin:
    """Mixed in before a ccxt class: the time of a book is the older one of when it was told (E) and when it last
    changed (T). ccxt takes T alone, and either may stand still."""

    def parse_order_book(self, orderbook: Any, symbol: str, timestamp: Any = None, *rest: Any) -> Any:
        told = [self.safe_integer(orderbook, name) for name in ("E", "T")]  # type: ignore[attr-defined] # ccxt's
        known = [each for each in told if each is not None]
        older = min(known) if known else timestamp
        return super().parse_order_book(orderbook, symbol, older, *rest)  # type: ignore[misc] # ccxt's


def parse_levels(rows: Sequence[Sequence[Any]], market: Mapping[str, Any], *, are_bids: bool) -> tuple[Level, ...]:
    """One side of ccxt's book, in the base asset. Raises ValueError for what makes no sense."""
    size = contract_size(market)
    levels = (Level(to_decimal(row[0]), product(to_decimal(row[1]), size)) for row in rows)
    return sort_levels(levels, are_bids=are_bids)


def fetch_mark_price(exchange: Any, market: Mapping[str, Any]) -> tuple[Decimal | None, int | None]:
    """The mark price and its time, None where the venue does not tell it."""
    told = exchange.fetch_funding_rate(market["symbol"])
    price, at_ms = told.get("markPrice"), told.get("timestamp")
    mark = None if price is None else to_decimal(price)
    return mark if mark is not None and mark > 0 else None, None if at_ms is None else int(at_ms)
