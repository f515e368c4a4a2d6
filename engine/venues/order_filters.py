"""Which filter of its instrument an order violates; shared, so that paper and live reject the same orders alike."""

from decimal import Decimal
from typing import NamedTuple

from engine.domain.decimals import format_plain, product
from engine.domain.errors import OrderRejected, RejectionKind
from engine.venues.instrument import Instrument, LotSize
from engine.venues.orders import OrderRequest
from engine.venues.quotes import Quote


class FilterViolation(NamedTuple):
    """A refusal's kind, and its reason without the symbol."""

    kind: RejectionKind
    reason: str


def fit_quantity(
    instrument: Instrument, order: OrderRequest, limit_price: Decimal | None = None, quote: Quote | None = None
) -> Decimal:
    """The quantity of `order` floored to the lot. Raises OrderRejected if the order violates a filter.

    With a `limit_price` (on the tick) it is a limit order. Without a `quote`, filters that depend on prices are checked
    for limit orders only. Exits are checked for their quantity only: the venue applies fewer filters to reductions, and
    an exit that it might accept must be sent.
    """
    broken = find_violation(instrument, order, limit_price, quote)
    if broken is not None:
        raise OrderRejected(f"{order.symbol}: {broken.reason}", broken.kind)
    return select_lot(instrument, is_limit=limit_price is not None).floor_quantity(order.quantity)


def select_lot(instrument: Instrument, *, is_limit: bool) -> LotSize:
    """The lot size for limit or market orders."""
    return instrument.limit if is_limit and instrument.limit is not None else instrument.market_lot


def find_violation(
    instrument: Instrument, order: OrderRequest, limit_price: Decimal | None, quote: Quote | None
) -> FilterViolation | None:
    """The first filter that the order, floored, violates; None when it violates none."""
    lot = select_lot(instrument, is_limit=limit_price is not None)
    size = _check_size(order, lot)
    if not order.is_entry:
        return size
    price = _estimate_price(order, limit_price, quote)
    return (
        _check_status(instrument)
        or _check_leverage(instrument, order)
        or size
        or _check_band(instrument, order, price, quote)
        or _check_notional(instrument, lot.floor_quantity(order.quantity), price)
    )


def find_band_violation(instrument: Instrument, order: OrderRequest, quote: Quote) -> str | None:
    """Why the price filter keeps a market order from filling at `quote`; None if it does not."""
    broken = _check_band(instrument, order, _estimate_price(order, None, quote), quote)
    return None if broken is None else broken.reason


def _check_status(instrument: Instrument) -> FilterViolation | None:
    if instrument.is_trading:
        return None
    return FilterViolation(
        "filter", f"it is not traded now (the venue's list: {instrument.status}); positions can be closed"
    )


def _check_leverage(instrument: Instrument, order: OrderRequest) -> FilterViolation | None:
    max_leverage = instrument.max_leverage
    if max_leverage is None or order.leverage is None or order.leverage <= max_leverage:
        return None
    return FilterViolation("leverage", f"leverage {order.leverage} is above the maximum of {max_leverage}")


def _check_size(order: OrderRequest, lot: LotSize) -> FilterViolation | None:
    fault = lot.find_fault(order.quantity)
    return None if fault is None else FilterViolation("filter", fault)


def _estimate_price(order: OrderRequest, limit_price: Decimal | None, quote: Quote | None) -> Decimal | None:
    """The price at which the venue values the order."""
    if limit_price is not None or quote is None:
        return limit_price
    return quote.ask if order.is_buy else quote.bid


def _check_band(
    instrument: Instrument, order: OrderRequest, price: Decimal | None, quote: Quote | None
) -> FilterViolation | None:
    """Uses the last price as an estimate of the mark price."""
    share = instrument.multiplier_up if order.is_buy else instrument.multiplier_down
    if price is None or quote is None or share is None:
        return None
    bound, side = product(quote.last, share), "above" if order.is_buy else "below"
    if (price <= bound) if order.is_buy else (price >= bound):
        return None
    return FilterViolation(
        "filter", f"price {format_plain(price)} is {side} {format_plain(share)} times the mark price"
    )


def _check_notional(instrument: Instrument, quantity: Decimal, price: Decimal | None) -> FilterViolation | None:
    if price is None:
        return None
    notional = product(quantity, price)
    if notional >= instrument.min_notional:
        return None
    return FilterViolation(
        "filter", f"notional {format_plain(notional)} is below the minimum of {format_plain(instrument.min_notional)}"
    )
