"""Exact arithmetic on prices, quantities and money: values keep their digits, products and sums are not rounded.

A value has at most 40 significant digits and lies below 10^20; ticks of 1e-12 and lots of 1e-8 need fewer. Without the
bound, one huge number in an answer could use up memory and time. A quotient (an average price, the share of a partial
close) is rounded half-even to 28 significant digits, as Python's default context and the SQL function `quotient` do.
That is far finer than any tick; and nothing is lost, because the rest of a cost or fee is computed as the whole less
the part.
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
_MAX_TEXT: Final = 64  # characters of a number; longer texts are refused before they are parsed
_MAX_EXPONENT: Final = 100
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]([+-]?[0-9]{1,4}))?")


def _context(digits: int) -> Context:
    return Context(prec=digits, rounding=ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999, traps=list(_TRAPS))


# Contexts of our own, because libraries (ccxt) change the thread's. Threads share them: an operation reads a context's
# precision and sets only its flags, which are never read.
_EXACT: Final = _context(6 * MAX_DIGITS)
_QUOTIENT: Final = _context(QUOTIENT_DIGITS)
_BOOKED: Final = _context(MAX_DIGITS)
_QUANTIZED: Final = _context(3 * MAX_DIGITS)

add: Final = _EXACT.add  # of two figures, exact
subtract: Final = _EXACT.subtract  # the first less the second, exact
product: Final = _EXACT.multiply  # of two figures, exact
quotient: Final = _QUOTIENT.divide  # the first by the second, to 28 significant digits; raises ArithmeticError by 0


def total(values: Iterable[Decimal]) -> Decimal:
    """The exact sum."""
    return reduce(add, values, Decimal(0))


def round_to_step(value: Decimal, step: Decimal, rounding: str) -> Decimal:
    """The multiple of `step` next to `value` in the direction of `rounding`, one of decimal's ROUND_ constants."""
    return product(_EXACT.divide(value, step).to_integral_value(rounding), step)


def round_for_books(value: Decimal) -> Decimal:
    """`value`, rounded half-even to 40 significant digits and 40 decimal places if it has more.

    Raises ValueError for NaN, infinity, and 10^20 or more.
    """
    is_huge = not value.is_zero() and value.adjusted() >= UPPER_BOUND.adjusted()  # zero may have any exponent
    if not value.is_finite() or is_huge:
        raise ValueError("is no figure of the books")
    rounded = _BOOKED.plus(value)
    coarser = rounded.quantize(_FINEST, context=_QUANTIZED)
    return rounded if coarser == rounded else coarser


def to_decimal(number: Any) -> Decimal:
    """The exact decimal of a number or its text; of a float the shortest decimal that stands for it.

    Raises ValueError for NaN, infinity, texts that are no number, more than 64 characters, and exponents above 100.
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
