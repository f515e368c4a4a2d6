"""One look at an account: what is read of it, how often, and what hides nothing else."""

from collections.abc import Collection
from decimal import Decimal
from typing import Any, cast

import pytest

from engine.domain.errors import VenueUnavailable
from engine.domain.positions import Position
from engine.platform.errors import ConfigurationError
from engine.store.margin import MarginUpdate
from engine.store.store import Store
from tests.support.factories.venue_records import SYMBOL, at_venue, facts, live, traded
from tests.webhook_server.reconciliation.account_world import ACCOUNT, KEY, Books, OneVenue, WorldAccount
from webhook_server.background.protective_exits import ProtectiveExits
from webhook_server.metrics import Metrics
from webhook_server.reconciliation.account_comparison import (
    MAX_BACKOFF_ROUNDS,
    MAX_UNANSWERED,
    NOT_CHECKED,
    OWN_FILL_TOLERANCE_MS,
    AccountComparer,
    AccountComparison,
    DifferenceBackoff,
)
from webhook_server.reconciliation.symbol_comparison import NOT_OURS
from webhook_server.reconciliation.symbol_reconciliation import SymbolReconciler
from webhook_server.venue_registry import Venues

ONE, TWO = (Decimal(1), Decimal(0)), (Decimal(2), Decimal(0))


class World:
    """An account, its books, and one comparer that looks at both."""

    def __init__(self, account: WorldAccount, *held: Position, **fields: Any) -> None:
        self.account = account
        symbols = {each.symbol for each in held} | {SYMBOL}
        self.books = Books(
            {symbol: facts(*(each for each in held if each.symbol == symbol), **fields) for symbol in symbols}
        )
        store = cast("Store", self.books)
        exits = cast("ProtectiveExits", None)  # no protective order of these worlds fills
        self.comparer = AccountComparer(
            store, cast("Venues", OneVenue(account)), SymbolReconciler(store, Metrics()), exits
        )

    def look(self, now_round: int = 0, differing: Collection[str] = ()) -> AccountComparison:
        own: dict[str, tuple[Position, ...]] = {}
        for each in self.books.list_open_positions():
            own[each.symbol] = (*own.get(each.symbol, ()), each)
        return self.comparer.compare(ACCOUNT, own, differing, now_round)


def test_a_difference_that_nothing_explains_is_looked_into_often_and_then_seldom() -> None:
    backoff, due = DifferenceBackoff(), []
    for number in range(60):
        if backoff.is_due(KEY, ONE, number):
            due.append(number)
            backoff.record_failure(KEY, ONE, number)
    assert due == [0, 1, 2, 3, 5, 9, 17, 33, 33 + MAX_BACKOFF_ROUNDS]


def test_another_difference_is_looked_into_at_once_and_counts_anew() -> None:
    backoff = DifferenceBackoff()
    for number in range(5):
        backoff.record_failure(KEY, ONE, number)
    assert not backoff.is_due(KEY, ONE, 5)
    assert backoff.is_due(KEY, TWO, 5)
    backoff.record_failure(KEY, TWO, 5)
    assert backoff.is_due(KEY, TWO, 6)
    backoff.forget(KEY)
    assert backoff.is_due(KEY, TWO, 5)


def test_books_and_venue_that_agree_are_not_asked_for_a_record() -> None:
    world = World(WorldAccount(held=(at_venue("2"),)), live("2"))
    found = world.look()
    assert (found.nets, found.reasons) == ({SYMBOL: Decimal(2)}, {})
    assert [what for what, _ in world.account.asked] == ["positions"]


@pytest.mark.parametrize(("booked", "there", "change"), [("2", "1", "-1"), ("-2", "-1", "1")])
def test_what_the_record_explains_is_booked_on_either_side(booked: str, there: str, change: str) -> None:
    world = World(WorldAccount(held=(at_venue(there),), trades=(traded(11, change, price=Decimal(90)),)), live(booked))
    found = world.look()
    assert (found.nets, found.reasons) == ({SYMBOL: Decimal(there)}, {})
    assert [(each.fill.quantity, each.fill.price) for each in world.books.booked] == [(Decimal(1), Decimal(90))]
    assert found.checked == {SYMBOL: 1}


