"""What all legs of an order share: finding what an earlier attempt sent, one order, and its fill. Knows no books."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, cast

from engine.domain.errors import OrderRejected
from engine.domain.positions import Position
from engine.store.webhook_rows import Fill
from engine.venues.orders import OrderRequest, OrderResult
from engine.venues.venue import LiveVenue, Venue
from webhook_server.clock import Clock
from webhook_server.execution.execution_context import (
    CLOSE,
    OPEN,
    REST,
    UNDO,
    TradeContext,
    end_on_configuration_error,
)
from webhook_server.execution.leg_orders import find_order, place_order
from webhook_server.metrics import Metrics
from webhook_server.protection.position_protection import PositionProtection, TriggeredExit

FILL_KINDS: Final[dict[str, Literal["open", "close", "rest", "undo"]]] = {
    OPEN: "open",
    CLOSE: "close",
    REST: "rest",
    UNDO: "undo",
}


@dataclass(frozen=True)
class Legs:
    """The legs of `trade` at its venue.

    `submit` is called before an order leaves for a live venue; it raises when this server may not send it.
    """

    trade: TradeContext
    clock: Clock
    metrics: Metrics
    submit: Callable[[], None]

    # No cached_property: in Python 3.11 that computes under one lock for all instances. A venue that opens late (its
    # credentials are read from the database) would hold up every other request, exits included.
    @property
    def venue(self) -> Venue:
        """Opened when it is first needed, once for the trade. Raises RequestEnded where the sender must mend its name
        or credentials."""
        with end_on_configuration_error(self.trade.signal.exchange):
            return self.trade.open_venue()

    @property
    def account(self) -> LiveVenue:
        """The account of a live trade."""
        return cast("LiveVenue", self.venue)

    @property
    def protection(self) -> PositionProtection:
        """The protective orders of what the trade is about."""
        return PositionProtection(self.trade, self.venue, self.metrics)

    def has_fired(self) -> bool:
        """Whether a protective order of what is held has filled, unseen so far."""
        return self.trade.held is not None and self.protection.has_fired(self.trade.held)

    def fill_from_trigger(self, held: Position, fired: TriggeredExit) -> Fill:
        """The exit that a protective order of `held` made at the venue while this request did something else."""
        reason, result = fired
        return self._build_fill(CLOSE, result, held.leverage, exit_reason=reason)

    def find_sent(self, leg: str) -> OrderResult | None:
        """The fill of a leg that an earlier attempt sent; None when there was no such attempt or no such order. Raises
        OrderRejected where it ended without a fill."""
        if not self.trade.may_have_been_sent:
            return None
        return find_order(self.venue, self.trade.signal.symbol, self.trade.client_order_id(leg), self.clock)

    def was_sent(self, leg: str) -> bool:
        """Whether an earlier attempt sent the leg and it was filled; one that ended without a fill did nothing."""
        try:
            return self.find_sent(leg) is not None
        except OrderRejected:
            return False

    def _place_leg(self, leg: str, quantity: Decimal, *, is_buy: bool, reduce_only: bool) -> OrderResult:
        if not self.trade.is_paper:
            self.submit()
        return place_order(
            self.venue, self._build_order(leg, quantity, is_buy=is_buy, reduce_only=reduce_only), self.clock
        )

    def _build_order(self, leg: str, quantity: Decimal, *, is_buy: bool, reduce_only: bool) -> OrderRequest:
        return OrderRequest(
            client_order_id=self.trade.client_order_id(leg),
            symbol=self.trade.signal.symbol,
            is_buy=is_buy,
            quantity=quantity,
            reduce_only=reduce_only,
            leverage=None,
        )

    def _build_fill(
        self,
        leg: str,
        result: OrderResult,
        leverage: int,
        protection: tuple[Decimal | None, Decimal | None] = (None, None),
        exit_reason: str | None = None,
        orders: Sequence[OrderResult] = (),
    ) -> Fill:
        signal = self.trade.signal
        return Fill(
            kind=FILL_KINDS[leg],
            exchange=signal.exchange,
            symbol=signal.symbol,
            side=self.trade.side_of(leg),
            quantity=result.quantity,
            price=result.price,
            fee_usd=result.fee_usd,
            leverage=leverage,
            is_paper=self.trade.is_paper,
            strategy_id=signal.strategy_id,
            order_id=result.order_id,
            order_ids=tuple(each.order_id for each in orders) if len(orders) > 1 else (),
            client_order_id=result.client_order_id,
            stop_loss_price=protection[0],
            take_profit_price=protection[1],
            exit_reason=exit_reason or (self.trade.request.exit_reason if leg in {CLOSE, REST} else None),
            market_time_ms=result.at_ms,
        )
