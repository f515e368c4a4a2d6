"""Sizes of orders that close: how one exit becomes several orders, what one stop can hold, and what is too little."""

from decimal import ROUND_CEILING, Decimal
from typing import Final

from engine.domain import decimals
from engine.venues.instrument import Instrument
from engine.venues.orders import PART_MARKS

MAX_PARTS: Final = len(PART_MARKS)
# What is too little for an order is forgotten only where it is worth little: no more than this (or the venue's least
# notional), or as the rest of an exit no more than was closed and no more than the second bound; beside opposite
# positions no more than that one.
MAX_DUST_USD: Final = Decimal(10)
MAX_REST_USD: Final = Decimal(250)


def split_quantity(quantity: Decimal, instrument: Instrument) -> tuple[Decimal, ...]:
    """The market orders that close `quantity`: whole lots, at most MAX_PARTS, none below the least quantity or above
    the most; the last two share what would be too little for one. () where all of it is too little.

    What they leave of `quantity` is less than an order, unless it needs more orders than that.
    """
    whole, least, most = (
        instrument.floor_to_lot(quantity),
        min_order_quantity(instrument),
        max_order_quantity(instrument),
    )
    if whole < least:
        return ()
    if most is None or whole <= most:
        return (whole,)
    whole = min(whole, decimals.product(most, Decimal(MAX_PARTS)))
    count = int(whole // most)
    parts, last = [most] * count, whole - decimals.product(most, Decimal(count))
    if last >= least:
        parts.append(last)
    elif last > 0 and most + last >= 2 * least:
        parts[-1:] = [most + last - least, least]
    return tuple(parts)


def min_order_quantity(instrument: Instrument) -> Decimal:
    """The smallest quantity that a market order may have: a lot, or the venue's least in whole lots."""
    return max(instrument.lot, decimals.round_to_step(instrument.min_quantity, instrument.lot, ROUND_CEILING))


def max_order_quantity(instrument: Instrument) -> Decimal | None:
    """The largest quantity that a market order may have, in whole lots. None without a bound, or with one below the
    least quantity, which nothing could satisfy."""
    if instrument.max_quantity is None:
        return None
    most = instrument.floor_to_lot(instrument.max_quantity)
    return most if most >= min_order_quantity(instrument) else None


def protected_quantity(quantity: Decimal, instrument: Instrument) -> Decimal:
    """How much of `quantity` one protective order can be for; 0 where all of it is too little."""
    whole, most = instrument.floor_to_lot(quantity), max_order_quantity(instrument)
    if whole < min_order_quantity(instrument):
        return Decimal(0)
    return whole if most is None else min(whole, most)


def find_dust(left: Decimal, held: Decimal, price: Decimal, instrument: Instrument) -> Decimal | None:
    """`left` of a position of `held`, if it is too little for any order and worth little at `price`; None where it can
    be sent, is nothing, or is worth too much to be forgotten."""
    if not 0 < left < min_order_quantity(instrument):
        return None
    usd = decimals.product(left, price)
    is_rest = usd <= MAX_REST_USD and decimals.product(left, Decimal(2)) <= held
    return left if usd <= max(MAX_DUST_USD, instrument.min_notional) or is_rest else None


def find_netted_dust(held: Decimal, price: Decimal, instrument: Instrument) -> Decimal | None:
    """`held`, which opposite positions of its account keep from being a reduction, where it is too little at `price`
    for any other order; None where there can be one, or it is worth too much to be forgotten."""
    usd = decimals.product(held, price)
    return held if instrument.is_trading and usd < instrument.min_notional and usd <= MAX_REST_USD else None


def describe_too_little(held: Decimal, price: Decimal, instrument: Instrument) -> str:
    """Why a position of `held` cannot be closed, worth what it is at `price`."""
    quantity, least = decimals.format_plain(held), decimals.format_plain(min_order_quantity(instrument))
    usd = decimals.product(held, price)
    return (
        f"{quantity} is too little for an order (the least is {least}), and worth {usd:.2f} USD: "
        "the position stays open"
    )
