"""Killed at every step of following what happened at the venue without us: the next server finishes it, once.

Three ways there: the look that books a liquidation, a CLOSE that finds nothing to reduce, and an exit of two orders
where another strategy holds the opposite side. Steps in the database are held open by a gate, steps at the venue by the
simulated Aster.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from functools import partial
from typing import Any

import psycopg
import pytest
import requests

from engine.store.embedded.embedded_postgres import build_dsn
from engine.store.store import Store
from tests.faults.test_execution_steps import Step, gate_at, those_at
from tests.support.clients.account_checks import check_account, check_no_crossing
from tests.support.clients.account_owners import Person, person
from tests.support.clients.trading import all_settled
from tests.support.clients.venue_file import VenueFile, net_of
from tests.support.factories.keys import PRIVATE_KEY
from tests.support.processes.sparky import PATIENCE_S, Sparky, without_strategies

SYMBOL = "BTCUSDT"
HANG: dict[str, Any] = {"kind": "hang", "path": "/order", "seconds": 600}
OUTSIDE = Step("insert", "fills", "starts_with(new.request_id, 'venue/')", ("webhook",))
REDUCED = Step("insert", "fills", "new.kind = 'close' and not starts_with(new.request_id, 'venue/')", ("webhook",))
REST = Step("insert", "fills", "new.kind = 'rest'", ("webhook",))
SETTLED_S = 120.0


@pytest.fixture(scope="module")
def product() -> Iterator[Sparky]:
    with without_strategies() as made:
        made.control("aster", "market", {"weight_per_minute": 0})
        yield made


@pytest.fixture(scope="module")
def store(product: Sparky) -> Iterator[Store]:
    with product.store() as made:
        yield made


@pytest.fixture(scope="module")
def owner(product: Sparky, store: Store) -> Iterator[Person]:
    with person(product, store, PRIVATE_KEY, 2) as made:
        yield made


@pytest.fixture(autouse=True)
def judged(product: Sparky, store: Store, owner: Person) -> Iterator[None]:
    """After each test the account is flat, nothing waits, and every order is in the books as often as it traded."""
    yield
    product.control("aster", "faults", [])
    product.control("aster", "account", {"trades_hidden": False, "forced_hidden": False, "record_lag_s": 0})
    for strategy_id in owner.strategies:
        owner.send(product, strategy_id, symbol=SYMBOL, action="close")
    file = VenueFile(product.home)
    product.wait_for(lambda: is_flat(store, file, owner), "everything closed", SETTLED_S)
    account = file.accounts()[owner.address]
    with psycopg.connect(build_dsn(product.home)) as connection:
        check_account(connection, owner.user_id, account, ())
    check_no_crossing(account)


def is_flat(store: Store, file: VenueFile, owner: Person) -> bool:
    """Books and venue hold nothing, and no order is left there: those of an end outside are cancelled after it."""
    is_held = any(not each.is_paper for each in store.list_open_positions())
    account = file.accounts()[owner.address]
    return all_settled(store) and not is_held and net_of(account, SYMBOL) == 0 and account.open_orders() == []


def agrees(store: Store, file: VenueFile, owner: Person) -> bool:
    """Nothing is under way, and books and venue hold the same."""
    held = sum(
        (each.quantity if each.side == "LONG" else -each.quantity for each in store.list_open_positions()), Decimal(0)
    )
    return all_settled(store) and held == net_of(file.accounts()[owner.address], SYMBOL)


def settled(product: Sparky, store: Store, owner: Person) -> None:
    file = VenueFile(product.home)
    product.wait_for(lambda: agrees(store, file, owner), "books that equal the venue", SETTLED_S)


def enter(product: Sparky, owner: Person, number: int, action: str, size: int) -> None:
    told = owner.send(product, owner.strategies[number], symbol=SYMBOL, action=action, size=size, stop_loss_percent=20)
    assert told.get("action") == "opened", told


def happen(product: Sparky, owner: Person, **event: Any) -> None:
    product.control("aster", "account", {"user": owner.address} | event)


@contextmanager
def closing_meanwhile(product: Sparky, owner: Person) -> Iterator[None]:
    """The first strategy's CLOSE is under way; nobody may be left to answer it."""

    def send() -> None:
        with suppress(requests.RequestException, ValueError):
            owner.send(product, owner.strategies[0], symbol=SYMBOL, action="close")

    sender = threading.Thread(target=send)
    sender.start()
    yield
    sender.join(PATIENCE_S)


def killed_at_gate(product: Sparky, step: Step, give: Callable[[], None], *, takes_effect: bool) -> None:
    with gate_at(product, step) as connection:
        give()
        waiting = those_at(product, step, connection)
        product.kill(*step.victims)
        if not takes_effect:
            for pid in waiting:
                connection.execute("select pg_terminate_backend(%s)", [pid])


def killed_at_venue(product: Sparky, **fault: Any) -> None:
    """When the request that `fault` holds has come."""
    product.wait_for(lambda: product.faults_left("aster") == 0, f"a request that hangs: {fault}")
    product.kill("webhook")


