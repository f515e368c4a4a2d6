"""The venue where nothing is at stake: real quotes, fills made up by one honest rule."""

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Final

from engine.exchanges.venue import Instrument, OrderRequest, OrderResult, OrderStatus, Quote, Quotes

FEE_STEP: Final = Decimal("1e-8")  # what the books keep of fees


def fill_price(quote: Quote, instrument: Instrument, *, is_buy: bool, slippage_percent: Decimal) -> Decimal:
    """The ask (buying) or bid (selling), moved against us by `slippage_percent` and then on to the next tick."""
    side = 1 if is_buy else -1
    moved = (quote.ask if is_buy else quote.bid) * (1 + side * slippage_percent / 100)
    ticks = (moved / instrument.tick).to_integral_value(ROUND_CEILING if is_buy else ROUND_FLOOR)
    return max(ticks, Decimal(1)) * instrument.tick


class PaperVenue:
    """Fills every acceptable market order at once and in full; taker fee in percent of the notional.

    It keeps nothing: the books are the only record of a paper fill, so an order that was not booked never happened and
    may be sent again, and `order_by_client_id` knows none. It cannot see positions: `reduce_only` is the caller's
    word.
    """

    def __init__(self, quotes: Quotes, fee_percent: Decimal, slippage_percent: Decimal) -> None:
        self._quotes = quotes
        self._fee_percent = fee_percent
        self._slippage_percent = slippage_percent

    def quote(self, symbol: str) -> Quote:
        return self._quotes.quote(symbol)

    def instrument(self, symbol: str) -> Instrument:
        return self._quotes.instrument(symbol)

    def market_order(self, order: OrderRequest) -> OrderResult:
        """Raises VenueRefused for a quantity the instrument does not take, and what the quotes raise."""
        instrument = self.instrument(order.symbol)
        quote = self.quote(order.symbol)
        price = fill_price(quote, instrument, is_buy=order.is_buy, slippage_percent=self._slippage_percent)
        quantity = instrument.accepted(order.quantity, price, reduce_only=order.reduce_only)
        fee_usd = (quantity * price * self._fee_percent / 100).quantize(FEE_STEP, ROUND_HALF_EVEN)
        return OrderResult(
            order_id=f"paper-{order.client_order_id}",
            client_order_id=order.client_order_id,
            status=OrderStatus.FILLED,
            price=price,
            quantity=quantity,
            fee_usd=fee_usd,
            at_ms=quote.at_ms,
        )

    def order_by_client_id(self, symbol: str, client_order_id: str) -> OrderResult | None:  # noqa: ARG002 - the protocol's
        return None
