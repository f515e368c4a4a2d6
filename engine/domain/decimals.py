"""The digits of the books: prices, quantities and money are kept as they came, products and sums are exact.

A figure has at most 40 significant digits and lies below 10^20; ticks of 1e-12 and lots of 1e-8 need a part of that.
The bound is for the machine: a number without end would take the memory and the time of all. A quotient (an average
price, the share of a partial close) is rounded to 28 significant digits, half-even, as Python's own contexts and the
SQL function `quotient` do: far beyond any tick, and what remains of cost and fees is the whole less the part, so that
nothing is lost.
"""

import re
from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from functools import reduce
from typing import Any, Final

MAX_DIGITS: Final = 40
QUOTIENT_DIGITS: Final = 28
MIN_STEP: Final = Decimal("1E-20")
UPPER_BOUND: Final = Decimal("1E+20")

_TRAPS: Final = (InvalidOperation, DivisionByZero, Overflow)
_FINEST: Final = Decimal(1).scaleb(-MAX_DIGITS)
_MAX_TEXT: Final = 64
_MAX_EXPONENT: Final = 100
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]([+-]?[0-9]{1,4}))?")


def _context(digits: int) -> Context:
    return Context(prec=digits, rounding=ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999, traps=list(_TRAPS))


# Contexts of our own, because libraries change the thread's. Threads share them: an operation reads a context's
# precision and sets only its flags, which nobody looks at.
_EXACT: Final = _context(6 * MAX_DIGITS)
_QUOTIENT: Final = _context(QUOTIENT_DIGITS)
_BOOKED: Final = _context(MAX_DIGITS)
_QUANTIZED: Final = _context(3 * MAX_DIGITS)

add: Final = _EXACT.add  # of two figures, exact
subtract: Final = _EXACT.subtract  # the first less the second, exact
product: Final = _EXACT.multiply  # of two figures, exact
quotient: Final = _QUOTIENT.divide  # the first by the second, to 28 significant digits; raises ZeroDivisionError


def total(values: Iterable[Decimal]) -> Decimal:
    """The exact sum."""
    return reduce(add, values, Decimal(0))


def round_to_step(value: Decimal, step: Decimal, rounding: str) -> Decimal:
    """The multiple of `step` next to `value`, in the direction of `rounding`, however many steps that are."""
    return product(_EXACT.divide(value, step).to_integral_value(rounding), step)


def round_for_books(value: Decimal) -> Decimal:
    """`value` as the books keep it: as it is, or rounded half-even to 40 significant digits and 40 places.

    Raises ValueError for what is no number, or 10^20 and more.
    """
    if not value.is_finite() or value.adjusted() >= UPPER_BOUND.adjusted():
        raise ValueError("is no figure of the books")
    rounded = _BOOKED.plus(value)
    coarser = rounded.quantize(_FINEST, context=_QUANTIZED)
    return rounded if coarser == rounded else coarser


def to_decimal(number: Any) -> Decimal:
    """The decimal that a venue or a library wrote, to its last digit; of a float the shortest text that means it.

    Raises ValueError for NaN, infinity, and what has more digits or a larger exponent than any figure.
    """
    text = str(number)
    match = _NUMBER.fullmatch(text) if len(text) <= _MAX_TEXT else None
    if match is None or abs(int(match[1] or 0)) > _MAX_EXPONENT:
        raise ValueError(f"{text[:40]!r} is no figure")
    return Decimal(text.removesuffix(".0"))


def format_plain(value: Decimal) -> str:
    """`value` in plain digits: no exponent, no zeros at the end, nothing rounded."""
    if not value.is_finite():
        return str(value)
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text