@pytest.mark.parametrize("takes_effect", [False, True], ids=["before", "after"])
def test_killed_as_a_liquidation_is_booked(product: Sparky, store: Store, owner: Person, *, takes_effect: bool) -> None:
    enter(product, owner, 0, "buy", 300)
    liquidated = partial(happen, product, owner, liquidate=SYMBOL, keeps_orders=True)
    killed_at_gate(product, OUTSIDE, liquidated, takes_effect=takes_effect)
    settled(product, store, owner)


@pytest.mark.parametrize("accept", [False, True], ids=["before", "after"])
def test_killed_as_the_stop_of_a_liquidated_position_is_cancelled(
    product: Sparky, store: Store, owner: Person, *, accept: bool
) -> None:
    enter(product, owner, 0, "buy", 300)
    fault = HANG | {"method": "DELETE", "accept": accept}
    product.control("aster", "faults", [fault])
    happen(product, owner, liquidate=SYMBOL, percent=50, keeps_orders=True)
    killed_at_venue(product, **fault)
    settled(product, store, owner)


@pytest.mark.parametrize("accept", [False, True], ids=["before", "after"])
def test_killed_as_an_exit_is_refused_since_a_hand_has_closed(
    product: Sparky, store: Store, owner: Person, *, accept: bool
) -> None:
    enter(product, owner, 0, "buy", 300)
    fault = HANG | {"method": "POST", "accept": accept}
    product.control("aster", "faults", [fault])
    happen(product, owner, close=SYMBOL)
    with closing_meanwhile(product, owner):
        killed_at_venue(product, **fault)
    settled(product, store, owner)


@pytest.mark.parametrize("takes_effect", [False, True], ids=["before", "after"])
def test_killed_as_an_exit_books_what_a_hand_has_closed(
    product: Sparky, store: Store, owner: Person, *, takes_effect: bool
) -> None:
    enter(product, owner, 0, "buy", 300)
    happen(product, owner, close=SYMBOL)
    with closing_meanwhile(product, owner):
        killed_at_gate(product, OUTSIDE, lambda: None, takes_effect=takes_effect)
    settled(product, store, owner)


@pytest.mark.parametrize("takes_effect", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", [REDUCED, REST], ids=["reduction", "rest"])
def test_killed_as_an_order_of_an_exit_against_another_strategy_is_booked(
    product: Sparky, store: Store, owner: Person, step: Step, *, takes_effect: bool
) -> None:
    enter(product, owner, 0, "buy", 600)
    enter(product, owner, 1, "sell", 300)
    with closing_meanwhile(product, owner):
        killed_at_gate(product, step, lambda: None, takes_effect=takes_effect)
    settled(product, store, owner)


@pytest.mark.parametrize("accept", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("order", [0, 1], ids=["first", "second"])
def test_killed_as_the_venue_takes_an_order_of_an_exit_against_another_strategy(
    product: Sparky, store: Store, owner: Person, order: int, *, accept: bool
) -> None:
    enter(product, owner, 0, "buy", 600)
    enter(product, owner, 1, "sell", 300)
    fault = HANG | {"method": "POST", "accept": accept, "after": order}
    product.control("aster", "faults", [fault])
    with closing_meanwhile(product, owner):
        killed_at_venue(product, **fault)
    settled(product, store, owner)


@pytest.mark.parametrize(
    "manners",
    [{"record_lag_s": 20}, {"trades_hidden": True}, {"forced_hidden": True}],
    ids=lambda each: next(iter(each)),
)
def test_killed_while_the_record_is_late_or_incomplete(
    product: Sparky, store: Store, owner: Person, manners: dict[str, Any]
) -> None:
    enter(product, owner, 0, "buy", 300)
    happen(product, owner, **manners)
    happen(product, owner, liquidate=SYMBOL)
    with closing_meanwhile(product, owner):
        product.kill("webhook")
    settled(product, store, owner)


def test_a_database_killed_as_a_liquidation_is_booked(product: Sparky, store: Store, owner: Person) -> None:
    enter(product, owner, 0, "buy", 300)
    with gate_at(product, OUTSIDE) as connection:
        happen(product, owner, liquidate=SYMBOL)
        those_at(product, OUTSIDE, connection)
        product.kill("postgres")
    settled(product, store, owner)


@pytest.mark.parametrize("kind", [{"kind": "status", "status": 503}, {"kind": "reset"}], ids=["503", "reset"])
def test_a_venue_that_does_not_answer_about_its_record_is_asked_again(
    product: Sparky, store: Store, owner: Person, kind: dict[str, Any]
) -> None:
    enter(product, owner, 0, "buy", 300)
    paths = ("/userTrades", "/forceOrders", "/income", "/positionRisk")
    product.control("aster", "faults", [kind | {"path": path, "times": 2} for path in paths])
    happen(product, owner, liquidate=SYMBOL)
    owner.send(product, owner.strategies[0], symbol=SYMBOL, action="close")
    settled(product, store, owner)
