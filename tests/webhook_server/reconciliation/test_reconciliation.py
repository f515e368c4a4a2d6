"""Rounds over all accounts: which are looked at, in which order, and what stays known of those that do not answer."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

import pytest

from engine.domain.errors import VenueUnavailable
from engine.platform.errors import DatabaseUnavailable
from engine.store.store import Store
from engine.store.webhook_rows import LiveAccount
from tests.support.factories.entry_values import USER
from tests.support.factories.venue_records import SYMBOL, at_venue, facts, live, traded
from tests.webhook_server.reconciliation.account_world import ACCOUNT, Books, OneVenue, WorldAccount
from webhook_server.background.protective_exits import ProtectiveExits
from webhook_server.clock import SystemClock
from webhook_server.metrics import Metrics
from webhook_server.reconciliation.account_comparison import MAX_BACKOFF_ROUNDS
from webhook_server.reconciliation.reconciliation import Reconciliation
from webhook_server.reconciliation.symbol_reconciliation import SymbolReconciler
from webhook_server.venue_registry import Venues

TWO, THREE = UUID(int=2), UUID(int=3)
OPEN = (SYMBOL, Decimal(2), Decimal(1))
EMPTY = LiveAccount(user_id=TWO, exchange="aster")


class World:
    def __init__(self, books: Books, account: WorldAccount, **others: WorldAccount) -> None:
        self.books, self.account, self.metrics = books, account, Metrics()
        store, by_user = cast("Store", books), {TWO: others.get("two"), THREE: others.get("three")}
        self.venues = OneVenue(account, {user: each for user, each in by_user.items() if each is not None})
        self.reconciliation = Reconciliation(
            store,
            cast("Venues", self.venues),
            SymbolReconciler(store, self.metrics),
            cast("ProtectiveExits", None),  # no protective order of these worlds fills
            SystemClock(),
            self.metrics,
        )

    def run(self, should_continue: Callable[[], bool] = lambda: True) -> list[tuple[str, Decimal, Decimal]]:
        found = self.reconciliation.run(should_continue)
        return [(each.symbol, each.booked, each.at_venue) for each in found]

    @property
    def gauge(self) -> float | None:
        return self.metrics.registry.get_sample_value("sparky_webhook_reconciliation_differences")


def looks(account: WorldAccount) -> int:
    return sum(what == "positions" and detail is None for what, detail in account.asked)


def books_of(net: str = "2", **fields: Any) -> Books:
    return Books({SYMBOL: facts(live(net))}, **fields)


def test_a_difference_is_told_counted_and_gone_once_the_record_explains_it() -> None:
    world = World(books_of(), WorldAccount(held=(at_venue("1"),)))
    assert world.run() == [OPEN]
    assert world.gauge == 1
    world.account.trades = (traded(11, "-1"),)
    assert world.run() == []
    assert world.gauge == 0
    assert [each.fill.quantity for each in world.books.booked] == [1]


def test_positions_on_paper_are_no_business_of_a_venue() -> None:
    world = World(Books({SYMBOL: facts(live("2", is_paper=True))}), WorldAccount())
    world.books.accounts = ()
    assert world.run() == []
    assert world.account.asked == []


@pytest.mark.parametrize(("has_record", "expected"), [(False, 1), (True, MAX_BACKOFF_ROUNDS)])
def test_an_account_that_holds_nothing_is_looked_at_now_and_then_or_always_with_a_record(
    expected: int, *, has_record: bool
) -> None:
    empty = WorldAccount()
    world = World(Books(accounts=(EMPTY.model_copy(update={"has_record": has_record}),)), WorldAccount(), two=empty)
    for _ in range(MAX_BACKOFF_ROUNDS):
        world.run()
    assert looks(empty) == expected
    world.run()
    assert looks(empty) == expected + 1


def test_an_account_that_could_not_be_read_keeps_its_differences_and_is_looked_at_again_though_it_is_empty() -> None:
    account = WorldAccount(held=(at_venue("1"),))
    world = World(books_of(), account)
    assert world.run() == [OPEN]
    account.away = VenueUnavailable("no answer")
    assert world.run() == [OPEN]
    assert world.gauge == 1
    assert len(world.books.reports) == 1
    empty = WorldAccount(away=VenueUnavailable("no answer"))
    other = World(Books(accounts=(EMPTY,)), WorldAccount(), two=empty)
    other.run()
    other.run()
    assert looks(empty) == 2


def test_after_two_silent_accounts_of_a_venue_others_wait_and_come_first_in_the_next_round() -> None:
    silent = [WorldAccount(away=VenueUnavailable("no answer")) for _ in range(2)]
    lively = WorldAccount(held=(at_venue("2"),))
    accounts = tuple(LiveAccount(user_id=user, exchange="aster", has_record=True) for user in (TWO, THREE, USER))
    world = World(books_of(accounts=accounts), lively, two=silent[0], three=silent[1])
    world.run()
    assert (looks(silent[0]), looks(silent[1]), looks(lively)) == (1, 1, 0)
    for each in silent:
        each.away = None
    world.run()
    assert looks(lively) == 1
    assert len(world.books.reports) == 3


def test_an_account_with_another_fault_is_in_no_others_way() -> None:
    class Strange(WorldAccount):
        def fetch_positions(self, symbol: str | None = None) -> tuple[Any, ...]:
            raise LookupError(symbol)

    world = World(books_of(accounts=(EMPTY, ACCOUNT)), WorldAccount(held=(at_venue("1"),)), two=Strange())
    assert world.run() == [OPEN]


def test_a_database_that_is_away_ends_the_round() -> None:
    world = World(books_of(), WorldAccount(away=DatabaseUnavailable("gone")))
    with pytest.raises(DatabaseUnavailable):
        world.run()


def test_a_server_that_stops_looks_at_no_further_account() -> None:
    world = World(books_of(accounts=(ACCOUNT, replace_user(ACCOUNT, TWO))), WorldAccount(held=(at_venue("2"),)))
    answers = iter([True, False])
    assert world.run(lambda: next(answers)) == []
    assert len(world.books.reports) == 1


def replace_user(account: LiveAccount, user: UUID) -> LiveAccount:
    return account.model_copy(update={"user_id": user, "has_record": True})
