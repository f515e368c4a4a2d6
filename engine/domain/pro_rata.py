"""A quantity over several holders, in proportion to what each holds and in whole units; nothing is lost."""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final

from engine.domain import decimals

ZERO: Final = Decimal(0)


def split_pro_rata(quantity: Decimal, held: Sequence[Decimal], unit: Decimal) -> list[Decimal]:
    """`quantity` shared in proportion to `held`, in whole units; those with the largest remainders get one unit more.

    `quantity` is at most the sum of `held`, and all of them are multiples of `unit`.
    """
    total = sum((Fraction(each) for each in held), Fraction(0))
    if total == 0:
        return [ZERO for _ in held]
    exact = [Fraction(each) * Fraction(quantity) / total / Fraction(unit) for each in held]
    whole = [int(each) for each in exact]
    left = int(Fraction(quantity) / Fraction(unit)) - sum(whole)
    largest = sorted(range(len(held)), key=lambda index: (whole[index] - exact[index], index))
    for index in largest[:left]:
        whole[index] += 1
    return [decimals.product(unit, Decimal(each)) for each in whole]


def find_unit(quantities: Sequence[Decimal], lot: Decimal | None) -> Decimal:
    """The lot, where all `quantities` are multiples of it; else the last decimal place that one of them uses."""
    if lot is not None and all(Fraction(each) / Fraction(lot) % 1 == 0 for each in quantities):
        return lot
    return Decimal((0, (1,), min(_exponent(decimals.format_plain(each)) for each in quantities)))


def _exponent(text: str) -> int:
    """Of the last digit that is not 0, in plain digits."""
    whole, _, fraction = text.partition(".")
    return -len(fraction) if fraction else len(whole) - len(whole.rstrip("0") or whole)
