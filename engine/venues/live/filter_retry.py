"""An order as the filters of now take it, before it is sent and after it was refused for a filter that has changed."""

from decimal import Decimal

from engine.platform.errors import SparkyError
from engine.venues.ccxt_client.errors import is_listing_change
from engine.venues.live.protective_orders import TriggerOrderRequest, refit_trigger_order
from engine.venues.market_data.instrument_cache import SharedListing
from engine.venues.order_filters import fit_quantity
from engine.venues.venue import OrderRequest, Quote, Quotes

Fit = tuple[Decimal, Decimal | None]  # quantity, limit price


class OrderFitter:
    """Fits the orders of one account to what `listing` says. Call it outside the account's turn: it may wait."""

    def __init__(self, quotes: Quotes, listing: SharedListing) -> None:
        self._quotes = quotes
        self._listing = listing

    def fit(self, order: OrderRequest, price: Decimal | None, quote: Quote | None = None) -> Fit:
        """Quantity and limit price (`price` is the one that was asked for) as the filters that are known take them.

        Raises VenueRefused.
        """
        instrument = self._quotes.fetch_instrument(order.symbol)
        if order.is_entry and not instrument.is_trading:
            self._listing.refresh_for_unlisted()  # it may be traded again
            instrument = self._quotes.fetch_instrument(order.symbol)
        limit = None if price is None else instrument.round_limit_price(price, is_buy=order.is_buy)
        return fit_quantity(instrument, order, limit, quote), limit

    def refit_after_refusal(self, order: OrderRequest, price: Decimal | None, before: Fit, refusal: SparkyError) -> Fit:
        """As the filters of now take an order that was surely refused.

        Raises `refusal` where it is about no filter, or the order would be the same; VenueRefused in the words of the
        table where that names the filter.
        """
        if not is_listing_change(refusal):
            raise refusal
        self._listing.refresh_now()
        again = self.fit(order, price)
        if again == before:
            if order.is_entry:
                self.fit(order, price, self._try_fetch_quote(order.symbol))
            raise refusal
        return again

    def refit_trigger_order(self, trigger_order: TriggerOrderRequest, refusal: SparkyError) -> TriggerOrderRequest:
        """As `refit_after_refusal`, of a protective order."""
        if not is_listing_change(refusal):
            raise refusal
        self._listing.refresh_now()
        again = refit_trigger_order(trigger_order, self._quotes.fetch_instrument(trigger_order.order.symbol))
        if again == trigger_order:
            raise refusal
        return again

    def _try_fetch_quote(self, symbol: str) -> Quote | None:
        try:
            return self._quotes.fetch_quote(symbol)
        except SparkyError:
            return None
