"""Checks before an entry whether its stop-loss and take-profit can be placed, by filters and a quote."""

from decimal import Decimal

from engine.domain import decimals
from engine.domain.errors import OrderRejected
from engine.domain.positions import Position, Side
from engine.domain.signal import TradeSignal
from engine.risk import sizing
from engine.risk.exit_quantities import max_order_quantity, min_order_quantity
from engine.venues.instrument import Instrument
from engine.venues.quotes import Quote


def calculate_protectable_quantity(
    signal: TradeSignal, held: Position | None, quantity: Decimal, instrument: Instrument, quote: Quote
) -> Decimal:
    """How much of an entry of `quantity` (base asset), added to `held`, one stop-loss and take-profit can protect.

    Raises OrderRejected: ``would_trigger`` for a price that the market has passed or that is less than a tick from the
    entry, ``filter`` where the venue's maximum for one protective order leaves no room for an entry.
    """
    _check_prices(signal, held, instrument, quote)
    max_quantity = max_order_quantity(instrument)
    if max_quantity is None:
        return quantity
    before = Decimal(0) if held is None else held.quantity
    room = instrument.floor_to_lot(decimals.subtract(max_quantity, before))
    if quantity <= room:
        return quantity
    if room < min_order_quantity(instrument) or decimals.product(room, quote.last) < instrument.min_notional:
        message = f"{signal.symbol}: one protective order may be for {decimals.format_plain(max_quantity)} at most"
        raise OrderRejected(
            f"{message}, and {decimals.format_plain(before)} is held already: more could not be protected", "filter"
        )
    return room


def check_order_count(signal: TradeSignal, held: Position | None, instrument: Instrument, waiting: int) -> None:
    """Raises OrderRejected where the protective orders of an entry and the `waiting` ones exceed the venue's maximum.

    The orders that protect `held` count among the waiting ones: they are cancelled only after the new ones are placed,
    so that the position is never without protection.
    """
    stop_loss, take_profit = signal.stop_loss_percent, signal.take_profit_percent
    if held is not None:
        stop_loss, take_profit = stop_loss or held.stop_loss_price, take_profit or held.take_profit_price
    needed = sum(value is not None for value in (stop_loss, take_profit))
    max_orders = instrument.max_trigger_orders
    if max_orders is not None and needed and waiting + needed > max_orders:
        raise OrderRejected(
            f"{signal.symbol}: {needed} protective orders are needed, {waiting} wait, "
            f"and the venue takes {max_orders} at most: cancel some at the venue, or ask for fewer"
        )


def _check_prices(signal: TradeSignal, held: Position | None, instrument: Instrument, quote: Quote) -> None:
    """Raises OrderRejected ``would_trigger``. A price that the signal does not name stays as `held` has it."""
    is_long = signal.side is Side.LONG
    entry = quote.ask if is_long else quote.bid
    stop_loss, take_profit = sizing.calculate_protective_prices(signal, entry, instrument.tick)
    if held is not None:
        stop_loss, take_profit = stop_loss or held.stop_loss_price, take_profit or held.take_profit_price
    for name, price, is_below in (("stop-loss", stop_loss, is_long), ("take-profit", take_profit, not is_long)):
        if price is None:
            continue
        # The venue compares a trigger with the last price; the entry's own fill may become that.
        bound = min(quote.last, entry) if is_below else max(quote.last, entry)
        if (price >= bound) if is_below else (price <= bound):
            side = "below" if is_below else "above"
            at, limit = decimals.format_plain(price), decimals.format_plain(bound)
            message = f"{signal.symbol}: the {name} at {at} is not {side} {limit}"
            raise OrderRejected(f"{message}: it would trigger at once", "would_trigger")
