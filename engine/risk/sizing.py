"""Quantities of exits, protective prices, and the position after an entry, in exact arithmetic. Pure."""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import StrEnum
from typing import Literal

from engine.domain import decimals
from engine.domain.positions import Position, Side
from engine.domain.signal import TradeSignal
from engine.store.webhook_rows import Fill

HUNDRED = Decimal(100)
_HUNDREDTH = Decimal("0.01")


class ReducedBy(StrEnum):
    """Why an entry is smaller than requested: a limit, the lot, or a partial fill."""

    MAX_ENTRY_PERCENT = "max_entry_percent"
    MAX_POSITION_USD = "max_position_usd"
    MAX_POSITION_SIZE_USD = "max_position_size_usd"
    MAX_PROTECTED_QUANTITY = "max_protected_quantity"
    LOT_STEP = "lot_step"
    PARTIAL_FILL = "partial_fill"


def calculate_closing_quantity(
    held: Decimal, percent: Decimal, lot: Decimal, min_quantity: Decimal | None = None
) -> Decimal:
    """The quantity (base asset, whole lots) of an exit of `percent` of `held`; 0 if it is below `min_quantity`.

    All whole lots of `held` if less than `min_quantity` would remain, because no later order could close the rest.
    `min_quantity` is the venue's minimum of an order; None means one lot.
    """
    min_quantity = lot if min_quantity is None else min_quantity
    whole = floor_to(held, lot)
    part = whole if percent >= HUNDRED else floor_to(_calculate_percent(held, percent), lot)
    if part < min_quantity:
        return Decimal(0)
    return whole if held - part < min_quantity else part


def calculate_protective_prices(
    signal: TradeSignal, entry: Decimal, tick: Decimal
) -> tuple[Decimal | None, Decimal | None]:
    """Stop-loss and take-profit prices for a position entered at `entry`; None where the signal has no percent.

    Each is rounded to the tick towards the entry, so that neither triggers later than requested.
    """
    sign = 1 if signal.side is Side.LONG else -1
    stop_loss = _offset_price(entry, signal.stop_loss_percent, -sign, tick)
    take_profit = _offset_price(entry, signal.take_profit_percent, sign, tick)
    return stop_loss, take_profit


def find_reduction_reasons(wanted: Decimal, filled: Decimal, lot: Decimal) -> tuple[ReducedBy, ...]:
    """Why `filled` (base asset) is less than `wanted`: rounding to whole lots, or a partial fill. () if it is not."""
    if filled >= wanted:
        return ()
    return (ReducedBy.LOT_STEP if filled >= floor_to(wanted, lot) else ReducedBy.PARTIAL_FILL,)


def increase_position(held: Position | None, fill: Fill) -> tuple[Decimal, Decimal, Decimal]:
    """Quantity, average entry price and cost in USD of the position after an entry.

    The same arithmetic as the SQL function `increase_position`, so that a response shows what was booked.
    """
    cost = decimals.product(fill.quantity, fill.price)
    if held is None:
        return fill.quantity, fill.price, cost
    quantity = decimals.add(held.quantity, fill.quantity)
    total_cost = decimals.add(held.position_size_usd, cost)
    return quantity, decimals.quotient(total_cost, quantity), total_cost


def floor_to(value: Decimal, step: Decimal) -> Decimal:
    """The largest multiple of `step` that is not above `value`."""
    return decimals.round_to_step(value, step, ROUND_FLOOR)


def find_triggered_exit(position: Position, price: Decimal) -> Literal["stop_loss", "take_profit"] | None:
    """Which protective price of `position` the market at `price` has reached; the stop-loss if both are, else None."""
    sign = 1 if position.side is Side.LONG else -1
    if position.stop_loss_price is not None and (price - position.stop_loss_price) * sign <= 0:
        return "stop_loss"
    if position.take_profit_price is not None and (price - position.take_profit_price) * sign >= 0:
        return "take_profit"
    return None


def _offset_price(entry: Decimal, percent: Decimal | None, sign: int, tick: Decimal) -> Decimal | None:
    if percent is None:
        return None
    moved = _calculate_percent(entry, decimals.add(HUNDRED, percent.copy_sign(sign)))
    # Towards the entry: a price above it is rounded down, one below it up.
    price = decimals.round_to_step(moved, tick, ROUND_FLOOR if sign > 0 else ROUND_CEILING)
    return price if price > 0 else None


def _calculate_percent(whole: Decimal, percent: Decimal) -> Decimal:
    return decimals.product(decimals.product(whole, percent), _HUNDREDTH)