def test_what_the_record_does_not_explain_is_told_and_not_read_again_in_every_round() -> None:
    world = World(WorldAccount(held=(at_venue("1"),)), live("2"))
    looks = [world.look(number) for number in range(6)]
    reason = "by its record the account should hold 2, and it holds 1"
    assert [each.reasons.get(SYMBOL) for each in looks] == [reason, reason, reason, reason, None, reason]
    assert world.books.booked == []


def test_what_the_books_know_nothing_of_is_named_as_not_ours() -> None:
    found = World(WorldAccount(held=(at_venue("1", symbol="XUSDT"),))).look()
    assert (found.nets, found.reasons) == ({"XUSDT": Decimal(1)}, {"XUSDT": NOT_OURS})


@pytest.mark.parametrize(
    ("changed_ms", "is_read"),
    [(0, False), (1_000 + OWN_FILL_TOLERANCE_MS, False), (1_001 + OWN_FILL_TOLERANCE_MS, True)],
)
def test_a_position_that_the_venue_changed_after_our_own_fill_is_looked_into_though_the_net_is_equal(
    changed_ms: int, *, is_read: bool
) -> None:
    world = World(WorldAccount(held=(at_venue("2", changed_ms=changed_ms),)), live("2"))
    world.look()
    world.look(1)
    assert sum(what == "trades" for what, _ in world.account.asked) == is_read


@pytest.mark.parametrize(("quantity", "told"), [("2", Decimal(50)), ("-2", None)])
def test_the_liquidation_price_of_the_net_is_that_of_positions_on_its_side(quantity: str, told: Decimal | None) -> None:
    held = live(quantity, liquidation_price=Decimal(40))
    account = WorldAccount(held=(at_venue("2", liquidation_price=Decimal(50)),))
    world = World(account, held)
    world.look()
    assert world.books.updates == [MarginUpdate(position_id=held.id, liquidation_price=told, updates_price=True)]
    world.books.updates.clear()
    (again,) = world.books.list_open_positions()
    world.books.by_symbol[SYMBOL] = facts(again.model_copy(update={"liquidation_price": told}))
    world.look(1)
    assert world.books.updates == []


def test_a_symbol_that_cannot_be_read_has_its_reason_and_after_two_nothing_more_is_asked() -> None:
    class Deaf(WorldAccount):
        def fetch_trades(self, symbol: str, **_: Any) -> tuple[Any, ...]:
            self._ask("trades", symbol)
            raise VenueUnavailable(f"no answer about {symbol}")

    held = [live("1", symbol=symbol) for symbol in ("AUSDT", "BUSDT", "CUSDT", "DUSDT")]
    world = World(Deaf(), *held)
    found = world.look(differing={"DUSDT"})
    assert found.is_unavailable
    assert found.unanswered == MAX_UNANSWERED
    assert found.reasons["CUSDT"] == NOT_CHECKED
    assert "no answer about AUSDT" in found.reasons["AUSDT"]
    assert "no answer about BUSDT" in found.reasons["BUSDT"]
    assert "DUSDT" not in found.reasons  # a difference that is known keeps its reason
    assert [symbol for what, symbol in world.account.asked if what == "trades"] == ["AUSDT", "BUSDT"]


def test_one_symbols_fault_is_in_no_others_way() -> None:
    class Strange(WorldAccount):
        def fetch_trades(self, symbol: str, **more: Any) -> tuple[Any, ...]:
            if symbol == "AUSDT":
                raise LookupError(symbol)
            return super().fetch_trades(symbol, **more)

    account = Strange(trades=(traded(11, "-1", symbol="BUSDT"),))
    world = World(account, live("1", symbol="AUSDT"), live("1", symbol="BUSDT"))
    found = world.look()
    assert found.reasons == {"AUSDT": "it could not be compared: LookupError"}
    assert found.nets == {"BUSDT": Decimal(0)}
    assert not found.is_unavailable


def test_an_account_without_credentials_is_told_as_such() -> None:
    world = World(WorldAccount(), live("1"))
    world.books.has_credentials = False
    with pytest.raises(ConfigurationError, match="live positions and no credentials"):
        world.look()
