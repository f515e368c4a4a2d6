"""An order book with the venue's clock and mark price, and the average price of a market order. Pure."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

from engine.domain import decimals
from engine.platform.values import Frozen

HUNDRED: Final = Decimal(100)
BOOK_LEVELS: Final = 50  # levels asked for; Binance-shaped venues weigh 50 as they weigh 5
DEEP_LEVELS: Final = 500  # for an order larger than the first 50 levels hold


class Level(NamedTuple):
    """The quantity offered at one price, in the base asset."""

    price: Decimal
    quantity: Decimal


class OrderBook(Frozen):
    """Both sides of one symbol's book, the best price first; a side may be empty.

    `is_cut`: the answer has as many levels as were requested, so the venue may have more. `at_ms` is the venue's time
    of the book (the older one of two), `clock_ms` the venue's clock, read before the book; `mark` is the mark price of
    `mark_ms`, read after the book. What the venue does not publish is None; `clock_ms` is None for a book that was
    fetched without clock and mark price.
    """

    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    is_cut: bool = False
    at_ms: int | None = None
    clock_ms: int | None = None
    mark: Decimal | None = None
    mark_ms: int | None = None

    def get_side(self, *, is_buy: bool) -> tuple[Level, ...]:
        """The levels that a buy (or sale) takes: the asks (or bids)."""
        return self.asks if is_buy else self.bids

    @property
    def fault(self) -> str | None:
        """Why nothing can be bought or sold at these prices, or None."""
        missing = [name for name, side in (("bids", self.bids), ("asks", self.asks)) if not side]
        if missing:
            return f"the order book has no {' and no '.join(missing)}"
        bid, ask = self.bids[0].price, self.asks[0].price
        if bid < ask:
            return None
        return f"the best bid {decimals.format_plain(bid)} is not below the best ask {decimals.format_plain(ask)}"

    @property
    def spread_percent(self) -> Decimal | None:
        """How far the best ask is above the best bid (below 0: a crossed book); None without one of them."""
        if not (self.bids and self.asks):
            return None
        return calculate_percent_above(self.asks[0].price, self.bids[0].price)

    @property
    def mark_distance_percent(self) -> Decimal | None:
        """How far the middle between bid and ask is above the mark price; None where one of them is not known."""
        if not (self.bids and self.asks and self.mark):
            return None
        middle = decimals.product(decimals.add(self.bids[0].price, self.asks[0].price), Decimal("0.5"))
        return calculate_percent_above(middle, self.mark)


class MarkPrice(Frozen):
    """A venue's mark price at `at_ms`, and its clock, read before; what it does not publish is None."""

    price: Decimal | None
    at_ms: int | None
    clock_ms: int


def calculate_percent_above(price: Decimal, base: Decimal) -> Decimal:
    """How many percent `price` is above `base` (below 0: below it)."""
    return decimals.quotient(decimals.product(decimals.subtract(price, base), HUNDRED), base)


def sum_quantities(levels: Iterable[Level]) -> Decimal:
    """The total quantity of `levels`, in the base asset."""
    return decimals.total([level.quantity for level in levels])


def take_levels(levels: Sequence[Level], quantity: Decimal) -> tuple[Level, ...]:
    """What a market order of `quantity` takes from each of `levels` (the best first), less in all where they end."""
    parts, remaining = [], quantity
    for level in levels:
        part = min(level.quantity, remaining)
        if part <= 0:
            break
        parts.append(Level(level.price, part))
        remaining = decimals.subtract(remaining, part)
    return tuple(parts)


def calculate_average_price(levels: Sequence[Level], quantity: Decimal) -> Decimal | None:
    """What a market order of `quantity` pays on average; None where `levels` end before that.

    The exact price where one level holds all of it, else rounded to 28 significant digits.
    """
    parts = take_levels(levels, quantity)
    if not parts or sum_quantities(parts) < quantity:
        return None
    if len(parts) == 1:
        return parts[0].price
    return decimals.quotient(decimals.total(decimals.product(*part) for part in parts), quantity)


def extend_last_level(levels: Sequence[Level], quantity: Decimal) -> tuple[Level, ...]:
    """`levels` with the last one enlarged until they hold `quantity`: for an exit, which must never be refused."""
    missing = decimals.subtract(quantity, sum_quantities(levels))
    if missing <= 0 or not levels:
        return tuple(levels)
    last = levels[-1]
    return (*levels[:-1], Level(last.price, decimals.add(last.quantity, missing)))


def sort_levels(levels: Iterable[Level], *, are_bids: bool) -> tuple[Level, ...]:
    """One side of a book in order, without levels at which nothing is offered.

    Raises ValueError for a price or quantity that makes no sense.
    """
    side = sorted((level for level in levels if level.quantity != 0), key=lambda level: level.price, reverse=are_bids)
    if any(level.price <= 0 or level.quantity < 0 for level in side):
        raise ValueError("a price that is not positive, or a negative quantity")
    return tuple(side)
