"""Lists of open orders are fetched once a round, by symbol or, where that is cheaper, for the whole account."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import cast
from uuid import UUID

import pytest

from engine.domain.errors import StrategyFault, VenueUnavailable
from engine.domain.positions import Position
from engine.venues.account_state import OpenOrder
from engine.venues.instrument import GONE, Instrument
from engine.venues.venue import LiveVenue, Quotes
from tests.support.factories.venue_records import live, waiting
from webhook_server.reconciliation.open_order_cache import (
    MAX_SYMBOL_LISTINGS,
    OpenOrderCache,
    find_listed_instrument,
    is_delisted,
)


@dataclass
class Account:
    orders: list[OpenOrder] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)

    def fetch_open_orders(self, symbol: str | None = None) -> tuple[OpenOrder, ...]:
        self.asked.append(symbol)
        return tuple(each for each in self.orders if symbol in {None, each.symbol})

    @property
    def venue(self) -> LiveVenue:
        return cast("LiveVenue", self)


def held(symbols: Sequence[str], user: int = 1) -> list[Position]:
    return [live("1", symbol=symbol, user_id=UUID(int=user)) for symbol in symbols]


def names(count: int) -> list[str]:
    return [f"S{number}USDT" for number in range(count)]


def test_a_list_of_one_symbol_serves_all_of_its_positions_and_says_that_it_is_not_new() -> None:
    account = Account([waiting("a", "S0USDT"), waiting("b", "S1USDT"), waiting(None, "S0USDT")])
    first, again = held(["S0USDT", "S0USDT"])
    cache = OpenOrderCache([first, again])
    orders, is_new = cache.get(account.venue, first)
    assert (set(orders), is_new) == ({"a", None}, True)
    assert cache.get(account.venue, again) == (orders, False)
    assert account.asked == ["S0USDT"]


@pytest.mark.parametrize(("count", "asked"), [(MAX_SYMBOL_LISTINGS, "S0USDT"), (MAX_SYMBOL_LISTINGS + 1, None)])
def test_from_41_symbols_on_one_list_of_all_serves_the_account(count: int, asked: str | None) -> None:
    account = Account([waiting("a", "S0USDT"), waiting("b", "S1USDT")])
    positions = held(names(count))
    cache = OpenOrderCache(positions)
    assert set(cache.get(account.venue, positions[0])[0]) == {"a"}
    assert set(cache.get(account.venue, positions[1])[0]) == {"b"}
    assert cache.get(account.venue, positions[2])[0] == {}
    assert account.asked[0] == asked
    assert len(account.asked) == (1 if asked is None else 3)


def test_the_symbols_of_another_account_do_not_count() -> None:
    account = Account()
    positions = [*held(names(30), user=1), *held(names(30), user=2)]
    OpenOrderCache(positions).get(account.venue, positions[0])
    assert account.asked == ["S0USDT"]


def test_a_refreshed_list_replaces_the_one_that_was_known() -> None:
    account = Account([waiting("a", "S0USDT")])
    (position,) = held(["S0USDT"])
    cache = OpenOrderCache([position])
    cache.get(account.venue, position)
    account.orders = [waiting("b", "S0USDT")]
    assert set(cache.refresh(account.venue, position)) == {"b"}
    assert (set(cache.get(account.venue, position)[0]), len(account.asked)) == ({"b"}, 2)


@dataclass
class Listing:
    """`status` None: the venue lists no such symbol. `is_stale`: the list is read again once a price is asked for."""

    status: str | None
    is_stale: bool = False

    def fetch_instrument(self, symbol: str) -> Instrument:
        if self.status is None and not self.is_stale:
            raise StrategyFault(f"it lists no {symbol}")
        return Instrument(symbol=symbol, tick=Decimal(1), lot=Decimal(1), status=self.status or "TRADING")

    def fetch_quote(self, _: str) -> None:
        self.is_stale = False
        raise VenueUnavailable("it tells no price")


@pytest.mark.parametrize(("status", "is_listed"), [("TRADING", True), ("BREAK", True), (GONE, False), (None, False)])
def test_a_symbol_that_is_halted_is_listed_and_one_that_is_gone_is_not(status: str | None, *, is_listed: bool) -> None:
    quotes = cast("Quotes", Listing(status))
    assert (find_listed_instrument(quotes, "X") is not None) is is_listed
    assert is_delisted(quotes, "X") is not is_listed


def test_a_list_of_before_is_read_again_before_a_symbol_counts_as_listed() -> None:
    stale = Listing(None, is_stale=True)
    assert find_listed_instrument(cast("Quotes", stale), "X") is not None
    assert is_delisted(cast("Quotes", stale), "X")
