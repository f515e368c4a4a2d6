"""The paper venue: real quotes, simulated fills."""

import time
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

from engine.domain import decimals
from engine.domain.errors import OrderRejected, OutsidePriceBand, VenueUnavailable
from engine.platform.errors import SparkyError
from engine.venues.instrument import Instrument
from engine.venues.order_book import (
    BOOK_LEVELS,
    DEEP_LEVELS,
    OrderBook,
    calculate_average_price,
    extend_last_level,
    sum_quantities,
)
from engine.venues.order_filters import find_band_violation, fit_quantity
from engine.venues.orders import OrderRequest, OrderResult, OrderStatus, Protection
from engine.venues.quotes import Quote, Ticker
from engine.venues.venue import Quotes

_HUNDREDTH: Final = Decimal("0.01")


def apply_slippage(price: Decimal, instrument: Instrument, *, is_buy: bool, slippage_percent: Decimal) -> Decimal:
    """`price`, moved against a buyer (or seller) by `slippage_percent` and then on to the next tick.

    Rounded against the trader as well, so that paper never fills better than the market could.
    """
    side = 1 if is_buy else -1
    share = 1 + side * decimals.product(slippage_percent, _HUNDREDTH)
    moved = decimals.product(price, share)
    return max(
        decimals.round_to_step(moved, instrument.tick, ROUND_CEILING if is_buy else ROUND_FLOOR), instrument.tick
    )


class PaperVenue:
    """Fills an acceptable order at once and in full, or rejects it; taker fee in percent of the notional.

    The price is the average of the order book's levels that the order takes, worsened by the slippage. An entry larger
    than the book is rejected; an exit larger than the book pays the last level's price for the remainder.

    It is stateless: the books are the only record of a paper fill, so `find_order` finds nothing, and an order that was
    not booked may be sent again. It has no positions, so `reduce_only` is not checked. Stops and targets do not rest
    here; the webhook server executes them as it marks positions to market.

    `refresh_instruments` is called before an entry, because no venue rejects a paper order for a filter that changed.
    """

    def __init__(
        self,
        quotes: Quotes,
        fee_percent: Decimal,
        slippage_percent: Decimal,
        refresh_instruments: Callable[[], None] = lambda: None,
    ) -> None:
        self._quotes = quotes
        self._refresh_instruments = refresh_instruments
        self._fee_percent = fee_percent
        self._slippage_percent = slippage_percent

    def fetch_quote(self, symbol: str) -> Quote:
        return self._quotes.fetch_quote(symbol)

    def fetch_ticker(self, symbol: str) -> Ticker:
        return self._quotes.fetch_ticker(symbol)

    def fetch_order_book(self, symbol: str) -> OrderBook:
        return self._quotes.fetch_order_book(symbol)

    def fetch_entry_book(self, symbol: str, levels: int = BOOK_LEVELS) -> OrderBook:
        self._refresh_instruments()
        return self._quotes.fetch_entry_book(symbol, levels)

    def fetch_instrument(self, symbol: str) -> Instrument:
        return self._quotes.fetch_instrument(symbol)

    def refresh_instrument(self, symbol: str) -> Instrument:
        return self._quotes.refresh_instrument(symbol)

    def prepare_entry(self, entry: OrderRequest, *, is_flat: bool = False) -> bool:  # noqa: ARG002 - see below
        return False

    def place_market_order(self, order: OrderRequest) -> OrderResult:
        """Raises OrderRejected for an order that violates a filter, and what the quotes raise."""
        return self._fill_order(order, None)

    def place_limit_order(self, order: OrderRequest, limit_price: Decimal) -> OrderResult:
        """The market order's fill if it is within the limit, slippage included, else OrderRejected; never a part."""
        return self._fill_order(order, limit_price)

    def fill_exit_at(self, order: OrderRequest, price: Decimal, at_ms: int, fee_usd: Decimal | None) -> OrderResult:
        """The exit of a position at a past price: a liquidation, or a stop or target that was reached at `at_ms`.

        With `fee_usd` (USD), price and fee are used as given; without, slippage and the taker fee are applied.
        """
        if fee_usd is None:
            instrument, slippage = self.fetch_instrument(order.symbol), self._slippage_percent
            price = apply_slippage(price, instrument, is_buy=order.is_buy, slippage_percent=slippage)
            fee_usd = self._calculate_fee(order.quantity, price)
        return _build_result(order, order.quantity, price, fee_usd, at_ms)

    def find_order(self, symbol: str, client_order_id: str) -> OrderResult | None:  # noqa: ARG002 - the protocol's
        return None

    def place_protection(self, protection: Protection, *, reuse_existing: bool = False) -> tuple[OrderResult, ...]:  # noqa: ARG002 - see above
        return ()

    def cancel_order(self, symbol: str, client_order_id: str) -> OrderResult | None:  # noqa: ARG002 - see above
        return None

    def _fill_order(self, order: OrderRequest, limit_price: Decimal | None) -> OrderResult:
        book = None if order.reduce_only else self.fetch_entry_book(order.symbol)
        instrument = self.fetch_instrument(order.symbol)
        limit = None if limit_price is None else instrument.round_limit_price(limit_price, is_buy=order.is_buy)
        if book is None:
            quantity = fit_quantity(instrument, order, limit)
            average, at_ms = self._price_exit(order, instrument)
        else:
            quantity = fit_quantity(instrument, order, limit, _build_quote(book))
            average, at_ms = self._price_entry(order, book, quantity)
        price = apply_slippage(average, instrument, is_buy=order.is_buy, slippage_percent=self._slippage_percent)
        if limit is not None:
            _check_limit(limit, price, order)
        return _build_result(order, quantity, price, self._calculate_fee(quantity, price), at_ms)

    def _calculate_fee(self, quantity: Decimal, price: Decimal) -> Decimal:
        return decimals.round_for_books(
            decimals.product(decimals.product(quantity, price), decimals.product(self._fee_percent, _HUNDREDTH))
        )

    def _price_exit(self, order: OrderRequest, instrument: Instrument) -> tuple[Decimal, int]:
        """Average price and time (ms) of an exit; it needs one side of the book only. Raises UpstreamUnavailable where
        that side is empty."""
        book = self.fetch_order_book(order.symbol)
        self._check_band(order, instrument, _build_quote(book))
        average = calculate_average_price(
            extend_last_level(book.get_side(is_buy=order.is_buy), order.quantity), order.quantity
        )
        if average is None:
            raise VenueUnavailable(f"{order.symbol}: {book.fault}")
        return average, _get_book_time_ms(book)

    def _check_band(self, order: OrderRequest, instrument: Instrument, quote: Quote | None) -> None:
        """Raises OutsidePriceBand. Fetches the last price only if the book is wide enough for a violation."""
        if quote is None or _find_far_side_violation(order, instrument, quote) is None:
            return
        try:
            last = self.fetch_ticker(order.symbol).last
        except SparkyError:
            return  # an exit is not refused for a price that cannot be fetched
        reason = find_band_violation(instrument, order, quote.model_copy(update={"last": last}))
        if reason is not None:
            raise OutsidePriceBand(f"{order.symbol}: {reason}")

    def _price_entry(self, order: OrderRequest, book: OrderBook, quantity: Decimal) -> tuple[Decimal, int]:
        """Average price and time (ms) of an entry. Raises OrderRejected where the book is too small."""
        book = ensure_depth(book, self._quotes, order.symbol, quantity, is_buy=order.is_buy)
        average = calculate_average_price(book.get_side(is_buy=order.is_buy), quantity)
        if average is None:
            raise OrderRejected(f"{order.symbol}: the order book ends before {decimals.format_plain(quantity)}")
        return average, _get_book_time_ms(book)


