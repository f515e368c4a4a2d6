"""What an entry may cost, judged by a book that a test makes up."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.risk.entry_costs import CostLimits, EntryTerms, PricedEntry, check_book, check_slippage, price_entry
from engine.risk.limit_breach import LimitBreach, LimitType
from engine.venues.instrument import Instrument
from engine.venues.order_book import Level, OrderBook
from tests.support.factories.entry_values import portfolio, settings, strategy

NOW_MS = 1_700_000_000_000


def book(**fields: Any) -> OrderBook:
    """100 at each of 99.95 and 100.05, with a mark price of 100, all of them new."""
    given = {
        "bids": (Level(Decimal("99.95"), Decimal(100)),),
        "asks": (Level(Decimal("100.05"), Decimal(100)),),
        "at_ms": NOW_MS,
        "clock_ms": NOW_MS,
        "mark": Decimal(100),
        "mark_ms": NOW_MS,
    }
    return OrderBook(**(given | fields))


def reason(seen: OrderBook) -> LimitType | None:
    refusal = check_book(seen, CostLimits())
    return None if refusal is None else refusal.limit_type


@pytest.mark.parametrize(
    ("fields", "limit_type"),
    [
        ({}, None),
        ({"at_ms": NOW_MS - 30_000}, None),
        ({"at_ms": NOW_MS - 30_001}, LimitType.STALE_QUOTE),
        ({"at_ms": NOW_MS + 30_001}, LimitType.STALE_QUOTE),
        ({"at_ms": NOW_MS + 60_000, "mark_ms": NOW_MS + 60_000}, None),  # a fast clock, and a slow answer between them
        ({"at_ms": None}, LimitType.STALE_QUOTE),
        ({"mark_ms": NOW_MS - 30_001}, LimitType.STALE_QUOTE),
        ({"mark_ms": None}, LimitType.STALE_QUOTE),
        ({"mark": None}, LimitType.MARK_DISTANCE),
        ({"mark": Decimal(97)}, LimitType.MARK_DISTANCE),
        ({"mark": Decimal(104)}, LimitType.MARK_DISTANCE),
        ({"bids": ()}, LimitType.MAX_SPREAD),
        ({"asks": (Level(Decimal(101), Decimal(1)),)}, LimitType.MAX_SPREAD),
        ({"asks": (Level(Decimal("99.9"), Decimal(1)),)}, LimitType.MAX_SPREAD),
        ({"clock_ms": None, "at_ms": None, "mark": None, "mark_ms": None}, None),  # a venue that offers none of these
    ],
)
def test_a_book_is_refused_for_its_age_its_spread_or_its_distance(
    fields: dict[str, Any], limit_type: LimitType | None
) -> None:
    assert reason(book(**fields)) is limit_type


def test_a_limit_order_is_judged_by_what_lies_within_its_limit() -> None:
    levels = (Level(Decimal(100), Decimal(1)), Level(Decimal(110), Decimal(1)))
    seen = book(asks=levels)
    assert check_slippage(seen, Decimal(2), CostLimits(), is_buy=True) is not None
    assert check_slippage(seen, Decimal(2), CostLimits(), is_buy=True, limit_price=Decimal(105)) is None
    assert check_slippage(seen, Decimal(2), CostLimits(), is_buy=True, limit_price=Decimal(90)) is None
    assert check_slippage(seen, Decimal(2), CostLimits(), is_buy=True, limit_price=Decimal(110)) is not None


@given(
    quantities=st.lists(st.decimals("0.1", "5", places=1), min_size=1, max_size=8),
    wanted=st.decimals("0.1", "20", places=1),
    is_buy=st.booleans(),
)
def test_what_is_allowed_never_pays_more_than_the_limit(
    quantities: list[Decimal], wanted: Decimal, *, is_buy: bool
) -> None:
    sign = 1 if is_buy else -1
    levels = tuple(Level(Decimal(1000) + sign * 5 * step, each) for step, each in enumerate(quantities))
    refusal = check_slippage(book(bids=levels, asks=levels), wanted, CostLimits(), is_buy=is_buy)
    left, paid = wanted, Decimal(0)
    for level in levels:
        part = min(left, level.quantity)
        paid, left = paid + part * level.price, left - part
    is_cheap = left <= 0 and abs(paid - 1000 * wanted) <= 10 * wanted
    assert (refusal is None) is is_cheap


@pytest.mark.parametrize(
    ("person", "own", "expected"), [(None, None, 1), (0, 0, 1), (5, None, 5), (None, 5, 5), (5, 2, 2), (2, 5, 2)]
)
def test_the_strictest_limit_that_is_set_counts_and_the_default_without_one(
    person: int | None, own: int | None, expected: int
) -> None:
    view = portfolio(settings=settings(max_spread_percent=person), strategy=strategy(max_spread_percent=own))
    assert CostLimits.from_portfolio(view).max_spread_percent == expected
    assert CostLimits.from_portfolio(None).max_spread_percent == 1


INSTRUMENT = Instrument(symbol="BTCUSDT", tick=Decimal("0.05"), lot=Decimal("0.001"))
NO_LIMITS = CostLimits(max_slippage_percent=Decimal(100))


def terms(**fields: Any) -> EntryTerms:
    """Of a purchase at the market, whose price may move by 0.02 %."""
    given: dict[str, Any] = {"is_buy": True, "limits": CostLimits(), "slippage_percent": Decimal("0.02")}
    return EntryTerms(**given | fields)


def priced(seen: OrderBook, size_usd: int | Decimal, **fields: Any) -> PricedEntry:
    found = price_entry(seen, Decimal(size_usd), INSTRUMENT, terms(**fields))
    assert isinstance(found, PricedEntry)
    return found


def walk(levels: tuple[Level, ...], quantity: Decimal) -> Decimal | None:
    """What `quantity` pays or gets from `levels`, level by level; None where they end before."""
    left, usd = quantity, Decimal(0)
    for level in levels:
        part = min(left, level.quantity)
        usd, left = usd + part * level.price, left - part
    return usd if left == 0 else None


def test_a_purchase_is_sized_at_the_ask_and_the_slippage_on_the_next_tick() -> None:
    found = priced(book(), 1_000)
    assert found.price == Decimal("100.1")  # 100.05 and 0.02 %: 100.07001
    assert found.quantity == Decimal(1_000) / Decimal("100.1")
    assert found.book == book()


def test_a_sale_is_sized_at_the_best_bid_as_it_may_get_less() -> None:
    found = priced(book(), 1_000, is_buy=False)
    assert found.price == Decimal("99.95")


@given(
    quantities=st.lists(st.decimals("0.001", "5", places=3), min_size=1, max_size=8),
    gaps=st.lists(st.integers(1, 400), min_size=8, max_size=8),
    size_usd=st.decimals("1", "5000", places=2),
    slippage=st.decimals("0", "1", places=2),
    is_buy=st.booleans(),
)
def test_the_notional_of_an_entry_is_never_above_its_size(
    quantities: list[Decimal], gaps: list[int], size_usd: Decimal, slippage: Decimal, *, is_buy: bool
) -> None:
    """At what the book fills of the whole lots, and at that price moved by the slippage."""
    sign, at, levels = 1 if is_buy else -1, Decimal(100), []
    for quantity, gap in zip(quantities, gaps, strict=False):
        levels.append(Level(at, quantity))
        at += sign * gap * INSTRUMENT.tick
    side = tuple(level for level in levels if level.price > 0)
    seen = book(asks=side, bids=(Level(Decimal(99), Decimal(1)),)) if is_buy else book(bids=side)
    found = price_entry(seen, size_usd, INSTRUMENT, terms(is_buy=is_buy, limits=NO_LIMITS, slippage_percent=slippage))
    if isinstance(found, LimitBreach):  # the book ends before that
        assert found.limit_type is LimitType.MAX_SLIPPAGE
        return
    sent = INSTRUMENT.floor_to_lot(found.quantity)
    assert sent * found.price <= size_usd
    paid = walk(side, sent)
    assert paid is not None
    if is_buy:  # what is bought pays at most the expected price on average, which has the slippage on top
        assert paid * (1 + slippage / 100) <= sent * found.price
    assert paid <= size_usd


@given(size_usd=st.decimals("1", "9000", places=2), is_buy=st.booleans())
def test_what_is_priced_is_worth_the_whole_size_before_it_is_cut_to_lots(size_usd: Decimal, *, is_buy: bool) -> None:
    found = priced(book(), size_usd, is_buy=is_buy)
    assert size_usd - found.quantity * found.price < Decimal("1E-18")


def test_a_limit_order_is_priced_by_what_lies_within_its_limit() -> None:
    levels = (Level(Decimal(100), Decimal(1)), Level(Decimal(110), Decimal(100)))
    free = priced(book(asks=levels), 2_000, limits=NO_LIMITS)
    within = priced(book(asks=levels), 2_000, limits=NO_LIMITS, limit_price=Decimal(105))
    assert free.price > 105
    assert within.price == Decimal("100.05")  # 100 and 0.02 %
    assert priced(book(asks=levels), 2_000, limit_price=Decimal(90)).price == Decimal("100.05")


def test_the_slippage_is_judged_for_whole_lots_alone() -> None:
    """One lot lies at the best price, and all beyond it is far too dear: what is no whole lot is not bought there."""
    levels = (Level(Decimal(100), Decimal("0.002")), Level(Decimal(150), Decimal(9)))
    assert isinstance(price_entry(book(asks=levels), Decimal("0.25"), INSTRUMENT, terms()), PricedEntry)
    refused = price_entry(book(asks=levels), Decimal("0.5"), INSTRUMENT, terms())
    assert isinstance(refused, LimitBreach)
    assert refused.limit_type is LimitType.MAX_SLIPPAGE


def test_a_book_that_ends_before_the_entry_refuses_it() -> None:
    refused = price_entry(book(), Decimal(20_000), INSTRUMENT, terms())
    assert isinstance(refused, LimitBreach)
    assert (refused.limit_type, refused.current) == (LimitType.MAX_SLIPPAGE, None)


@pytest.mark.parametrize(("is_buy", "last"), [(True, "99.95"), (False, "100.05")])
def test_the_quote_of_an_entry_takes_the_price_that_its_stop_is_nearer_to_for_the_last(
    last: str, *, is_buy: bool
) -> None:
    quote = priced(book(), 1_000, is_buy=is_buy).build_quote(is_buy=is_buy)
    assert (quote.bid, quote.ask, quote.last) == (Decimal("99.95"), Decimal("100.05"), Decimal(last))
    assert quote.at_ms == NOW_MS


@pytest.mark.parametrize(("fields", "at_ms"), [({"at_ms": None}, NOW_MS), ({"at_ms": None, "clock_ms": None}, 0)])
def test_a_book_without_a_time_of_its_own_is_quoted_at_the_venues_clock(fields: dict[str, Any], at_ms: int) -> None:
    assert priced(book(**fields), 1_000).build_quote(is_buy=True).at_ms == at_ms
