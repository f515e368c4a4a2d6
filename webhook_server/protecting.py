"""Stop-loss and take-profit orders that wait at a live venue: placed with the entry, taken down with the exit."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import structlog

from engine.errors import SparkyError
from engine.exchanges.venue import OrderResult, OrderStatus, Protection, Venue
from engine.store.webhook_rows import PlacedProtection
from engine.types import Position
from webhook_server.trade import Trade

logger = structlog.get_logger()

STOPPED: Final = "stop_loss"
TARGET: Final = "take_profit"


@dataclass(frozen=True)
class Guard:
    """The protective orders of the position that `trade` is about. On paper there are none."""

    trade: Trade
    venue: Venue

    def placed(self, position: Position) -> PlacedProtection:
        """Protects all of `position`, which this request opened or added to; what protected it before is cancelled.

        Raises what `Venue.protect` raises: nothing new waits then, or it is not known.
        """
        wanted = self._own(position)
        orders = self.venue.protect(wanted, again=self.trade.may_have_been_sent)
        for name in set(_ids(position)) - {None, wanted.stop_loss_id, wanted.take_profit_id}:
            self.venue.cancel(position.symbol, str(name))
        return _told(wanted, orders)

    def withdrawn(self) -> None:
        """Makes sure that no order of this request waits."""
        for letter in ("l", "t"):
            self.venue.cancel(self.trade.order.symbol, self.trade.client_order_id(letter))

    def taken_down(self, held: Position) -> tuple[str, OrderResult] | None:
        """Cancels what protects `held`. When one of the orders has filled that was the exit: why, and its fill."""
        return None if self.trade.is_paper else self._cancelled(held)

    def put_back(self, held: Position, quantity: Decimal) -> None:
        """Protects `quantity` that stays of `held`, as before. A failure is said loudly; what was traded stands."""
        wanted = _again(held, quantity, may_only_reduce=self.trade.may_only_reduce(held.side))
        if self.trade.is_paper or wanted is None:
            return
        try:
            self.venue.protect(wanted)
        except SparkyError as error:
            logger.exception("position_unprotected", symbol=held.symbol, position=str(held.id), reason=str(error))

    def _own(self, position: Position) -> Protection:
        return Protection(
            signal_id=self.trade.request.id,
            symbol=position.symbol,
            side=position.side,
            quantity=position.quantity,
            stop_loss_price=position.stop_loss_price,
            take_profit_price=position.take_profit_price,
            reduce_only=self.trade.may_only_reduce(position.side),
        )

    def _cancelled(self, held: Position) -> tuple[str, OrderResult] | None:
        ended = [
            (reason, self.venue.cancel(held.symbol, name))
            for reason, name in zip((STOPPED, TARGET), _ids(held), strict=True)
            if name is not None
        ]
        filled = [(reason, order) for reason, order in ended if order and order.status is OrderStatus.FILLED]
        if len(filled) > 1:
            logger.error("both_protective_orders_filled", symbol=held.symbol, position=str(held.id))
        return filled[0] if filled else None


def _ids(held: Position) -> tuple[str | None, str | None]:
    return held.stop_loss_client_order_id, held.take_profit_client_order_id


def _told(wanted: Protection, orders: tuple[OrderResult, ...]) -> PlacedProtection:
    numbers = {order.client_order_id: order.order_id for order in orders}
    return PlacedProtection(
        stop_loss_price=wanted.stop_loss_price,
        take_profit_price=wanted.take_profit_price,
        stop_loss_order_id=numbers.get(wanted.stop_loss_id),
        take_profit_order_id=numbers.get(wanted.take_profit_id),
        stop_loss_client_order_id=wanted.stop_loss_id if wanted.stop_loss_price is not None else None,
        take_profit_client_order_id=wanted.take_profit_id if wanted.take_profit_price is not None else None,
    )


def _again(held: Position, quantity: Decimal, *, may_only_reduce: bool) -> Protection | None:
    """The same protection for another quantity, under the same ids; None when there was none."""
    stop, target = _ids(held)
    name = stop or target
    if name is None:
        return None
    return Protection(
        signal_id=name.partition("-")[2],
        symbol=held.symbol,
        side=held.side,
        quantity=quantity,
        stop_loss_price=held.stop_loss_price if stop else None,
        take_profit_price=held.take_profit_price if target else None,
        reduce_only=may_only_reduce,
    )
