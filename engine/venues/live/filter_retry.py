"""Fits orders to the instrument's filters, before sending and after a rejection for a filter that has changed."""

from decimal import Decimal

from engine.platform.errors import SparkyError
from engine.venues.ccxt_client.errors import is_listing_change
from engine.venues.ccxt_client.instrument_cache import SharedListing
from engine.venues.live.protective_orders import TriggerOrderRequest, refit_trigger_order
from engine.venues.order_filters import fit_quantity
from engine.venues.orders import OrderRequest
from engine.venues.quotes import Quote
from engine.venues.venue import Quotes

FittedOrder = tuple[Decimal, Decimal | None]  # quantity, limit price


class OrderFitter:
    """Fits the orders of one account to `listing`. It may wait, so call it without the account's lock."""

    def __init__(self, quotes: Quotes, listing: SharedListing) -> None:
        self._quotes = quotes
        self._listing = listing

    def fit(self, order: OrderRequest, price: Decimal | None, quote: Quote | None = None) -> FittedOrder:
        """Quantity and limit price that the known filters accept; `price` is the requested limit. Raises
        OrderRejected."""
        instrument = self._quotes.fetch_instrument(order.symbol)
        if order.is_entry and not instrument.is_trading:
            self._listing.refresh_for_unlisted()  # it may be traded again
            instrument = self._quotes.fetch_instrument(order.symbol)
        limit = None if price is None else instrument.round_limit_price(price, is_buy=order.is_buy)
        return fit_quantity(instrument, order, limit, quote), limit

    def refit_after_refusal(
        self, order: OrderRequest, price: Decimal | None, before: FittedOrder, refusal: SparkyError
    ) -> FittedOrder:
        """Quantity and limit price by a refreshed list, for an order that was rejected for certain.

        Raises `refusal` where it is not about a filter, or the order would be the same; instead OrderRejected with the
        violated filter, where `engine.venues.order_filters` finds it.
        """
        if not is_listing_change(refusal):
            raise refusal
        self._listing.refresh_now()
        refitted = self.fit(order, price)
        if refitted == before:
            if order.is_entry:
                # With a quote, filters that depend on prices are checked too, and name themselves in the refusal.
                self.fit(order, price, self._try_fetch_quote(order.symbol))
            raise refusal
        return refitted

    def refit_trigger_order(self, trigger_order: TriggerOrderRequest, refusal: SparkyError) -> TriggerOrderRequest:
        """As `refit_after_refusal`, of a protective order."""
        if not is_listing_change(refusal):
            raise refusal
        self._listing.refresh_now()
        refitted = refit_trigger_order(trigger_order, self._quotes.fetch_instrument(trigger_order.order.symbol))
        if refitted == trigger_order:
            raise refusal
        return refitted

    def _try_fetch_quote(self, symbol: str) -> Quote | None:
        try:
            return self._quotes.fetch_quote(symbol)
        except SparkyError:
            return None
