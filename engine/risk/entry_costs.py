"""What an entry costs and may cost, by one order book: its price, spread, slippage, age, distance from the mark price.

Pure, and for entries only: an exit is never refused for its cost. An unknown value refuses the entry.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from typing import Final, NamedTuple

from engine.domain import decimals
from engine.risk.limit_breach import LimitBreach, LimitType
from engine.store.webhook_rows import Portfolio
from engine.venues.instrument import Instrument
from engine.venues.order_book import (
    Level,
    OrderBook,
    calculate_average_price,
    calculate_percent_above,
    extend_last_level,
    sum_quantities,
)
from engine.venues.paper import apply_slippage
from engine.venues.quotes import Quote

MAX_SPREAD_PERCENT: Final = Decimal(1)
MAX_SLIPPAGE_PERCENT: Final = Decimal(1)
MAX_AGE_S: Final = 30  # difference from the venue's clock, in either direction
# Liquidation follows the mark price: far from it, a position may be liquidated as soon as it is opened.
MAX_MARK_DISTANCE_PERCENT: Final = Decimal(3)
_SECOND_MS: Final = 1_000
_FOUR_PLACES: Final = Decimal("0.0001")


@dataclass(frozen=True)
class CostLimits:
    """In percent: the maximum of the ask above the bid, and of the average fill price beyond the best price."""

    max_spread_percent: Decimal = MAX_SPREAD_PERCENT
    max_slippage_percent: Decimal = MAX_SLIPPAGE_PERCENT

    @classmethod
    def from_portfolio(cls, portfolio: Portfolio | None) -> "CostLimits":
        """The stricter limits of the person and the strategy; the defaults where neither sets one."""
        sources = () if portfolio is None else (portfolio.settings, portfolio.strategy)
        rows = [row for row in sources if row is not None]
        return cls(
            _select_strictest((row.max_spread_percent for row in rows), MAX_SPREAD_PERCENT),
            _select_strictest((row.max_slippage_percent for row in rows), MAX_SLIPPAGE_PERCENT),
        )


@dataclass(frozen=True)
class EntryTerms:
    """What does not change while an entry is priced: its side, its limit price, and by how many percent the price may
    move before the order arrives."""

    is_buy: bool
    limits: CostLimits
    slippage_percent: Decimal
    limit_price: Decimal | None = None


class PricedEntry(NamedTuple):
    """What an entry's dollars are worth at one order book: `quantity` of the base asset at the expected `price`."""

    quantity: Decimal
    price: Decimal
    book: OrderBook

    def build_quote(self, *, is_buy: bool) -> Quote:
        """Best bid and ask; the one that a stop of the entry is nearer to stands for the last price."""
        bid, ask = self.book.bids[0].price, self.book.asks[0].price
        return Quote(bid=bid, ask=ask, last=bid if is_buy else ask, at_ms=self.book.at_ms or self.book.clock_ms or 0)


def price_entry(
    book: OrderBook, size_usd: Decimal, instrument: Instrument, terms: EntryTerms
) -> PricedEntry | LimitBreach:
    """How much of the base asset `size_usd` is worth at what the book and the slippage make of the price, so that the
    notional stays within it; or why nothing is entered at that price. `book` has passed `check_book`."""
    price = _expected_price(book, size_usd, instrument, terms)
    quantity = decimals.quotient(size_usd, price)
    # The slippage is judged for what will be sent, not for the part of a lot that will not.
    breach = check_slippage(
        book, instrument.floor_to_lot(quantity), terms.limits, is_buy=terms.is_buy, limit_price=terms.limit_price
    )
    return breach or PricedEntry(quantity, price, book)


def _expected_price(book: OrderBook, size_usd: Decimal, instrument: Instrument, terms: EntryTerms) -> Decimal:
    """Of a purchase what it pays on average, moved by the slippage; of a sale the best bid, as it may get less."""
    best = book.get_side(is_buy=terms.is_buy)[0]
    if not terms.is_buy:
        return best.price
    levels = select_levels_within(book.asks, terms.limit_price, is_buy=True) or (best,)
    quantity = decimals.quotient(size_usd, best.price)
    average = calculate_average_price(extend_last_level(levels, quantity), quantity) or best.price
    return apply_slippage(average, instrument, is_buy=True, slippage_percent=terms.slippage_percent)


def check_book(book: OrderBook, limits: CostLimits) -> LimitBreach | None:
    """The limit that `book` breaches whatever the size of the entry, or None."""
    return _check_age(book) or _check_spread(book, limits.max_spread_percent) or _check_mark_distance(book)


