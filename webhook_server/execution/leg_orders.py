"""The orders of one leg that closes: sent one after the other, and found again by their ids after a crash."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import structlog

from engine.domain import decimals
from engine.domain.errors import OrderRejected, OutsidePriceBand, StrategyFault, VenueUnavailable
from engine.platform.errors import CredentialsError, UpstreamUnavailable
from engine.risk.order_sizes import MAX_PARTS, build_part_leg
from engine.venues.orders import OrderResult

logger = structlog.get_logger()

OrderNotMade = OrderRejected | UpstreamUnavailable | StrategyFault | CredentialsError
ORDER_NOT_MADE: Final = (OrderRejected, UpstreamUnavailable, StrategyFault, CredentialsError)


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
    """The orders that an earlier attempt sent, by `find`, which raises VenueRefused for one that ended without a fill.

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
