"""The legs of an order at a venue: out of what is held, into what is wanted. Knows no books and no answers."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, cast

from engine.errors import CredentialsRefused, OutcomeUnknown, UpstreamUnavailable, VenueRefused
from engine.exchanges.paper import fill_price
from engine.exchanges.venue import Account, Instrument, OrderRequest, OrderResult, Quote, Venue
from engine.store.webhook_rows import Fill
from engine.types import Position, Side
from webhook_server import sizing
from webhook_server.clock import Clock
from webhook_server.endings import DUST, ended_without_order
from webhook_server.leg_orders import LegOrders, as_one, found_orders, send_orders
from webhook_server.metrics import Metrics
from webhook_server.placing import find, place
from webhook_server.protecting import Fired, Guard
from webhook_server.protection_fit import protectable
from webhook_server.split_orders import dust_of, least_of, parts_of
from webhook_server.trade import CLOSE, OPEN, REST, UNDO, NothingToDo, Trade, sign_of

KINDS: Final[dict[str, Literal["open", "close", "rest", "undo"]]] = {
    OPEN: "open",
    CLOSE: "close",
    REST: "rest",
    UNDO: "undo",
}


@dataclass(frozen=True)
class Legs:
    """Executes the legs of `trade` at `venue`. Methods raise NothingToDo and what the venue raises.

    `submit` is called before an order leaves for a live venue; it raises when this server may not send it. A new entry
    is made within `entering`, which raises AccountFault when the account cannot trade.
    """

    trade: Trade
    venue: Venue
    clock: Clock
    metrics: Metrics
    slippage_percent: Decimal
    submit: Callable[[], None]
    entering: Callable[[], AbstractContextManager[None]] = nullcontext

    @property
    def guard(self) -> Guard:
        return Guard(self.trade, self.venue, self.metrics)

    @property
    def account(self) -> Account:
        """The account of a live trade."""
        return cast("Account", self.venue)

    def close(self, held: Position) -> Fill:
        """Sells (or buys back) the part of `held` that the order names, all of it in a reversal; live only as far as
        that reduces what the account holds.

        Its protective orders go first; when one of them has filled, that was the exit. What the venue leaves of the
        position is protected as before. Raises VenueRefused ``reduce_only`` where the account has nothing to reduce.
        """
        before = self._found(CLOSE)
        if before.orders and not self._is_missing(before, held):
            return self._exit_of(CLOSE, held, before.orders)
        quantity = self.closing_quantity(held.quantity)
        if not self.trade.is_paper:
            self.submit()
        fired = self._taken_down(held)
        if fired is not None:
            reason, order = fired
            return self._exit_of(CLOSE, held, (*before.orders, order), reason, puts_back=True)
        if quantity == 0:
            return self._dust(held)
        made = self._closed(held, quantity - before.quantity, before)
        return self._exit_of(CLOSE, held, made.orders, puts_back=True)

    def close_rest(self, left: Position, quantity: Decimal) -> Fill:
        """Sells (or buys back) `quantity` of what is `left` after `close`: what others hold on the opposite side keeps
        it from being a reduction of the account. Only after books and venue were compared."""
        made = self._found(REST)
        if not made.orders:
            self.guard.taken_down(left)
            made = self._made(left, made, lambda: self._parts(REST, left.side, quantity, made, reduce_only=False))
        return self._exit_of(REST, left, made.orders, puts_back=True)

    def has_fired(self) -> bool:
        """Whether a protective order of what is held has filled, unseen so far."""
        return self.trade.held is not None and self.guard.has_fired(self.trade.held)

    def stopped(self, held: Position, fired: Fired) -> Fill:
        """The exit that a protective order of `held` made at the venue while this request did something else."""
        reason, result = fired
        return self._fill(CLOSE, result, held.leverage, (None, None), reason)

    def open(self, size_usd: Decimal) -> tuple[Fill, tuple[str, ...]]:
        """Enters with at most `size_usd` of notional. The fill, and what made it less."""
        order = self.trade.order
        instrument = self.venue.instrument(order.symbol)
        result = self.sent(OPEN)
        if result is not None:
            reduced_by = self._reduced_by(size_usd, result, instrument.lot)
        else:
            with self.entering():
                result, reduced_by = self._entered(size_usd, instrument)
        prices = sizing.protective_prices(order, result.price, instrument.tick)
        return self._fill(OPEN, result, order.leverage, prices), reduced_by

    def _reduced_by(self, size_usd: Decimal, found: OrderResult, lot: Decimal) -> tuple[str, ...]:
        """What made the fill of an earlier attempt less than `size_usd`, whose sizing price is not stored."""
        wanted = size_usd / found.price
        least = wanted * (1 - self.slippage_percent / 100)
        reasons = sizing.reduced_by(wanted, found.quantity, lot)
        return ("lot_step",) if reasons and found.quantity >= sizing.floor_to(least, lot) else reasons

    def undo(self, opened: Fill, quantity: Decimal, *, may_only_reduce: bool) -> Fill:
        """Takes back `quantity` of what OPEN filled, protection that may have been placed first."""
        made = self._found(UNDO)
        if not made.orders:
            self.guard.withdrawn()
            made = self._parts(UNDO, opened.side, quantity, made, reduce_only=may_only_reduce)
            if not made.orders:
                raise made.failure or VenueRefused(f"{quantity} of {opened.symbol} is too little to be sent", "filter")
        result = as_one(made.orders)
        return self._fill(UNDO, result, opened.leverage, (None, None), "unprotected", orders=made.orders)

    def sent(self, leg: str) -> OrderResult | None:
        """The fill of a leg that an earlier attempt sent; None when there was no such attempt or no such order."""
        if not self.trade.may_have_been_sent:
            return None
        return find(self.venue, self.trade.order.symbol, self.trade.client_order_id(leg), self.clock)

    def was_sent(self, leg: str) -> bool:
        """Whether an earlier attempt sent the leg and it was filled; one that ended without a fill did nothing."""
        try:
            return self.sent(leg) is not None
        except VenueRefused:
            return False

    def _taken_down(self, held: Position) -> Fired | None:
        """What was cancelled before the venue went away is put back, if it can be."""
        try:
            return self.guard.taken_down(held)
        except UpstreamUnavailable:
            self.guard.put_back(held, held.quantity)
            raise

    def _found(self, leg: str) -> LegOrders:
        """The orders of a closing leg that an earlier attempt sent. Raises VenueRefused where it ended without any."""
        return found_orders(self.sent, leg)

    def _is_missing(self, made: LegOrders, held: Position) -> bool:
        """Whether the exit of `held`, of which an earlier attempt `made` a part, has orders that were not sent."""
        instrument = self.venue.instrument(held.symbol)
        wanted = self._wanted(held.quantity, instrument)
        missing = wanted - made.quantity
        is_begun = len(made.orders) < len(parts_of(wanted, instrument))
        return is_begun and not made.is_over and missing >= least_of(instrument)

    def _closed(self, held: Position, quantity: Decimal, before: LegOrders) -> LegOrders:
        """Sells what is held (or buys it back) as a reduction of the account's net position: it ends at zero."""
        return self._made(held, before, lambda: self._reduced(held, quantity, before))

    def _made(self, held: Position, before: LegOrders, send: Callable[[], LegOrders]) -> LegOrders:
        """What `send` made of an exit after `before`. Where nothing was made, or the rest is to follow later, what is
        left gets its protection back. Raises why nothing was made, and OutcomeUnknown where the rest is to follow."""
        try:
            made = send()
        except (VenueRefused, UpstreamUnavailable) as failure:
            made = LegOrders(before.orders, failure=failure)
        if made.failure is None or (made.orders and isinstance(made.failure, VenueRefused)):
            return made
        self.guard.put_back(held, held.quantity - made.quantity)
        if made.orders:
            raise OutcomeUnknown(f"a part of the exit is made, and the rest is not: {made.failure}") from made.failure
        raise made.failure

    def _parts(self, leg: str, side: Side, quantity: Decimal, before: LegOrders, *, reduce_only: bool) -> LegOrders:
        """Sends the orders of a leg that closes `quantity` of a position on `side`, after those `before`."""
        parts = parts_of(quantity, self.venue.instrument(self.trade.order.symbol))

        def placed(name: str, part: Decimal) -> OrderResult:
            return self._place(name, part, is_buy=side is Side.SHORT, reduce_only=reduce_only)

        return send_orders(placed, leg, parts, before)

    def _reduced(self, held: Position, quantity: Decimal, before: LegOrders) -> LegOrders:
        if not self.trade.is_paper and not self.trade.may_only_reduce(held.side):
            quantity = min(quantity, self._on_side(held, quantity))
            if quantity <= 0:
                raise VenueRefused(f"the account holds nothing of {held.symbol} on this side", "reduce_only")
        made = self._parts(CLOSE, held.side, quantity, before, reduce_only=True)
        if not made.orders and made.failure is None:
            raise VenueRefused(
                f"the account holds less of {held.symbol} on this side than an order may be", "reduce_only"
            )
        return made

    def _exit_of(
        self,
        leg: str,
        held: Position,
        orders: tuple[OrderResult, ...],
        reason: str | None = None,
        *,
        puts_back: bool = False,
    ) -> Fill:
        """The fill of an exit of `held` that `orders` made. What is left of it is dust, or protected as before."""
        result = as_one(orders)
        left = held.quantity - result.quantity
        dust = dust_of(left, self.venue.instrument(held.symbol))
        if puts_back and left > 0 and dust is None:
            self.guard.put_back(held, left)
        fill = self._fill(leg, result, held.leverage, (None, None), reason, orders=orders)
        return fill.model_copy(update={"dust": dust})

    def _dust(self, held: Position) -> Fill:
        """The end of a position that is too little for any order: no order makes it, at the market's last price."""
        quote = self.venue.quote(held.symbol)
        return ended_without_order(held, quote.last, DUST, quote.at_ms)

    def _on_side(self, held: Position, quantity: Decimal) -> Decimal:
        """How much the account holds on the side of `held`; `quantity` where the venue does not tell, as it cuts a
        reduction itself."""
        try:
            net = self._net(held.symbol)
        except (UpstreamUnavailable, CredentialsRefused):
            return quantity
        return max(Decimal(0), net * sign_of(held.side))

    def _net(self, symbol: str) -> Decimal:
        return next((each.net for each in self.account.positions(symbol) if each.symbol == symbol), Decimal(0))

    def closing_quantity(self, held: Decimal) -> Decimal:
        """What the order closes of a position of `held`, in whole lots: 0 where all of that is too little to be sent.
        Raises NothingToDo when a part of it is."""
        quantity = self._wanted(held, self.venue.instrument(self.trade.order.symbol))
        if quantity <= 0 and self._percent < sizing.HUNDRED:
            raise NothingToDo(f"{self._percent} % of the position is less than one lot")
        return quantity

    def _wanted(self, held: Decimal, instrument: Instrument) -> Decimal:
        return sizing.closing_quantity(held, self._percent, instrument.lot, least_of(instrument))

    @property
    def _percent(self) -> Decimal:
        order = self.trade.order
        return sizing.HUNDRED if order.is_entry else order.sell_percentage

    def _entered(self, size_usd: Decimal, instrument: Instrument) -> tuple[OrderResult, tuple[str, ...]]:
        order = self.trade.order
        quote = self.venue.quote(order.symbol)
        wanted = size_usd / self._worst_price(quote, instrument)
        quantity = self._entry_quantity(size_usd, wanted, instrument)
        fitting = quantity
        if self.trade.wants_protection:
            fitting = protectable(order, self.trade.held, quantity, instrument, quote)
        try:
            result = self._place(OPEN, fitting, is_buy=order.side is Side.LONG, reduce_only=False)
        except VenueRefused as error:
            if error.kind == "not_marketable":
                raise NothingToDo(str(error)) from error
            raise
        if fitting < quantity:
            partial = sizing.reduced_by(fitting, result.quantity, instrument.lot)
            return result, (sizing.ReducedBy.MAX_PROTECTED_QUANTITY, *partial)
        return result, sizing.reduced_by(wanted, result.quantity, instrument.lot)

    def _worst_price(self, quote: Quote, instrument: Instrument) -> Decimal:
        """What slippage may make of the price; sized at this the notional stays within its cap."""
        if self.trade.order.side is Side.LONG:
            return fill_price(quote, instrument, is_buy=True, slippage_percent=self.slippage_percent)
        return quote.bid

    def _entry_quantity(self, size_usd: Decimal, wanted: Decimal, instrument: Instrument) -> Decimal:
        """`wanted` of the base asset, worth `size_usd` at the worst price, in whole lots."""
        order = self.trade.order
        if not instrument.is_trading:
            raise VenueRefused(f"{order.symbol} takes no entries now: its status is {instrument.status}", "filter")
        if instrument.max_leverage is not None and order.leverage > instrument.max_leverage:
            raise VenueRefused(f"leverage {order.leverage} is above the {instrument.max_leverage} of {order.symbol}")
        quantity, worst = instrument.floored(wanted), size_usd / wanted
        lot_usd = instrument.lot * worst
        is_little = quantity * worst < max(instrument.min_notional, lot_usd)
        if self.trade.adds() and is_little and size_usd < (order.position_size_usd or size_usd):
            raise NothingToDo(f"the position in {order.symbol} has its largest size")
        if quantity <= 0:
            raise VenueRefused(
                f"{size_usd} USD is less than one lot of {order.symbol}, which is worth {lot_usd:.2f} USD"
            )
        return quantity

    def _place(self, leg: str, quantity: Decimal, *, is_buy: bool, reduce_only: bool) -> OrderResult:
        trade = self.trade
        if not trade.is_paper:
            self.submit()
        order = OrderRequest(
            client_order_id=trade.client_order_id(leg),
            symbol=trade.order.symbol,
            is_buy=is_buy,
            quantity=quantity,
            reduce_only=reduce_only,
            leverage=trade.order.leverage if leg == OPEN else None,
        )
        limit = trade.order.price if leg == OPEN and trade.order.order_type == "LIMIT" else None
        return place(self.venue, order, self.clock, limit)

    def _fill(
        self,
        leg: str,
        result: OrderResult,
        leverage: int,
        protection: tuple[Decimal | None, Decimal | None],
        exit_reason: str | None = None,
        orders: Sequence[OrderResult] = (),
    ) -> Fill:
        order = self.trade.order
        return Fill(
            kind=KINDS[leg],
            exchange=order.exchange,
            symbol=order.symbol,
            side=self.trade.side_of(leg),
            quantity=result.quantity,
            price=result.price,
            fee_usd=result.fee_usd,
            leverage=leverage,
            is_paper=self.trade.is_paper,
            strategy_id=order.strategy_id,
            order_id=result.order_id,
            order_ids=tuple(each.order_id for each in orders) if len(orders) > 1 else (),
            client_order_id=result.client_order_id,
            stop_loss_price=protection[0],
            take_profit_price=protection[1],
            exit_reason=exit_reason or (self.trade.request.exit_reason if leg in {CLOSE, REST} else None),
            market_time_ms=result.at_ms,
        )
