"""Stop-loss and take-profit orders that wait at a live venue: placed with the entry, taken down with the exit."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final
from uuid import UUID, uuid5

import structlog

from engine.domain.errors import OrderRejected
from engine.domain.positions import Position
from engine.platform.errors import SparkyError
from engine.risk.exit_quantities import protected_quantity
from engine.store.webhook_rows import PlacedProtection
from engine.venues.orders import (
    PROTECTIVE_LETTERS,
    OrderLetter,
    OrderResult,
    OrderStatus,
    Protection,
    build_client_order_id,
)
from engine.venues.venue import Venue
from webhook_server.execution.execution_context import TradeContext
from webhook_server.metrics import Metrics

logger = structlog.get_logger()

STOP_LOSS_REASON: Final = "stop_loss"
TAKE_PROFIT_REASON: Final = "take_profit"
TriggeredExit = tuple[str, OrderResult]  # why a position was exited at the venue, and the fill


@dataclass(frozen=True)
class PositionProtection:
    """The protective orders of the position that `trade` is about. On paper there are none."""

    trade: TradeContext
    venue: Venue
    metrics: Metrics

    def place(self, position: Position) -> tuple[PlacedProtection, TriggeredExit | None]:
        """Protects all of `position`, which this request opened or added to; what protected it before is cancelled.

        When one of those has filled meanwhile, the position is smaller than `position` says: why, and its fill. Where
        others' opposite positions leave the account nothing to reduce, nothing waits: the books have the prices, at
        which the server itself closes. Raises what `Venue.place_protection` raises: nothing new waits then, or it is
        not known.
        """
        wanted = self._build_protection(position)
        try:
            orders = self.venue.place_protection(wanted, reuse_existing=self.trade.may_have_been_sent)
        except OrderRejected as refusal:
            if refusal.kind != "reduce_only":
                raise
            orders = ()
        fired = self._cancel_orders(position, keep=(wanted.stop_loss_id, wanted.take_profit_id))
        return to_placed_protection(wanted, orders), fired

    def cancel_own(self) -> None:
        """Makes sure that no order of this request waits."""
        for letter in PROTECTIVE_LETTERS:
            self.venue.cancel_order(self.trade.signal.symbol, self.trade.client_order_id(letter))

    def cancel_existing(self, held: Position) -> TriggeredExit | None:
        """Cancels what protects `held`. When one of the orders has filled that was the exit: why, and its fill."""
        return None if self.trade.is_paper else self._cancel_orders(held)

    def has_fired(self, held: Position) -> bool:
        """Whether an order that protected `held` has filled, unseen so far."""
        order_ids = () if self.trade.is_paper else [name for name in protective_order_ids(held) if name is not None]
        orders = [self.venue.find_order(held.symbol, name) for name in order_ids]
        return any(is_unbooked_exit(order, held) for order in orders)

    def restore(self, held: Position, quantity: Decimal) -> None:
        """Protects `quantity` that stays of `held`, as before. A failure is said loudly, and `ProtectionWatchdog` will
        try again; what was traded stands."""
        if self.trade.is_paper or protective_order_ids(held) == (None, None):
            return
        protectable = protected_quantity(quantity, self.venue.fetch_instrument(held.symbol))
        if protectable <= 0:
            return
        wanted = build_protection(held, protectable)
        failures = place_each(self.venue, wanted)
        if failures:
            self.metrics.protection_failures.labels("exit").inc()
            logger.error("position_unprotected", symbol=held.symbol, position=str(held.id), reason="; ".join(failures))

    def _build_protection(self, position: Position) -> Protection:
        return Protection(
            signal_id=self.trade.request.order_id_base,
            symbol=position.symbol,
            side=position.side,
            quantity=protected_quantity(position.quantity, self.venue.fetch_instrument(position.symbol))
            or position.quantity,
            stop_loss_price=position.stop_loss_price,
            take_profit_price=position.take_profit_price,
        )

    def _cancel_orders(self, held: Position, keep: tuple[str, ...] = ()) -> TriggeredExit | None:
        ended = [
            (reason, self.venue.cancel_order(held.symbol, name))
            for reason, name in zip((STOP_LOSS_REASON, TAKE_PROFIT_REASON), protective_order_ids(held), strict=True)
            if name is not None and name not in keep
        ]
        filled = [(reason, order) for reason, order in ended if order is not None and is_unbooked_exit(order, held)]
        if len(filled) > 1:
            logger.error("both_protective_orders_filled", symbol=held.symbol, position=str(held.id))
        return filled[0] if filled else None


def protective_order_ids(held: Position) -> tuple[str | None, str | None]:
    """Client order ids of its stop-loss and its take-profit at the venue."""
    return held.stop_loss_client_order_id, held.take_profit_client_order_id


def find_fired_reason(account: Venue, position: Position, waiting: Container[str | None]) -> str | None:
    """Which of its orders has filled, unseen so far; those `waiting` have not."""
    return fired_reason_among(position, fetch_unlisted_orders(account, position, waiting))


def fetch_unlisted_orders(account: Venue, position: Position, waiting: Container[str | None]) -> dict[str, OrderResult]:
    """Its orders that the venue knows though they are not among those `waiting`, by client order id.

    Such a one has ended, is being triggered, or is too new for the venue's list.
    """
    names = [name for name in protective_order_ids(position) if name is not None and name not in waiting]
    asked = ((name, account.find_order(position.symbol, name)) for name in names)
    return {name: order for name, order in asked if order is not None}


def fired_reason_among(position: Position, orders: Mapping[str, OrderResult]) -> str | None:
    """Why the position ended, if one of its `orders` has filled."""
    for reason, name in zip((STOP_LOSS_REASON, TAKE_PROFIT_REASON), protective_order_ids(position), strict=True):
        if is_unbooked_exit(orders.get(name or ""), position):
            return reason
    return None


def is_unbooked_exit(order: OrderResult | None, held: Position) -> bool:
    """Whether a protective order of `held` has filled and is not in the books. One that the account's net cut short is
    found under its name until another waits there."""
    return order is not None and order.status is OrderStatus.FILLED and order.order_id not in held.exit_order_ids


def build_protection(held: Position, quantity: Decimal) -> Protection:
    """What protects `quantity` of `held`, under the ids that it has, or ids of its own when it has none.

    Always as a reduction: a stop that finds nothing to reduce must not open the other side.
    """
    name = next(
        (name for name in protective_order_ids(held) if name is not None),
        build_client_order_id(held.id, OrderLetter.STOP_LOSS),
    )
    return Protection(
        signal_id=UUID(hex=name.partition("-")[2]),
        symbol=held.symbol,
        side=held.side,
        quantity=quantity,
        stop_loss_price=held.stop_loss_price,
        take_profit_price=held.take_profit_price,
    )


def with_new_ids(wanted: Protection) -> Protection:
    """`wanted` under the ids that follow those it has, the same ones every time."""
    return wanted.model_copy(update={"signal_id": uuid5(UUID(str(wanted.signal_id)), "another id")})


def split_protection(wanted: Protection) -> tuple[Protection, ...]:
    """`wanted` as up to two protections of one order each, the stop-loss first."""
    alone = (wanted.model_copy(update={"take_profit_price": None}), wanted.model_copy(update={"stop_loss_price": None}))
    return tuple(each for each in alone if (each.stop_loss_price or each.take_profit_price) is not None)


def place_each(venue: Venue, wanted: Protection) -> list[str]:
    """Places stop-loss and take-profit each for itself, since one is better than none; why any could not be placed.

    That the account has nothing to reduce is no failure: see `PositionProtection.place`.
    """
    failures = []
    for half in split_protection(wanted):
        try:
            venue.place_protection(half)
        except SparkyError as error:
            if not isinstance(error, OrderRejected) or error.kind != "reduce_only":
                failures.append(str(error))
    return failures


def to_placed_protection(wanted: Protection, orders: tuple[OrderResult, ...] = ()) -> PlacedProtection:
    """The row to book of protective orders, with the venue's own numbers where its answer had them."""
    numbers = {order.client_order_id: order.order_id for order in orders}
    return PlacedProtection(
        stop_loss_price=wanted.stop_loss_price,
        take_profit_price=wanted.take_profit_price,
        stop_loss_order_id=numbers.get(wanted.stop_loss_id),
        take_profit_order_id=numbers.get(wanted.take_profit_id),
        stop_loss_client_order_id=wanted.stop_loss_id if wanted.stop_loss_price is not None else None,
        take_profit_client_order_id=wanted.take_profit_id if wanted.take_profit_price is not None else None,
    )
