"""What a liquidation cost is looked for again, at growing intervals, and one account's fault is in no other's way."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

import pytest

from engine.domain.errors import VenueUnavailable
from engine.platform.errors import DatabaseUnavailable
from engine.store.store import Store
from engine.store.venue_record import LiquidationExit, LiquidationExits, RecentLiquidation
from engine.venues.account_record import Income
from tests.support.factories.venue_records import SYMBOL, RecordedAccount, income
from webhook_server.reconciliation.late_costs import LateLiquidationCosts, is_due
from webhook_server.reconciliation.unavailable_accounts import UnavailableAccounts
from webhook_server.venue_registry import Venues

ONE, TWO = UUID(int=1), UUID(int=2)


def recent(user: UUID = ONE, last_fill_id: int = 1) -> RecentLiquidation:
    return RecentLiquidation(user_id=user, exchange="aster", symbol=SYMBOL, first_ms=3_000, last_fill_id=last_fill_id)


@dataclass
class Away(RecordedAccount):
    """A venue that does not answer, or an account whose answers make no sense."""

    error: Exception = field(default_factory=lambda: VenueUnavailable("no answer"))

    def fetch_income(self, symbol: str | None, since_ms: int, kind: str | None = None) -> tuple[Income, ...]:  # noqa: ARG002 - the protocol's
        self._ask("income", since_ms)
        raise self.error


@dataclass
class Books:
    """Two thirds and one third of a liquidation are booked; `costs` is what was booked of each income, by fill."""

    rows: list[RecentLiquidation]
    costs: dict[str, dict[int, Decimal]] = field(default_factory=dict)
    error: Exception | None = None

    def list_recent_liquidations(self, _: float) -> list[RecentLiquidation]:
        return self.rows

    def get_venue_credentials(self, user_id: UUID, _: str) -> UUID:
        return user_id

    def get_liquidation_exits(self, *_: Any) -> LiquidationExits:
        if self.error is not None:
            raise self.error
        exits = tuple(
            LiquidationExit(fill_id=number, order_id="f", quantity=Decimal(number), at_ms=3_000) for number in (1, 2)
        )
        return LiquidationExits(exits=exits, cost_ids=frozenset(self.costs), costs_until_ms=0)

    def book_liquidation_cost(self, *given: Any) -> bool:
        self.costs[given[3]] = given[4]
        return True


@dataclass
class Accounts:
    by_user: dict[UUID, RecordedAccount]

    def live(self, _: str, user: Any) -> RecordedAccount:
        return self.by_user[user]


def costs_of(books: Books, **accounts: RecordedAccount) -> LateLiquidationCosts:
    by_user = {ONE: accounts["one"], TWO: accounts.get("two", RecordedAccount())}
    return LateLiquidationCosts(cast("Store", books), cast("Venues", Accounts(by_user)))


def questions(account: RecordedAccount) -> int:
    return sum(what == "income" for what, _ in account.asked)


def test_looks_come_at_growing_intervals() -> None:
    assert [number for number in range(40) if is_due(number)] == [0, 1, 2, 4, 8, 16, 32]


def test_a_cost_that_is_shown_late_is_booked_once_over_the_exits_by_quantity() -> None:
    account, books = RecordedAccount(), Books([recent()])
    late = costs_of(books, one=account)
    late.run(UnavailableAccounts(), lambda: True)
    assert books.costs == {}
    account.incomes = (income("x", "-6"), income("paid back", "3"))
    for _ in range(4):
        late.run(UnavailableAccounts(), lambda: True)
    assert books.costs == {
        "x": {1: Decimal(2), 2: Decimal(4)},
        "paid back": {1: Decimal(-1), 2: Decimal(-2)},
    }
    assert questions(account) == 4  # in rounds 0, 1, 2 and 4


def test_another_fill_of_the_liquidation_starts_the_looks_anew() -> None:
    account, books = RecordedAccount(), Books([recent()])
    late = costs_of(books, one=account)
    for _ in range(4):
        late.run(UnavailableAccounts(), lambda: True)
    books.rows = [recent(last_fill_id=2)]
    late.run(UnavailableAccounts(), lambda: True)
    assert questions(account) == 4  # 0, 1, 2 and 0


def test_an_account_that_does_not_answer_is_left_for_the_round_and_others_are_asked() -> None:
    silent, books = Away(), Books([recent(), recent(last_fill_id=2), recent(TWO)])
    other = RecordedAccount(incomes=(income("x", "-3"),))
    unavailable = UnavailableAccounts()
    costs_of(books, one=silent, two=other).run(unavailable, lambda: True)
    assert unavailable.has(ONE, "aster")
    assert questions(silent) == 1
    assert set(books.costs) == {"x"}


def test_a_fault_of_one_account_is_in_no_others_way_and_a_database_that_is_away_ends_the_round() -> None:
    books = Books([recent(), recent(TWO)])
    other = RecordedAccount(incomes=(income("x", "-3"),))
    costs_of(books, one=Away(error=LookupError("strange")), two=other).run(UnavailableAccounts(), lambda: True)
    assert set(books.costs) == {"x"}
    books.error = DatabaseUnavailable("gone")
    with pytest.raises(DatabaseUnavailable):
        costs_of(books, one=other).run(UnavailableAccounts(), lambda: True)


def test_a_server_that_stops_looks_at_no_further_account() -> None:
    account = RecordedAccount()
    costs_of(Books([recent()]), one=account).run(UnavailableAccounts(), lambda: False)
    assert account.asked == []