def _build_quote(book: OrderBook) -> Quote | None:
    """The quote for filters that depend on prices; None where the book has a fault."""
    if book.fault is not None:
        return None
    bid, ask = book.bids[0].price, book.asks[0].price
    return Quote(bid=bid, ask=ask, last=book.mark or bid, at_ms=_get_book_time_ms(book))


def _find_far_side_violation(order: OrderRequest, instrument: Instrument, quote: Quote) -> str | None:
    """The violation if the last price were the best price of the other side, which is the worst case."""
    other = quote.bid if order.is_buy else quote.ask
    return find_band_violation(instrument, order, quote.model_copy(update={"last": other}))


def _get_book_time_ms(book: OrderBook) -> int:
    """The venue's time, else this host's."""
    return book.at_ms or book.clock_ms or time.time_ns() // 1_000_000


def ensure_depth(book: OrderBook, quotes: Quotes, symbol: str, quantity: Decimal, *, is_buy: bool) -> OrderBook:
    """`book`, or one with more levels if it was cut off before `quantity`. Raises what `quotes` raises."""
    if book.is_cut and sum_quantities(book.get_side(is_buy=is_buy)) < quantity:
        return quotes.fetch_entry_book(symbol, DEEP_LEVELS)
    return book


def _check_limit(limit: Decimal, price: Decimal, order: OrderRequest) -> None:
    if (price > limit) if order.is_buy else (price < limit):
        side = "buy at most" if order.is_buy else "sell at least"
        reason = f"{order.symbol}: the market fills at {decimals.format_plain(price)}, and the limit is to {side} at "
        reason += decimals.format_plain(limit)
        raise OrderRejected(reason, "not_marketable")


def _build_result(order: OrderRequest, quantity: Decimal, price: Decimal, fee_usd: Decimal, at_ms: int) -> OrderResult:
    return OrderResult(
        order_id=f"paper-{order.client_order_id}",
        client_order_id=order.client_order_id,
        status=OrderStatus.FILLED,
        price=price,
        quantity=quantity,
        fee_usd=fee_usd,
        at_ms=at_ms,
    )
