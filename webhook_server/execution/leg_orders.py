"""Orders at a venue, each brought to a known end: asked about before it is ever sent again, never sent blind.

The orders of a leg that closes are sent one after the other, and found again by their ids after a crash.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import structlog

from engine.domain import decimals
from engine.domain.errors import OrderOutcomeUnknown, OrderRejected, OutsidePriceBand, StrategyFault, VenueUnavailable
from engine.platform.errors import CredentialsError, UpstreamUnavailable
from engine.risk.exit_quantities import MAX_PARTS
from engine.venues.orders import OrderRequest, OrderResult, OrderStatus, build_part_leg
from engine.venues.venue import Venue
from webhook_server.clock import Clock

logger = structlog.get_logger()

OrderNotMade = OrderRejected | UpstreamUnavailable | StrategyFault | CredentialsError
ORDER_NOT_MADE: Final = (OrderRejected, UpstreamUnavailable, StrategyFault, CredentialsError)
POLL_WAITS_S: Final = (0.1, 0.3, 0.8, 1.5)


@dataclass(frozen=True)
class LegOrders:
    """The filled orders of a leg, oldest first. `is_finished` says that the venue filled nothing of the one after them,
    `failure` why that one was surely not made."""

    orders: tuple[OrderResult, ...] = ()
    is_finished: bool = False
    failure: OrderNotMade | None = None

    @property
    def quantity(self) -> Decimal:
        return decimals.total(each.quantity for each in self.orders)


def find_orders(find: Callable[[str], OrderResult | None], leg: str) -> LegOrders:
    """The orders that an earlier attempt sent, by `find`, which raises OrderRejected for one that ended without a fill.

    Raises what `find` raises of the first one.
    """
    orders: list[OrderResult] = []
    for number in range(MAX_PARTS + 1):
        try:
            found = find(build_part_leg(leg, number))
        except OrderRejected:
            if not orders:
                raise
            return LegOrders(tuple(orders), is_finished=True)
        if found is None:
            break
        orders.append(found)
    return LegOrders(tuple(orders))


def send_orders(
    place: Callable[[str, Decimal], OrderResult], leg: str, parts: Sequence[Decimal], before: LegOrders
) -> LegOrders:
    """Sends `parts` after the orders `before`, until one is surely not made. Raises what `place` raises where that is
    not known."""
    orders = list(before.orders)
    for part in parts[: MAX_PARTS - len(orders)]:
        try:
            orders.append(place(build_part_leg(leg, len(orders)), part))
        except ORDER_NOT_MADE as failure:
            if orders:
                logger.warning("exit_order_failed", number=len(orders) + 1, quantity=str(part), reason=str(failure))
            return LegOrders(tuple(orders), failure=failure)
    return LegOrders(tuple(orders))


def to_retryable(failure: OrderNotMade) -> OrderNotMade:
    """`failure`, where it passes by itself as one after which the sender comes back."""
    if isinstance(failure, OutsidePriceBand):
        return VenueUnavailable(f"the exit waits for a price within the venue's band: {failure}")
    return failure


def combine_orders(orders: Sequence[OrderResult]) -> OrderResult:
    """All orders of a leg as one, under the names of the first: their quantities and fees together, their average
    price."""
    if len(orders) == 1:
        return orders[0]
    quantity = decimals.total(each.quantity for each in orders)
    value = decimals.total(decimals.product(each.quantity, each.price) for each in orders)
    is_one_price = len({each.price for each in orders}) == 1
    return orders[0].model_copy(
        update={
            "quantity": quantity,
            "price": orders[0].price if is_one_price else decimals.quotient(value, quantity),
            "fee_usd": decimals.total(each.fee_usd for each in orders),
            "at_ms": max(each.at_ms for each in orders),
        }
    )


def place_order(venue: Venue, order: OrderRequest, clock: Clock, limit: Decimal | None = None) -> OrderResult:
    """Sends `order` once, at the market or within `limit`, and returns its fill.

    Raises what the venue raises, OrderRejected when it took the order and rejected it later or when the books could not
    hold the quantity of an entry, and OrderOutcomeUnknown when it does not tell within 3 s what became of it.
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
