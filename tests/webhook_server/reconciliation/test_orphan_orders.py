"""Which orders are cancelled because their position has ended, how long that is looked for, and which ones stay."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid5

import pytest

from engine.domain.errors import VenueUnavailable
from engine.platform.errors import DatabaseUnavailable
from engine.store.store import Store
from engine.store.venue_record import EndedSymbol, SymbolFacts
from engine.venues.account_state import OpenOrder
from engine.venues.orders import build_client_order_id
from tests.support.factories.entry_values import USER
from tests.support.factories.venue_records import SYMBOL, facts, live, waiting
from tests.webhook_server.reconciliation.account_world import NOW, OneVenue, WorldAccount
from webhook_server.metrics import Metrics
from webhook_server.reconciliation.orphan_orders import RECHECK_FOR, OrphanOrderCleanup
from webhook_server.venue_registry import Venues

STOP, TARGET = (build_client_order_id(uuid5(USER, "entry"), letter) for letter in "lt")


@dataclass
class Books:
    last_exit: datetime = NOW
    known: SymbolFacts = field(default_factory=facts)
    has_credentials: bool = True
    error: Exception | None = None
    checks: int = 0

    def list_ended_live_symbols(self, _: float) -> list[EndedSymbol]:
        request_ids = ("entry", "another")
        return [
            EndedSymbol(
                user_id=USER, exchange="aster", symbol=SYMBOL, last_exit=self.last_exit, request_ids=request_ids
            )
        ]

    def get_venue_credentials(self, user_id: UUID, exchange: str) -> object | None:
        self.checks += 1
        return (user_id, exchange) if self.has_credentials else None

    def get_symbol_facts(self, *_: Any) -> SymbolFacts:
        if self.error is not None:
            raise self.error
        return self.known


@dataclass
class Clock:
    at: datetime = NOW

    def now(self) -> datetime:
        return self.at


@dataclass
class World:
    books: Books = field(default_factory=Books)
    account: WorldAccount = field(default_factory=lambda: WorldAccount(orders=(waiting(STOP), waiting(TARGET))))
    clock: Clock = field(default_factory=Clock)
    may_send: bool = True

    def __post_init__(self) -> None:
        self.metrics = Metrics()
        self.cleanup = OrphanOrderCleanup(
            cast("Store", self.books),
            cast("Venues", OneVenue(self.account)),
            cast("Any", self.clock),
            self.metrics,
            lambda: self.may_send,
        )

    def check_at(self, seconds: float) -> int:
        """How often the account was looked at in a round so long after the exit."""
        self.clock.at = NOW + timedelta(seconds=seconds)
        before = self.books.checks
        self.cleanup.run()
        return self.books.checks - before


def test_orders_of_an_entry_whose_position_has_ended_are_cancelled_and_counted() -> None:
    world = World()
    world.cleanup.run()
    assert world.account.cancelled == [STOP, TARGET]
    assert world.account.orders == ()
    assert world.metrics.registry.get_sample_value("sparky_webhook_orphan_orders_total") == 2


def test_orders_of_a_position_that_is_held_of_others_and_without_a_name_stay() -> None:
    other = build_client_order_id(uuid5(UUID(int=9), "entry"), "l")  # of another person's entry
    world = World(account=WorldAccount(orders=tuple(map(waiting, (STOP, TARGET, other, "web_1", None)))))
    world.books.known = facts(live("1", stop_loss_client_order_id=STOP))
    world.cleanup.run()
    assert world.account.cancelled == [TARGET]


def test_while_a_request_is_under_way_nothing_is_cancelled_and_the_next_round_looks_again() -> None:
    world = World()
    world.books.known = facts(unsettled=("r",))
    assert world.check_at(1_000) == 1
    assert world.account.cancelled == []
    world.books.known = facts()
    assert world.check_at(1_001) == 1
    assert world.account.cancelled == [STOP, TARGET]
    assert world.check_at(1_002) == 0


def test_an_exit_is_looked_at_for_90_seconds_and_then_no_more_until_the_next_one() -> None:
    world, again_s = World(), RECHECK_FOR.total_seconds()
    assert [world.check_at(at) for at in (0, 1, again_s - 0.001, again_s, again_s + 1)] == [1, 1, 1, 0, 0]
    world.books.last_exit = NOW + timedelta(seconds=100)
    assert world.check_at(1_000) == 1
    assert world.check_at(1_001) == 0


def test_a_server_that_executes_no_more_cancels_nothing_and_one_that_stops_looks_at_nothing() -> None:
    world = World(may_send=False)
    world.cleanup.run()
    assert (world.account.cancelled, world.books.checks) == ([], 1)
    world.cleanup.run(lambda: False)
    assert world.books.checks == 1


def test_without_credentials_or_in_a_symbol_that_is_gone_there_is_nothing_to_cancel() -> None:
    without = World(books=Books(has_credentials=False))
    gone = World(account=WorldAccount(orders=(waiting(STOP),), gone=frozenset({SYMBOL})))
    for world in (without, gone):
        assert world.check_at(1_000) == 1
        assert world.check_at(1_001) == 0
        assert world.account.cancelled == []


def test_a_venue_that_does_not_answer_is_asked_again_and_a_database_that_is_away_ends_the_round() -> None:
    class Silent(WorldAccount):
        def fetch_open_orders(self, symbol: str | None = None) -> tuple[OpenOrder, ...]:
            raise VenueUnavailable(f"no answer about {symbol}")

    world = World(account=Silent())
    assert [world.check_at(1_000), world.check_at(1_001)] == [1, 1]
    broken = World(books=Books(error=DatabaseUnavailable("gone")))
    with pytest.raises(DatabaseUnavailable):
        broken.cleanup.run()
