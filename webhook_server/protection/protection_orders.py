"""Compares the protection of one live position with the open orders at its venue, and places a protective order."""

from collections.abc import Mapping

from engine.domain.errors import OrderIdTaken
from engine.domain.positions import Position
from engine.risk.exit_quantities import protected_quantity
from engine.venues.account_state import OpenOrder
from engine.venues.instrument import Instrument
from engine.venues.orders import OrderResult, OrderStatus, Protection
from engine.venues.venue import LiveVenue
from webhook_server.protection.position_protection import (
    STOP_LOSS_REASON,
    TAKE_PROFIT_REASON,
    build_protection,
    fetch_unlisted_orders,
    fired_reason_among,
    is_unbooked_exit,
    split_protection,
)


def compare_orders(
    account: LiveVenue, position: Position, waiting: Mapping[str | None, OpenOrder], instrument: Instrument
) -> tuple[str | None, list[Protection]]:
    """The exit reason of a protective order that has filled (None: none has), and the protection that lacks an order.

    `waiting` are the open orders of the symbol by client order id. Raises what the account raises.
    """
    unlisted = fetch_unlisted_orders(account, position, waiting)
    quantity = protected_quantity(position.quantity, instrument)
    wanted = split_protection(build_protection(position, quantity or position.quantity))
    # An order that is open yet not listed is being triggered, or new: a second one in its place would close positions
    # of other strategies.
    missing = [
        protection
        for protection in wanted
        if not _is_waiting(protection, waiting, instrument) and not _is_open(unlisted.get(get_order_id(protection)))
    ]
    return fired_reason_among(position, unlisted), missing


def get_order_id(protection: Protection) -> str:
    """The client order id of a protection that is one order."""
    return protection.stop_loss_id if protection.stop_loss_price is not None else protection.take_profit_id


def get_exit_reason(protection: Protection) -> str:
    """The exit reason of the trade when a protection that is one order has filled."""
    return STOP_LOSS_REASON if protection.stop_loss_price is not None else TAKE_PROFIT_REASON


def place_or_find_filled(
    account: LiveVenue, position: Position, protection: Protection, waiting: Mapping[str | None, OpenOrder]
) -> bool:
    """Places a protection that is one order; one that waits under its id, for another quantity, is cancelled before.

    Returns whether it turned out to have filled, which was the exit. Raises what the account raises, and OrderIdTaken
    also where the venue has an older order of that id, which has filled and is in the books.
    """
    order_id = get_order_id(protection)
    if order_id in waiting:
        cancelled = account.cancel_order(protection.symbol, order_id)
        if cancelled is not None and cancelled.status is OrderStatus.FILLED:
            return True
    filled = [order for order in account.place_protection(protection) if order.status is OrderStatus.FILLED]
    if filled and not any(is_unbooked_exit(order, position) for order in filled):
        raise OrderIdTaken(f"the venue takes no second order under the id {order_id}, whose order has filled")
    return bool(filled)


def _is_open(order: OrderResult | None) -> bool:
    return order is not None and order.status is OrderStatus.OPEN


def _is_waiting(protection: Protection, waiting: Mapping[str | None, OpenOrder], instrument: Instrument) -> bool:
    """Whether its order is open, as a reduction of the quantity that one order can have (0: of the whole position). A
    quantity that was rounded by older order sizes of the instrument is as good."""
    order = waiting.get(get_order_id(protection))
    if order is None or not order.reduce_only:
        return False
    has_same_quantity = order.quantity in (0, protection.quantity)
    return has_same_quantity or protected_quantity(order.quantity, instrument) == protection.quantity
