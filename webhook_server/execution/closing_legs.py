"""The legs that close a position: a reduction, what others' positions keep from being one, and the undoing of an entry.

Each is one order or several; what an earlier attempt sent of it is found again, and only what is missing is sent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, cast

import structlog

from engine.domain import decimals
from engine.domain.errors import OrderOutcomeUnknown, OrderRejected, StrategyFault
from engine.domain.positions import Position, Side, get_sign
from engine.platform.errors import CredentialsError, UpstreamUnavailable
from engine.risk import sizing
from engine.risk.exit_quantities import (
    MAX_PARTS,
    describe_too_little,
    find_dust,
    find_netted_dust,
    min_order_quantity,
    split_quantity,
)
from engine.store.webhook_rows import Fill
from engine.venues.instrument import Instrument
from engine.venues.orders import OrderResult
from engine.venues.paper import PaperVenue
from webhook_server.execution.execution_context import CLOSE, REST, UNDO, NothingToDo
from webhook_server.execution.leg_orders import (
    ORDER_NOT_MADE,
    LegOrders,
    combine_orders,
    find_orders,
    send_orders,
    to_retryable,
)
from webhook_server.execution.legs import Legs
from webhook_server.protection.position_protection import TriggeredExit
from webhook_server.reconciliation.open_order_cache import find_listed_instrument
from webhook_server.reconciliation.outside_exits import DUST, build_orderless_exit

logger = structlog.get_logger()

NETTED_REFUSAL: Final = (
    "the position stays open: opposite positions of the account keep this exit from being a reduction, and the venue "
    "refuses it as an order of its own"
)


@dataclass(frozen=True)
class ClosingLegs(Legs):
    """The legs that close. Methods raise NothingToDo and what the venue raises."""

    def close(self, held: Position) -> Fill:
        """Sells (or buys back) the part of `held` that the order names, all of it in a reversal; live only as far as
        that reduces what the account holds.

        Its protective orders go first; when one of them has filled, that was the exit. What the venue leaves of the
        position is protected as before. Raises OrderRejected ``reduce_only`` where the account has nothing to reduce,
        and ``filter`` where all of it is too little for an order and worth too much to end as dust.
        """
        before = self._find_orders(CLOSE)
        self._reread_if_little(held.quantity - before.quantity)
        if before.orders and not self._is_exit_incomplete(before, held):
            return self._build_exit(CLOSE, held, before.orders, restores_protection=True)
        quantity = held.quantity if self.trade.exit_terms is not None else self.closing_quantity(held.quantity)
        if quantity == 0:
            self._check_is_dust(held)
        if not self.trade.is_paper:
            self.submit()
        fired = self._cancel_protection(held)
        if fired is not None:
            reason, order = fired
            return self._build_exit(CLOSE, held, (*before.orders, order), reason, restores_protection=True)
        if quantity == 0:
            return self._build_dust_fill(held)
        try:
            made = self._close_as_reduction(held, quantity - before.quantity, before)
        except OrderRejected as refusal:
            if refusal.kind != "filter" or self._percent < sizing.HUNDRED or self.closing_quantity(held.quantity) > 0:
                raise
            self._check_is_dust(held)  # by sizes that have changed since
            return self._build_dust_fill(held)
        return self._build_exit(CLOSE, held, made.orders, restores_protection=True)

    def close_rest(self, left: Position, quantity: Decimal, reducible: Decimal = Decimal(0)) -> Fill:
        """Sells (or buys back) `quantity` of what is `left` after `close`. Beyond what is `reducible` of it, others'
        opposite positions keep it from being a reduction of the account. Only after books and venue were compared.

        All of what is `left` ends as dust where none is reducible and it is too little for an order of its own.
        """
        before = made = self._find_orders(REST)
        if not made.orders or self._has_unsent_orders(made, quantity):
            fired = self.cancel_and_find_fired(left, before)
            if fired is not None:
                return fired
            is_all = quantity == left.quantity and not (before.orders or reducible)
            if is_all and self._is_netted_dust(left):
                return self._build_dust_fill(left)
            try:
                made = self._send_or_restore(
                    left, made, lambda: self._send_rest(left.side, quantity, before, reducible)
                )
            except OrderRejected as refusal:
                raise OrderRejected(f"{NETTED_REFUSAL}: {refusal}", refusal.kind) from refusal
        return self._build_exit(REST, left, made.orders, restores_protection=True)

    def cancel_and_find_fired(self, left: Position, before: LegOrders | None = None) -> Fill | None:
        """Takes down the orders that protect what is `left` after `close`: the exit that one of them has made after the
        orders `before`, or None."""
        fired = self._cancel_protection(left)
        if fired is None:
            return None
        reason, order = fired
        made = () if before is None else before.orders
        return self._build_exit(REST, left, (*made, order), reason, restores_protection=True)

    def _send_rest(self, side: Side, quantity: Decimal, before: LegOrders, reducible: Decimal) -> LegOrders:
        """Reductions, which end at zero, come first: no order crosses it."""
        if before.orders or not reducible:
            return self._send_parts(REST, side, quantity - before.quantity, before, reduce_only=False)
        reduced = min(quantity, reducible)
        made = self._send_parts(REST, side, reduced, before, reduce_only=True)
        if made.failure is not None or quantity - reduced < self.min_quantity:
            return made
        return self._send_parts(REST, side, quantity - reduced, made, reduce_only=False)

    @property
    def min_quantity(self) -> Decimal:
        """The smallest quantity that an order may have."""
        return min_order_quantity(self.venue.fetch_instrument(self.trade.signal.symbol))

    def find_rest(self, wanted: Decimal) -> tuple[Decimal, bool]:
        """How much an earlier attempt made of a second leg of `wanted`, and whether orders of it are missing."""
        try:
            made = self._find_orders(REST)
        except OrderRejected:
            made = LegOrders()
        return made.quantity, not made.orders or self._has_unsent_orders(made, wanted)

    def undo(self, opened: Fill, quantity: Decimal, *, reduce_only: bool) -> Fill:
        """Takes back `quantity` of what OPEN filled, protection that may have been placed first."""
        made = self._find_orders(UNDO)
        if not made.orders:
            self.protection.cancel_own()
            made = self._send_parts(UNDO, opened.side, quantity, made, reduce_only=reduce_only)
            if not made.orders:
                raise made.failure or OrderRejected(f"{quantity} of {opened.symbol} is too little to be sent", "filter")
        result = combine_orders(made.orders)
        return self._build_fill(UNDO, result, opened.leverage, exit_reason="unprotected", orders=made.orders)

    def _cancel_protection(self, held: Position) -> TriggeredExit | None:
        """What was cancelled before the venue went away, or refused to be asked, is put back, if it can be."""
        try:
            return self.protection.cancel_existing(held)
        except ORDER_NOT_MADE as failure:
            self._restore_protection(held, held.quantity, failure)
            raise

    def _find_orders(self, leg: str) -> LegOrders:
        """The orders of a closing leg that an earlier attempt sent. Raises OrderRejected where it ended without any."""
        return find_orders(self.find_sent, leg)

    def _is_exit_incomplete(self, made: LegOrders, held: Position) -> bool:
        """Whether the exit of `held`, of which an earlier attempt `made` a part, has orders that were not sent."""
        return self._has_unsent_orders(
            made, self._round_quantity(held.quantity, self.venue.fetch_instrument(held.symbol))
        )

    def _has_unsent_orders(self, made: LegOrders, wanted: Decimal) -> bool:
        """Whether orders of a leg of `wanted`, of which some are `made`, were not sent."""
        can_send = not made.is_finished and len(made.orders) < MAX_PARTS
        return can_send and wanted - made.quantity >= self.min_quantity

    def _close_as_reduction(self, held: Position, quantity: Decimal, before: LegOrders) -> LegOrders:
        """Sells what is held (or buys it back) as a reduction of the account's net position: it ends at zero."""
        return self._send_or_restore(held, before, lambda: self._reduce(held, quantity, before))

    def _send_or_restore(self, held: Position, before: LegOrders, send: Callable[[], LegOrders]) -> LegOrders:
        """What `send` made of an exit after `before`. Where nothing was made, or the rest is to follow later, what is
        left gets its protection back. Raises why nothing was made, and OrderOutcomeUnknown where the rest is to
        follow."""
        try:
            made = send()
        except ORDER_NOT_MADE as failure:
            made = LegOrders(before.orders, failure=failure)
        if made.failure is None or (made.orders and isinstance(made.failure, (OrderRejected, StrategyFault))):
            return made
        self._restore_protection(held, held.quantity - made.quantity, made.failure)
        if made.orders:
            raise OrderOutcomeUnknown(
                f"a part of the exit is made, and the rest is not: {made.failure}"
            ) from made.failure
        raise to_retryable(made.failure)

    def _restore_protection(self, held: Position, quantity: Decimal, failure: Exception) -> None:
        """Protects `quantity` of `held` as before, unless `failure` is that its symbol is gone."""
        if not isinstance(failure, StrategyFault) or find_listed_instrument(self.venue, held.symbol) is not None:
            self.protection.restore(held, quantity)

    def _send_parts(
        self, leg: str, side: Side, quantity: Decimal, before: LegOrders, *, reduce_only: bool
    ) -> LegOrders:
        """Sends the orders of a leg that closes `quantity` of a position on `side`, after those `before`."""
        symbol = self.trade.signal.symbol
        instrument = self.venue.fetch_instrument(symbol)

        def place_part(name: str, part: Decimal) -> OrderResult:
            return self._place_leg(name, part, is_buy=side is Side.SHORT, reduce_only=reduce_only)

        made = send_orders(place_part, leg, split_quantity(quantity, instrument), before)
        now = self.venue.fetch_instrument(symbol)
        if not isinstance(made.failure, OrderRejected) or made.failure.kind != "filter" or now == instrument:
            return made
        left = decimals.total((quantity, before.quantity, made.quantity.copy_negate()))
        parts = split_quantity(left, now)  # sizes have changed, and the refusal had them read again
        return send_orders(place_part, leg, parts, LegOrders(made.orders)) if parts else made

    def _reduce(self, held: Position, quantity: Decimal, before: LegOrders) -> LegOrders:
        """What the market has ended on paper ends at the price of then."""
        terms = self.trade.exit_terms
        if terms is not None:
            order = self._build_order(CLOSE, quantity, is_buy=held.side is Side.SHORT, reduce_only=True)
            ended = cast("PaperVenue", self.venue).fill_exit_at(order, terms.price, terms.at_ms, terms.fee_usd)
            return LegOrders((ended,))
        if not self.trade.is_paper and not self.trade.can_be_reduce_only(held.side):
            quantity = min(quantity, self._fetch_held_on_side(held, quantity))
            if quantity <= 0:
                raise OrderRejected(f"the account holds nothing of {held.symbol} on this side", "reduce_only")
        made = self._send_parts(CLOSE, held.side, quantity, before, reduce_only=True)
        if not made.orders and made.failure is None:
            raise OrderRejected(
                f"the account holds less of {held.symbol} on this side than an order may be", "reduce_only"
            )
        return self._send_reread_rest(held, made)

    def _send_reread_rest(self, held: Position, made: LegOrders) -> LegOrders:
        """`made`, with what a list that was old left of `held` as too little for an order."""
        left = held.quantity - made.quantity
        if made.failure is not None or self._percent < sizing.HUNDRED or not self._reread_if_little(left):
            return made
        more = self.closing_quantity(held.quantity) - made.quantity
        return self._send_parts(CLOSE, held.side, more, made, reduce_only=True) if more >= self.min_quantity else made

    def _reread_if_little(self, left: Decimal) -> bool:
        """Has the list read again where by the one that is known `left` is something and too little for an order;
        whether that was so."""
        is_little = 0 < left < self.min_quantity
        if is_little:
            self.venue.refresh_instrument(self.trade.signal.symbol)
        return is_little

    def _build_exit(
        self,
        leg: str,
        held: Position,
        orders: tuple[OrderResult, ...],
        reason: str | None = None,
        *,
        restores_protection: bool = False,
    ) -> Fill:
        """The fill of an exit of `held` that `orders` made. What is left of it is dust, or protected as before.

        A stop that was placed for more than the books hold by now may have closed more: that is said, booked as far as
        it is held, and what others lack is found as a difference.
        """
        result = combine_orders(orders)
        if result.quantity > held.quantity:
            fields = {"position": str(held.id), "held": str(held.quantity), "closed": str(result.quantity)}
            logger.error("more_closed_than_held", symbol=held.symbol, order=result.order_id, **fields)
            result = result.model_copy(update={"quantity": held.quantity})
        left = held.quantity - result.quantity
        dust = find_dust(left, held.quantity, result.price, self.venue.fetch_instrument(held.symbol))
        if restores_protection and left > 0 and dust is None:
            self.protection.restore(held, left)
        if dust is None and 0 < left < self.min_quantity:
            logger.error("exit_rest_below_min_order", symbol=held.symbol, position=str(held.id), quantity=str(left))
        fill = self._build_fill(leg, result, held.leverage, exit_reason=reason, orders=orders)
        return fill.model_copy(update={"dust": dust})

    def _check_is_dust(self, held: Position) -> None:
        """Raises OrderRejected where `held`, too little for an order, is worth too much to be forgotten, and no order
        of its protection has filled."""
        instrument, price = self.venue.fetch_instrument(held.symbol), self.venue.fetch_quote(held.symbol).last
        if find_dust(held.quantity, held.quantity, price, instrument) is not None or self.protection.has_fired(held):
            return
        raise OrderRejected(f"{held.symbol}: {describe_too_little(held.quantity, price, instrument)}", "filter")

    def _is_netted_dust(self, left: Position) -> bool:
        price = self.venue.fetch_quote(left.symbol).last
        return find_netted_dust(left.quantity, price, self.venue.fetch_instrument(left.symbol)) is not None

    def _build_dust_fill(self, held: Position) -> Fill:
        """The end of a position that is too little for any order: no order makes it, at the market's last price."""
        quote = self.venue.fetch_quote(held.symbol)
        return build_orderless_exit(held, quote.last, DUST, quote.at_ms)

    def _fetch_held_on_side(self, held: Position, quantity: Decimal) -> Decimal:
        """How much the account holds on the side of `held`; `quantity` where the venue does not tell, as it cuts a
        reduction itself."""
        try:
            net = self._fetch_net(held.symbol)
        except (UpstreamUnavailable, CredentialsError):
            return quantity
        return max(Decimal(0), net * get_sign(held.side))

    def _fetch_net(self, symbol: str) -> Decimal:
        return next((each.net for each in self.account.fetch_positions(symbol) if each.symbol == symbol), Decimal(0))

    def closing_quantity(self, held: Decimal) -> Decimal:
        """What the order closes of a position of `held`, in whole lots: 0 where all of that is too little to be sent.
        Raises NothingToDo when a part of it is."""
        quantity = self._round_quantity(held, self.venue.fetch_instrument(self.trade.signal.symbol))
        if quantity <= 0 and self._percent < sizing.HUNDRED:
            raise NothingToDo(f"{self._percent} % of the position is less than one lot")
        return quantity

    def _round_quantity(self, held: Decimal, instrument: Instrument) -> Decimal:
        return sizing.calculate_closing_quantity(held, self._percent, instrument.lot, min_order_quantity(instrument))

    @property
    def _percent(self) -> Decimal:
        signal = self.trade.signal
        return sizing.HUNDRED if signal.is_entry else signal.sell_percentage
