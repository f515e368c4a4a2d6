"""The plainest bookkeeping there is: what a position and its trades must be after a row of fills, to the last digit."""

from dataclasses import dataclass, field
from decimal import Decimal

from engine.domain.decimals import product, quotient, total


@dataclass
class Book:
    """One strategy's position in one symbol and what it has earned. `cost` is of `quantity`, without fees."""

    quantity: Decimal = Decimal(0)  # signed
    cost: Decimal = Decimal(0)
    entry_fees: Decimal = Decimal(0)
    trades: list[tuple[Decimal, Decimal]] = field(default_factory=list)  # fees, profit after them

    @property
    def entry(self) -> Decimal:
        return quotient(self.cost, abs(self.quantity)) if self.quantity else Decimal(0)

    def open(self, sign: int, quantity: Decimal, price: Decimal, fee: Decimal) -> None:
        self.cost = total((self.cost, product(quantity, price)))
        self.quantity += sign * quantity
        self.entry_fees = total((self.entry_fees, fee))

    def close(self, quantity: Decimal, price: Decimal, fee: Decimal) -> None:
        sign = 1 if self.quantity > 0 else -1
        cost, entry_fees = self._part(self.cost, quantity), self._part(self.entry_fees, quantity)
        fees = total((entry_fees, fee))
        gained = total((product(quantity, price), cost.copy_negate()))
        self.trades.append((fees, total((product(Decimal(sign), gained), fees.copy_negate()))))
        self.cost = total((self.cost, cost.copy_negate()))
        self.entry_fees = total((self.entry_fees, entry_fees.copy_negate()))
        self.quantity -= sign * quantity

    def _part(self, whole: Decimal, quantity: Decimal) -> Decimal:
        held = abs(self.quantity)
        return whole if quantity == held else quotient(product(whole, quantity), held)
