"""The venue where nothing is at stake: real quotes, fills made up by one honest rule."""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

from engine import booked
from engine.errors import VenueRefused
from engine.exchanges.order_filters import fitted
from engine.exchanges.venue import Instrument, OrderRequest, OrderResult, OrderStatus, Protection, Quote, Quotes

_HUNDREDTH: Final = Decimal("0.01")


def fill_price(quote: Quote, instrument: Instrument, *, is_buy: bool, slippage_percent: Decimal) -> Decimal:
    """The ask (buying) or bid (selling), moved against us by `slippage_percent` and then on to the next tick."""
    side = 1 if is_buy else -1
    share = 1 + side * booked.product(slippage_percent, _HUNDREDTH)
    moved = booked.product(quote.ask if is_buy else quote.bid, share)
    return max(booked.stepped(moved, instrument.tick, ROUND_CEILING if is_buy else ROUND_FLOOR), instrument.tick)


class PaperVenue:
    """Fills an acceptable order at once and in full, or refuses it; taker fee in percent of the notional.

    It keeps nothing: the books are the only record of a paper fill, so an order that was not booked never happened and
    may be sent again, and `order_by_client_id` knows none. It cannot see positions: `reduce_only` is the caller's
    word. Nothing waits here: stops and targets are executed by whoever marks the books at the market's price.
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
        """Raises VenueRefused for what a filter of the instrument does not take, and what the quotes raise."""
        return self._filled(order, None)

    def limit_order(self, order: OrderRequest, limit_price: Decimal) -> OrderResult:
        """The market order's fill when that is within the limit, slippage included; else VenueRefused.

        A part that might have filled is not made up.
        """
        return self._filled(order, limit_price)

    def order_by_client_id(self, symbol: str, client_order_id: str) -> OrderResult | None:  # noqa: ARG002 - the protocol's
        return None

    def protect(self, protection: Protection, *, again: bool = False) -> tuple[OrderResult, ...]:  # noqa: ARG002 - see above
        return ()

    def cancel(self, symbol: str, client_order_id: str) -> OrderResult | None:  # noqa: ARG002 - see above
        return None

    def _filled(self, order: OrderRequest, limit_price: Decimal | None) -> OrderResult:
        instrument = self.instrument(order.symbol)
        quote = self.quote(order.symbol)
        price = fill_price(quote, instrument, is_buy=order.is_buy, slippage_percent=self._slippage_percent)
        limit = None if limit_price is None else instrument.limit_price(limit_price, is_buy=order.is_buy)
        quantity = fitted(instrument, order, limit, quote)
        if limit is not None:
            _check_within(limit, price, order)
        fee_usd = booked.kept(booked.product(quantity, price, self._fee_percent, _HUNDREDTH))
        return OrderResult(
            order_id=f"paper-{order.client_order_id}",
            client_order_id=order.client_order_id,
            status=OrderStatus.FILLED,
            price=price,
            quantity=quantity,
            fee_usd=fee_usd,
            at_ms=quote.at_ms,
        )


def _check_within(limit: Decimal, price: Decimal, order: OrderRequest) -> None:
    if (price > limit) if order.is_buy else (price < limit):
        side = "buy at most" if order.is_buy else "sell at least"
        reason = f"{order.symbol}: the market fills at {booked.digits(price)}, and the limit is to {side} at "
        reason += booked.digits(limit)
        raise VenueRefused(reason, "not_marketable")
