"""Which filter of its instrument an order breaks: one table, so that paper and live refuse the same orders in the same
words."""

from decimal import Decimal
from typing import NamedTuple

from engine.domain.decimals import digits, product
from engine.domain.errors import RefusalKind, VenueRefused
from engine.venues.venue import Instrument, LotSize, OrderRequest, Quote


class Broken(NamedTuple):
    """A refusal's kind, and its reason without the symbol."""

    kind: RefusalKind
    reason: str


def fitted(
    instrument: Instrument, order: OrderRequest, limit_price: Decimal | None = None, quote: Quote | None = None
) -> Decimal:
    """The quantity in which `order` may be sent: floored, never more than was asked for. Raises VenueRefused.

    `limit_price`, on the tick, makes it a limit order. Without a `quote` what depends on prices is checked for limit
    orders alone. An exit is refused for its quantity only, where flooring does not help: the rest the venue judges.
    """
    broken = broken_filter(instrument, order, limit_price, quote)
    if broken is not None:
        raise VenueRefused(f"{order.symbol}: {broken.reason}", broken.kind)
    return lot_of(instrument, is_limit=limit_price is not None).floored(order.quantity)


def lot_of(instrument: Instrument, *, is_limit: bool) -> LotSize:
    """What the venue takes as the quantity of such an order."""
    return instrument.limit if is_limit and instrument.limit is not None else instrument.market_lot


def broken_filter(
    instrument: Instrument, order: OrderRequest, limit_price: Decimal | None, quote: Quote | None
) -> Broken | None:
    """The first filter that the order, floored, breaks; None when it breaks none."""
    lot = lot_of(instrument, is_limit=limit_price is not None)
    size = _size(order, lot)
    if not order.is_entry:
        return size
    price = _price(order, limit_price, quote)
    return (
        _status(instrument)
        or _leverage(instrument, order)
        or size
        or _band(instrument, order, price, quote)
        or _notional(instrument, lot.floored(order.quantity), price)
    )


def outside_band(instrument: Instrument, order: OrderRequest, quote: Quote) -> str | None:
    """Why the venue fills nothing of a market order at `quote`, by its filter of prices; None where it does."""
    broken = _band(instrument, order, _price(order, None, quote), quote)
    return None if broken is None else broken.reason


def _status(instrument: Instrument) -> Broken | None:
    if instrument.is_trading:
        return None
    return Broken("filter", f"it is not traded now (the venue's list: {instrument.status}); positions can be closed")


def _leverage(instrument: Instrument, order: OrderRequest) -> Broken | None:
    most = instrument.max_leverage
    if most is None or order.leverage is None or order.leverage <= most:
        return None
    return Broken("leverage", f"leverage {order.leverage} is above the most of {most}")


def _size(order: OrderRequest, lot: LotSize) -> Broken | None:
    fault = lot.fault(order.quantity)
    return None if fault is None else Broken("filter", fault)


def _price(order: OrderRequest, limit_price: Decimal | None, quote: Quote | None) -> Decimal | None:
    """What the venue values the order at."""
    if limit_price is not None or quote is None:
        return limit_price
    return quote.ask if order.is_buy else quote.bid


def _band(instrument: Instrument, order: OrderRequest, price: Decimal | None, quote: Quote | None) -> Broken | None:
    """The last price stands for the mark price, which venues keep near to it."""
    share = instrument.multiplier_up if order.is_buy else instrument.multiplier_down
    if price is None or quote is None or share is None:
        return None
    bound, side = product(quote.last, share), "above" if order.is_buy else "below"
    if (price <= bound) if order.is_buy else (price >= bound):
        return None
    return Broken("filter", f"price {digits(price)} is {side} {digits(share)} times the mark price")


def _notional(instrument: Instrument, quantity: Decimal, price: Decimal | None) -> Broken | None:
    if price is None:
        return None
    notional = product(quantity, price)
    if notional >= instrument.min_notional:
        return None
    return Broken("filter", f"notional {digits(notional)} is below the minimum of {digits(instrument.min_notional)}")
