"""How much is traded, at which protective prices, and what it earned: exact arithmetic and nothing else."""

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
    """What made an entry less than was asked for: a limit, the size of a lot, or a venue that filled a part only."""

    MAX_ENTRY_PERCENT = "max_entry_percent"
    MAX_POSITION_USD = "max_position_usd"
    MAX_POSITION_SIZE_USD = "max_position_size_usd"
    MAX_PROTECTED_QUANTITY = "max_protected_quantity"
    LOT_STEP = "lot_step"
    PARTIAL_FILL = "partial_fill"


def closing_quantity(held: Decimal, percent: Decimal, lot: Decimal, min_quantity: Decimal | None = None) -> Decimal:
    """`percent` of what is held in whole lots, 0 if that is under `least` (a lot); all that can be sent of it when less
    than `least` would stay."""
    min_quantity = lot if min_quantity is None else min_quantity
    whole = floor_to(held, lot)
    part = whole if percent >= HUNDRED else floor_to(_percent_of(held, percent), lot)
    if part < min_quantity:
        return Decimal(0)
    return whole if held - part < min_quantity else part


def protective_prices(signal: TradeSignal, entry: Decimal, tick: Decimal) -> tuple[Decimal | None, Decimal | None]:
    """Stop-loss and take-profit prices for a position entered at `entry`, each rounded to the tick nearer to the entry.

    Nearer: a loss is cut no later and a profit taken no later than was asked. None where no percent was given.
    """
    sign = 1 if signal.side is Side.LONG else -1
    stop = _offset_price(entry, signal.stop_loss_percent, -sign, tick)
    target = _offset_price(entry, signal.take_profit_percent, sign, tick)
    return stop, target


def find_reduction_reasons(wanted: Decimal, filled: Decimal, lot: Decimal) -> tuple[str, ...]:
    """Why `filled` of the base asset is less than `wanted`: no whole lots, or a venue that filled a part only."""
    if filled >= wanted:
        return ()
    return (ReducedBy.LOT_STEP if filled >= floor_to(wanted, lot) else ReducedBy.PARTIAL_FILL,)


def increase_position(held: Position | None, fill: Fill) -> tuple[Decimal, Decimal, Decimal]:
    """Quantity, average entry price and cost in USD of the position after an entry, as the books have them."""
    cost = decimals.product(fill.quantity, fill.price)
    if held is None:
        return fill.quantity, fill.price, cost
    quantity = decimals.add(held.quantity, fill.quantity)
    whole = decimals.add(held.position_size_usd, cost)
    return quantity, decimals.quotient(whole, quantity), whole


def floor_to(value: Decimal, step: Decimal) -> Decimal:
    """The largest multiple of `step` that is not above `value`."""
    return decimals.round_to_step(value, step, ROUND_FLOOR)


def find_triggered_exit(position: Position, price: Decimal) -> Literal["stop_loss", "take_profit"] | None:
    """Which protective price of `position` the market has reached; the stop first when both are."""
    sign = 1 if position.side is Side.LONG else -1
    if position.stop_loss_price is not None and (price - position.stop_loss_price) * sign <= 0:
        return "stop_loss"
    if position.take_profit_price is not None and (price - position.take_profit_price) * sign >= 0:
        return "take_profit"
    return None


def _offset_price(entry: Decimal, percent: Decimal | None, sign: int, tick: Decimal) -> Decimal | None:
    if percent is None:
        return None
    moved = _percent_of(entry, decimals.add(HUNDRED, percent.copy_sign(sign)))
    price = decimals.round_to_step(moved, tick, ROUND_FLOOR if sign > 0 else ROUND_CEILING)
    return price if price > 0 else None


def _percent_of(whole: Decimal, percent: Decimal) -> Decimal:
    return decimals.product(decimals.product(whole, percent), _HUNDREDTH)
