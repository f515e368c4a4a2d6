"""One order at a venue, brought to a known end: asked about before it is ever sent again, never sent blind."""

from decimal import Decimal
from typing import Final

from engine.domain import decimals
from engine.domain.errors import OrderOutcomeUnknown, OrderRejected, StrategyFault
from engine.platform.errors import CredentialsError, UpstreamUnavailable
from engine.venues.orders import OrderRequest, OrderResult, OrderStatus
from engine.venues.venue import Venue
from webhook_server.clock import Clock

POLL_WAITS_S: Final = (0.1, 0.3, 0.8, 1.5)


def place_order(venue: Venue, order: OrderRequest, clock: Clock, limit: Decimal | None = None) -> OrderResult:
    """Sends `order` once, at the market or within `limit`, and returns its fill.

    Raises what the venue raises, VenueRefused when it took the order and rejected it later or when the books could not
    hold the quantity of an entry, and OutcomeUnknown when it does not tell within 3 s what became of it.
    """
    if order.leverage is not None and not _is_booked_exactly(order.quantity):
        quantity = decimals.format_plain(order.quantity)
        raise OrderRejected(f"{order.symbol}: quantity {quantity} has more digits than the books hold", "filter")
    result, send_error = None, ""
    try:
        result = venue.place_market_order(order) if limit is None else venue.place_limit_order(order, limit)
    except OrderOutcomeUnknown as error:
        send_error = f": {error}"
    try:
        return _await_fill(venue, order.symbol, order.client_order_id, result, clock)
    except OrderOutcomeUnknown as error:
        raise OrderOutcomeUnknown(f"{error}{send_error}") from error
    except (UpstreamUnavailable, StrategyFault, CredentialsError) as error:
        # That the venue cannot be asked now does not mean that it did not take the order.
        raise OrderOutcomeUnknown(f"order {order.client_order_id} was sent, then {error}") from error


def _is_booked_exactly(quantity: Decimal) -> bool:
    return decimals.MIN_STEP <= quantity < decimals.UPPER_BOUND and decimals.round_for_books(quantity) == quantity


def find_order(venue: Venue, symbol: str, client_order_id: str, clock: Clock) -> OrderResult | None:
    """The fill of an order that an earlier attempt may have sent; None when the venue knows no such order.

    Raises as `place_order` does.
    """
    known = venue.find_order(symbol, client_order_id)
    return None if known is None else _await_fill(venue, symbol, client_order_id, known, clock)


def _await_fill(
    venue: Venue, symbol: str, client_order_id: str, result: OrderResult | None, clock: Clock
) -> OrderResult:
    for wait_s in POLL_WAITS_S:
        if result is not None and result.status is not OrderStatus.OPEN:
            break
        clock.sleep(wait_s)
        result = venue.find_order(symbol, client_order_id)
    if result is None or result.status is OrderStatus.OPEN:
        raise OrderOutcomeUnknown(f"order {client_order_id} has no known end yet")
    if result.status is OrderStatus.REJECTED or result.quantity <= 0:
        raise OrderRejected(f"the venue rejected order {result.order_id}")
    return result
