"""The precision of the books, numeric(20, 8): prices, quantities and money to 8 decimal places, rounded half-even."""

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

LEAST: Final = Decimal("0.00000001")
# What numeric(20, 8) does not hold any more.
BEYOND: Final = Decimal(1_000_000_000_000)


def rounded(value: Decimal) -> Decimal:
    """`value` (finite) as the books keep it, whatever rounding the thread's decimal context has."""
    return value.quantize(LEAST, ROUND_HALF_EVEN)