def check_slippage(
    book: OrderBook, quantity: Decimal, limits: CostLimits, *, is_buy: bool, limit_price: Decimal | None = None
) -> LimitBreach | None:
    """The breach of the slippage limit by a market order of `quantity` (base asset), or None.

    With a `limit_price` only the levels within it can fill, so only they are checked.
    """
    levels = select_levels_within(book.get_side(is_buy=is_buy), limit_price, is_buy=is_buy)
    if limit_price is not None:
        quantity = min(quantity, sum_quantities(levels))
    if quantity <= 0:
        return None  # less than a lot, or no level within the limit price: the venue's own refusal says so better
    max_percent = limits.max_slippage_percent
    average = calculate_average_price(levels, quantity)
    if average is None:
        offered, wanted = decimals.format_plain(sum_quantities(levels)), decimals.format_plain(quantity)
        message = f"The order book holds {offered} of the {wanted} that would be {'bought' if is_buy else 'sold'}"
        return LimitBreach(LimitType.MAX_SLIPPAGE, message, None, max_percent)
    slippage = abs(calculate_percent_above(average, levels[0].price))
    if slippage <= max_percent:
        return None
    message = (
        f"The order book would fill it {_format_percent(slippage)} % worse than its best price, "
        f"of at most {_format_percent(max_percent)}"
    )
    return LimitBreach(LimitType.MAX_SLIPPAGE, message, _round_up(slippage), max_percent)


def select_levels_within(levels: tuple[Level, ...], limit_price: Decimal | None, *, is_buy: bool) -> tuple[Level, ...]:
    """The levels at `limit_price` or better; all of them without one."""
    if limit_price is None:
        return levels
    return tuple(level for level in levels if (level.price <= limit_price if is_buy else level.price >= limit_price))


def _check_age(book: OrderBook) -> LimitBreach | None:
    """Compares times of the venue only, because this host's clock may differ, and a simulated one may run faster."""
    if book.clock_ms is None:
        return None  # a venue without a clock of its own: there is nothing to compare with
    # The clock was read before the book and the mark price after it, so the book may be newer than the clock.
    latest_ms = max(book.clock_ms, book.mark_ms or book.clock_ms)
    for name, at_ms in (("order book", book.at_ms), ("mark price", book.mark_ms)):
        if at_ms is None:
            return LimitBreach(LimitType.STALE_QUOTE, f"The venue publishes no time of its {name}", None, MAX_AGE_S)
        age_s = (book.clock_ms - at_ms) / _SECOND_MS
        if age_s > MAX_AGE_S:
            message = f"The {name} is {age_s:g} s old by the venue's clock, of at most {MAX_AGE_S}"
            return LimitBreach(LimitType.STALE_QUOTE, message, age_s, MAX_AGE_S)
    early_s = ((book.at_ms or 0) - latest_ms) / _SECOND_MS
    if early_s > MAX_AGE_S:
        message = f"The order book is {early_s:g} s ahead of the venue's clock, of at most {MAX_AGE_S}"
        return LimitBreach(LimitType.STALE_QUOTE, message, -early_s, MAX_AGE_S)
    return None


def _check_spread(book: OrderBook, max_percent: Decimal) -> LimitBreach | None:
    spread = book.spread_percent
    if spread is None or book.fault is not None:
        message = f"{book.fault}: there is no spread to judge"
        current = None if spread is None else _round_up(spread)
        return LimitBreach(LimitType.MAX_SPREAD, message[0].upper() + message[1:], current, max_percent)
    if spread <= max_percent:
        return None
    message = f"The ask is {_format_percent(spread)} % above the bid, of at most {_format_percent(max_percent)}"
    return LimitBreach(LimitType.MAX_SPREAD, message, _round_up(spread), max_percent)


def _check_mark_distance(book: OrderBook) -> LimitBreach | None:
    if book.clock_ms is None:
        return None
    max_percent, distance = MAX_MARK_DISTANCE_PERCENT, book.mark_distance_percent
    if distance is None:
        return LimitBreach(LimitType.MARK_DISTANCE, "The venue publishes no mark price", None, max_percent)
    if abs(distance) <= max_percent:
        return None
    message = (
        f"The market is {_format_percent(abs(distance))} % away from the mark price, "
        f"of at most {_format_percent(max_percent)}"
    )
    return LimitBreach(LimitType.MARK_DISTANCE, message, _round_up(abs(distance)), max_percent)


def _select_strictest(limits: Iterator[Decimal | None], default: Decimal) -> Decimal:
    return min((limit for limit in limits if limit), default=default)  # 0, like None, sets no limit


def _round_up(percent: Decimal) -> Decimal:
    """`percent` to four places, away from 0, because a refused value rounded down could look as if it were allowed."""
    return decimals.round_to_step(percent, _FOUR_PLACES, ROUND_UP)


def _format_percent(percent: Decimal) -> str:
    return decimals.format_plain(_round_up(percent))
