"""Stop-loss and take-profit orders that wait at a live venue: placed with the entry, taken down with the exit."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final
from uuid import UUID, uuid5

import structlog

from engine.domain.errors import VenueRefused
from engine.domain.positions import Position
from engine.platform.errors import SparkyError
from engine.risk.order_sizes import protected_quantity
from engine.store.webhook_rows import PlacedProtection
from engine.venues.venue import (
    STOP_LOSS,
    TAKE_PROFIT,
    OrderResult,
    OrderStatus,
    Protection,
    Venue,
    client_order_id,
)
from webhook_server.execution.execution_context import Trade
from webhook_server.metrics import Metrics

logger = structlog.get_logger()

STOPPED: Final = "stop_loss"
TARGET: Final = "take_profit"
Fired = tuple[str, OrderResult]  # why a position was exited at the venue, and the fill


@dataclass(frozen=True)
class Guard:
    """The protective orders of the position that `trade` is about. On paper there are none."""

    trade: Trade
    venue: Venue
    metrics: Metrics

    def placed(self, position: Position) -> tuple[PlacedProtection, Fired | None]:
        """Protects all of `position`, which this request opened or added to; what protected it before is cancelled.

        When one of those has filled meanwhile, the position is smaller than `position` says: why, and its fill. Where
        others' opposite positions leave the account nothing to reduce, nothing waits: the books have the prices, at
        which the server itself closes. Raises what `Venue.protect` raises: nothing new waits then, or it is not known.
        """
        wanted = self._own(position)
        try:
            orders = self.venue.protect(wanted, again=self.trade.may_have_been_sent)
        except VenueRefused as refusal:
            if refusal.kind != "reduce_only":
                raise
            orders = ()
        fired = self._cancelled(position, keep=(wanted.stop_loss_id, wanted.take_profit_id))
        return noted(wanted, orders), fired

    def withdrawn(self) -> None:
        """Makes sure that no order of this request waits."""
        for letter in (STOP_LOSS, TAKE_PROFIT):
            self.venue.cancel(self.trade.order.symbol, self.trade.client_order_id(letter))

    def taken_down(self, held: Position) -> Fired | None:
        """Cancels what protects `held`. When one of the orders has filled that was the exit: why, and its fill."""
        return None if self.trade.is_paper else self._cancelled(held)

    def has_fired(self, held: Position) -> bool:
        """Whether an order that protected `held` has filled, unseen so far."""
        names = () if self.trade.is_paper else [name for name in ids(held) if name is not None]
        orders = [self.venue.order_by_client_id(held.symbol, name) for name in names]
        return any(is_new_exit(order, held) for order in orders)

    def put_back(self, held: Position, quantity: Decimal) -> None:
        """Protects `quantity` that stays of `held`, as before. A failure is said loudly, and `Watch` will try again;
        what was traded stands."""
        if self.trade.is_paper or ids(held) == (None, None):
            return
        kept = protected_quantity(quantity, self.venue.instrument(held.symbol))
        if kept <= 0:
            return
        wanted = protection_of(held, kept)
        failures = placed_each(self.venue, wanted)
        if failures:
            self.metrics.protection_failures.labels("exit").inc()
            logger.error("position_unprotected", symbol=held.symbol, position=str(held.id), reason="; ".join(failures))

    def _own(self, position: Position) -> Protection:
        return Protection(
            signal_id=self.trade.request.order_name,
            symbol=position.symbol,
            side=position.side,
            quantity=protected_quantity(position.quantity, self.venue.instrument(position.symbol)) or position.quantity,
            stop_loss_price=position.stop_loss_price,
            take_profit_price=position.take_profit_price,
        )

    def _cancelled(self, held: Position, keep: tuple[str, ...] = ()) -> Fired | None:
        ended = [
            (reason, self.venue.cancel(held.symbol, name))
            for reason, name in zip((STOPPED, TARGET), ids(held), strict=True)
            if name is not None and name not in keep
        ]
        filled = [(reason, order) for reason, order in ended if order is not None and is_new_exit(order, held)]
        if len(filled) > 1:
            logger.error("both_protective_orders_filled", symbol=held.symbol, position=str(held.id))
        return filled[0] if filled else None


def ids(held: Position) -> tuple[str | None, str | None]:
    """Client order ids of its stop-loss and its take-profit at the venue."""
    return held.stop_loss_client_order_id, held.take_profit_client_order_id


def fired_of(account: Venue, position: Position, waiting: Container[str | None]) -> str | None:
    """Which of its orders has filled, unseen so far; those `waiting` have not."""
    return fired_among(position, unlisted(account, position, waiting))


def unlisted(account: Venue, position: Position, waiting: Container[str | None]) -> dict[str, OrderResult]:
    """Its orders that the venue knows though they are not among those `waiting`, by client order id.

    Such a one has ended, is being triggered, or is too new for the venue's list.
    """
    names = [name for name in ids(position) if name is not None and name not in waiting]
    asked = ((name, account.order_by_client_id(position.symbol, name)) for name in names)
    return {name: order for name, order in asked if order is not None}


def fired_among(position: Position, orders: Mapping[str, OrderResult]) -> str | None:
    """Why the position ended, if one of its `orders` has filled."""
    for reason, name in zip((STOPPED, TARGET), ids(position), strict=True):
        if is_new_exit(orders.get(name or ""), position):
            return reason
    return None


def is_new_exit(order: OrderResult | None, held: Position) -> bool:
    """Whether a protective order of `held` has filled and is not in the books. One that the account's net cut short is
    found under its name until another waits there."""
    return order is not None and order.status is OrderStatus.FILLED and order.order_id not in held.exit_order_ids


def protection_of(held: Position, quantity: Decimal) -> Protection:
    """What protects `quantity` of `held`, under the ids that it has, or ids of its own when it has none.

    Always as a reduction: a stop that finds nothing to reduce must not open the other side.
    """
    name = next((name for name in ids(held) if name is not None), client_order_id(held.id, STOP_LOSS))
    return Protection(
        signal_id=UUID(hex=name.partition("-")[2]),
        symbol=held.symbol,
        side=held.side,
        quantity=quantity,
        stop_loss_price=held.stop_loss_price,
        take_profit_price=held.take_profit_price,
    )


def under_other_ids(wanted: Protection) -> Protection:
    """`wanted` under the ids that follow those it has, the same ones every time."""
    return wanted.model_copy(update={"signal_id": uuid5(UUID(str(wanted.signal_id)), "another id")})


def halves(wanted: Protection) -> tuple[Protection, ...]:
    """`wanted` as up to two protections of one order each, the stop-loss first."""
    alone = (wanted.model_copy(update={"take_profit_price": None}), wanted.model_copy(update={"stop_loss_price": None}))
    return tuple(each for each in alone if (each.stop_loss_price or each.take_profit_price) is not None)


def placed_each(venue: Venue, wanted: Protection) -> list[str]:
    """Places stop-loss and take-profit each for itself, since one is better than none; why any could not be placed.

    That the account has nothing to reduce is no failure: see `Guard.placed`.
    """
    failures = []
    for half in halves(wanted):
        try:
            venue.protect(half)
        except SparkyError as error:
            if not isinstance(error, VenueRefused) or error.kind != "reduce_only":
                failures.append(str(error))
    return failures


def noted(wanted: Protection, orders: tuple[OrderResult, ...] = ()) -> PlacedProtection:
    """What the books keep of protective orders; the venue's own numbers where it has told them."""
    numbers = {order.client_order_id: order.order_id for order in orders}
    return PlacedProtection(
        stop_loss_price=wanted.stop_loss_price,
        take_profit_price=wanted.take_profit_price,
        stop_loss_order_id=numbers.get(wanted.stop_loss_id),
        take_profit_order_id=numbers.get(wanted.take_profit_id),
        stop_loss_client_order_id=wanted.stop_loss_id if wanted.stop_loss_price is not None else None,
        take_profit_client_order_id=wanted.take_profit_id if wanted.take_profit_price is not None else None,
    )
