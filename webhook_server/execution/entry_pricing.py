"""Prices an entry by the venue's order book, and refuses one that would cost too much before anything is sent."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from engine.domain import decimals
from engine.domain.positions import Side
from engine.platform.errors import SparkyError
from engine.risk.entry_costs import CostLimits, check_book, check_slippage, select_levels_within
from engine.risk.limit_breach import LimitBreach
from engine.venues.instrument import Instrument
from engine.venues.order_book import OrderBook, calculate_average_price, extend_last_level
from engine.venues.paper import apply_slippage, ensure_depth
from engine.venues.quotes import Quote
from engine.venues.venue import Quotes
from webhook_server.intake.schemas import WebhookSignal


class EntryRefused(SparkyError):
    """The entry would cost more than it may; nothing was sent."""

    def __init__(self, breach: LimitBreach) -> None:
        super().__init__(breach.message)
        self.breach = breach


class PricedEntry(NamedTuple):
    """How much of the base asset the entry's dollars are worth, and the mark price of that moment (None: not known)."""

    quantity: Decimal
    mark: Decimal | None


@dataclass(frozen=True)
class EntryPricing:
    """Of one order, by what `quotes` returns, on paper and live alike; exits ask for none. `slippage_percent` is what a
    price may move meanwhile."""

    signal: WebhookSignal
    quotes: Callable[[], Quotes]
    limits: CostLimits
    slippage_percent: Decimal

    def find_breach(self, size_usd: Decimal) -> LimitBreach | None:
        """Why an entry of `size_usd` is not made. Raises what the quotes raise."""
        try:
            self.price_entry(size_usd)
        except EntryRefused as refused:
            return refused.breach
        return None

    def price_entry(self, size_usd: Decimal) -> PricedEntry:
        """How much of the base asset `size_usd` is worth at what the book and slippage make of the price, so that the
        notional stays within it. Raises EntryRefused and what the quotes raise."""
        quotes, symbol, is_buy = self.quotes(), self.signal.symbol, self._is_buy
        book = quotes.fetch_entry_book(symbol)
        _raise_breach(check_book(book, self.limits))
        instrument = quotes.fetch_instrument(symbol)
        max_quantity = decimals.quotient(size_usd, book.get_side(is_buy=is_buy)[0].price)
        book = ensure_depth(book, quotes, symbol, max_quantity, is_buy=is_buy)
        _raise_breach(check_book(book, self.limits))  # it may be another one by now
        quantity = decimals.quotient(size_usd, self._expected_price(book, size_usd, instrument))
        limit = self._limit_price
        sent = instrument.floor_to_lot(quantity)
        _raise_breach(check_slippage(book, sent, self.limits, is_buy=is_buy, limit_price=limit))
        return PricedEntry(quantity, book.mark)

    def build_quote(self) -> Quote:
        """Best bid and ask of the book; the one that a stop of the entry is nearer to stands for the last price.

        Raises EntryRefused and what the quotes raise.
        """
        book = self.quotes().fetch_entry_book(self.signal.symbol)
        _raise_breach(check_book(book, self.limits))
        bid, ask = book.bids[0].price, book.asks[0].price
        at_ms = book.at_ms or book.clock_ms or 0
        return Quote(bid=bid, ask=ask, last=bid if self._is_buy else ask, at_ms=at_ms)

    def _expected_price(self, book: OrderBook, size_usd: Decimal, instrument: Instrument) -> Decimal:
        """Of a purchase what it pays on average, moved by the slippage; of a sale the best bid, as it may get less."""
        best = book.get_side(is_buy=self._is_buy)[0]
        if not self._is_buy:
            return best.price
        levels = select_levels_within(book.asks, self._limit_price, is_buy=True) or (best,)
        quantity = decimals.quotient(size_usd, best.price)
        average = calculate_average_price(extend_last_level(levels, quantity), quantity) or best.price
        return apply_slippage(average, instrument, is_buy=True, slippage_percent=self.slippage_percent)

    @property
    def _is_buy(self) -> bool:
        return self.signal.side is Side.LONG

    @property
    def _limit_price(self) -> Decimal | None:
        return self.signal.price if self.signal.order_type == "LIMIT" else None


def _raise_breach(breach: LimitBreach | None) -> None:
    if breach is not None:
        raise EntryRefused(breach)
