"""Commissions of trades: in dollars, or at a discount in a coin while the account has some."""

from collections.abc import Callable
from decimal import ROUND_FLOOR, Decimal
from typing import Final

DOLLAR: Final = "USDT"
COIN_PRICE: Final = Decimal(600)  # in dollars, of a coin that the venue does not list
COIN_DISCOUNT: Final = Decimal("0.9")
COIN_STEP: Final = Decimal("1e-8")
CoinPrice = Callable[[str, int], Decimal]


def get_constant_price(coin: str, at_ms: int) -> Decimal:  # noqa: ARG001 - what every `CoinPrice` takes
    """The price in dollars of a coin without a market."""
    return COIN_PRICE


def calculate_commission(
    dollars: Decimal, coin: str | None, left: Decimal | None, price: CoinPrice, at_ms: int
) -> tuple[Decimal, str]:
    """Amount and asset of a commission. It is paid in dollars if less of the coin is `left` (None: unlimited) than is
    due."""
    if coin is None:
        return dollars, DOLLAR
    due = (dollars * COIN_DISCOUNT / price(coin, at_ms)).quantize(COIN_STEP)
    return (dollars, DOLLAR) if left is not None and left < due else (due, coin)


def split_quantity(quantity: Decimal, count: int, lot_decimals: int) -> list[Decimal]:
    """`quantity` in up to `count` parts of whole lots; the last part is the remainder."""
    lot = Decimal(1).scaleb(-lot_decimals)
    part = max(lot, (quantity / count).quantize(lot, ROUND_FLOOR))
    parts = [part] * (min(count, int(quantity / part)) - 1)
    return [*parts, quantity - sum(parts, Decimal(0))]
