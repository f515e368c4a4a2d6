"""An order as the filters of now take it, before it is sent and after it was refused for a filter that has changed."""

from decimal import Decimal

from engine.platform.errors import SparkyError
from engine.venues.ccxt_client.errors import means_other_listing
from engine.venues.live.protective_orders import Leg, refitted
from engine.venues.market_data.instrument_cache import SharedListing
from engine.venues.order_filters import fitted
from engine.venues.venue import OrderRequest, Quote, Quotes

Fit = tuple[Decimal, Decimal | None]  # quantity, limit price


class Fitter:
    """Fits the orders of one account to what `listing` says. Call it outside the account's turn: it may wait."""

    def __init__(self, quotes: Quotes, listing: SharedListing) -> None:
        self._quotes = quotes
        self._listing = listing

    def fit(self, order: OrderRequest, price: Decimal | None, quote: Quote | None = None) -> Fit:
        """Quantity and limit price (`price` is the one that was asked for) as the filters that are known take them.

        Raises VenueRefused.
        """
        instrument = self._quotes.instrument(order.symbol)
        if order.is_entry and not instrument.is_trading:
            self._listing.search()  # it may be traded again
            instrument = self._quotes.instrument(order.symbol)
        limit = None if price is None else instrument.limit_price(price, is_buy=order.is_buy)
        return fitted(instrument, order, limit, quote), limit

    def fit_again(self, order: OrderRequest, price: Decimal | None, before: Fit, refusal: SparkyError) -> Fit:
        """As the filters of now take an order that was surely refused.

        Raises `refusal` where it is about no filter, or the order would be the same; VenueRefused in the words of the
        table where that names the filter.
        """
        if not means_other_listing(refusal):
            raise refusal
        self._listing.read_at_once()
        again = self.fit(order, price)
        if again == before:
            if order.is_entry:
                self.fit(order, price, self._quote_if_any(order.symbol))
            raise refusal
        return again

    def leg_again(self, leg: Leg, refusal: SparkyError) -> Leg:
        """As `fit_again`, of a protective order."""
        if not means_other_listing(refusal):
            raise refusal
        self._listing.read_at_once()
        again = refitted(leg, self._quotes.instrument(leg.order.symbol))
        if again == leg:
            raise refusal
        return again

    def _quote_if_any(self, symbol: str) -> Quote | None:
        try:
            return self._quotes.quote(symbol)
        except SparkyError:
            return None
