"""The two legs of an order at a venue: out of what is held, into what is wanted. Knows no books and no answers."""

from dataclasses import dataclass
from decimal import Decimal

from engine.errors import VenueRefused
from engine.exchanges.paper import fill_price
from engine.exchanges.venue import Instrument, OrderRequest, OrderResult, Quote, Venue
from engine.store.rows import Fill
from engine.types import Position, Side
from webhook_server import sizing
from webhook_server.clock import Clock
from webhook_server.placing import find, place
from webhook_server.trade import CLOSE, OPEN, NothingToDo, Trade


@dataclass(frozen=True)
class Legs:
    """Executes the legs of `trade` at `venue`. Methods raise NothingToDo and what the venue raises."""

    trade: Trade
    venue: Venue
    clock: Clock
    slippage_percent: Decimal

    def close(self, held: Position) -> Fill:
        """Sells (or buys back) the part of `held` that the order names, all of it in a reversal."""
        result = self.sent(CLOSE)
        if result is None:
            quantity = self._closing_quantity(held)
            result = self._place(CLOSE, held.side is Side.SHORT, quantity, held.leverage)
        return self._fill(CLOSE, result, held.leverage, (None, None))

    def open(self, size_usd: Decimal) -> Fill:
        """Enters with at most `size_usd` of notional."""
        order = self.trade.order
        instrument = self.venue.instrument(order.symbol)
        result = self.sent(OPEN) or self._entered(size_usd, instrument)
        return self._fill(OPEN, result, order.leverage, sizing.protective_prices(order, result.price, instrument.tick))

    def sent(self, leg: str) -> OrderResult | None:
        """The fill of a leg that an earlier attempt sent; None when there was no such attempt or no such order."""
        if not self.trade.may_have_been_sent:
            return None
        return find(self.venue, self.trade.order.symbol, self.trade.client_order_id(leg), self.clock)

    def _closing_quantity(self, held: Position) -> Decimal:
        order = self.trade.order
        percent = sizing.HUNDRED if order.is_entry else order.sell_percentage
        quantity = sizing.closing_quantity(held.quantity, percent, self.venue.instrument(order.symbol).lot)
        if quantity <= 0:
            raise NothingToDo(f"{percent} % of the position is less than one lot")
        return quantity

    def _entered(self, size_usd: Decimal, instrument: Instrument) -> OrderResult:
        order = self.trade.order
        is_buy = order.side is Side.LONG
        quantity = self._entry_quantity(size_usd, self.venue.quote(order.symbol), instrument)
        result = self._place(OPEN, is_buy, quantity, order.leverage)
        if order.order_type == "LIMIT" and order.price is not None:
            beyond = result.price - order.price if is_buy else order.price - result.price
            if beyond > 0:  # on paper only, where a fill that is not booked never happened
                raise NothingToDo(f"the market's {result.price} is beyond the limit price {order.price}")
        return result

    def _entry_quantity(self, size_usd: Decimal, quote: Quote, instrument: Instrument) -> Decimal:
        """Sized at the worst price that slippage may make, so that the notional stays within its cap."""
        order = self.trade.order
        if instrument.max_leverage is not None and order.leverage > instrument.max_leverage:
            raise VenueRefused(f"leverage {order.leverage} is above the {instrument.max_leverage} of {order.symbol}")
        worst = quote.bid
        if order.side is Side.LONG:
            worst = fill_price(quote, instrument, is_buy=True, slippage_percent=self.slippage_percent)
        quantity = instrument.floored(size_usd / worst)
        if self.trade.adds() and quantity * worst < max(instrument.min_notional, instrument.lot * worst):
            raise NothingToDo(f"the position in {order.symbol} has its largest size")
        if quantity <= 0:
            raise VenueRefused(f"{size_usd} USD is less than one lot of {order.symbol}")
        return quantity

    def _place(self, leg: str, is_buy: bool, quantity: Decimal, leverage: int) -> OrderResult:  # noqa: FBT001 - private
        order = OrderRequest(
            client_order_id=self.trade.client_order_id(leg),
            symbol=self.trade.order.symbol,
            is_buy=is_buy,
            quantity=quantity,
            reduce_only=leg == CLOSE,
            leverage=leverage,
        )
        return place(self.venue, order, self.clock)

    def _fill(
        self, leg: str, result: OrderResult, leverage: int, protection: tuple[Decimal | None, Decimal | None]
    ) -> Fill:
        order = self.trade.order
        return Fill(
            kind="close" if leg == CLOSE else "open",
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
            client_order_id=result.client_order_id,
            stop_loss_price=protection[0],
            take_profit_price=protection[1],
            exit_reason=self.trade.request.exit_reason if leg == CLOSE else None,
            market_time_ms=result.at_ms,
        )
