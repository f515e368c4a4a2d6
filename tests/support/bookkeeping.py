"""The plainest bookkeeping there is: what a position and its trades must be after a row of fills."""

from dataclasses import dataclass, field
from decimal import Decimal


@dataclass
class Book:
    """One strategy's position in one symbol and what it has earned."""

    quantity: Decimal = Decimal(0)  # signed
    entry: Decimal = Decimal(0)
    entry_fees: Decimal = Decimal(0)
    trades: list[tuple[Decimal, Decimal]] = field(default_factory=list)  # fees, profit after them

    def open(self, sign: int, quantity: Decimal, price: Decimal, fee: Decimal) -> None:
        held = abs(self.quantity)
        self.entry = (self.entry * held + price * quantity) / (held + quantity)
        self.quantity += sign * quantity
        self.entry_fees += fee

    def close(self, quantity: Decimal, price: Decimal, fee: Decimal) -> None:
        share = quantity / abs(self.quantity)
        fees = self.entry_fees * share + fee
        sign = 1 if self.quantity > 0 else -1
        self.trades.append((fees, sign * quantity * (price - self.entry) - fees))
        self.entry_fees -= self.entry_fees * share
        self.quantity -= sign * quantity
