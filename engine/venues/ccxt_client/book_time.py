"""The time of an order book, where a venue states two."""

from typing import Any


class OlderBookTimeMixin:
    """Mixed in before a ccxt class: the time of a book is the older one of its event time (E) and the time of its last
    change (T). ccxt uses T alone, but either may stall."""

    def parse_order_book(self, orderbook: Any, symbol: str, timestamp: Any = None, *rest: Any) -> Any:
        times = [self.safe_integer(orderbook, name) for name in ("E", "T")]  # type: ignore[attr-defined] # ccxt's
        stated = [time_ms for time_ms in times if time_ms is not None]
        older = min(stated) if stated else timestamp
        return super().parse_order_book(orderbook, symbol, older, *rest)  # type: ignore[misc] # ccxt's
