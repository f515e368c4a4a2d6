"""Killed between an entry and its protection, or between refused protection and undo: the next server finishes it."""

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from typing import Any

import psycopg
import pytest
import requests

from engine.store.embedded.embedded_postgres import build_dsn
from engine.store.store import Store
from engine.venues.live.ccxt_venue import CcxtVenue
from engine.venues.orders import build_client_order_id
from tests.support.clients.book_checks import check_books
from tests.support.clients.trading import PROTECTIVE, all_settled, people
from tests.support.processes.sparky import PATIENCE_S, Sparky, without_strategies

HANG = {"kind": "hang", "seconds": 600, "path": "/order", "method": "POST"}
SETTLED_S = 300.0


@pytest.fixture(scope="module")
def product() -> Iterator[Sparky]:
    with without_strategies() as made:
        made.control("aster", "market", {"weight_per_minute": 0})
        yield made


@pytest.fixture(scope="module")
def books(product: Sparky) -> Iterator[Store]:
    """The product's store, with a person who trades at the simulated venue."""
    with product.store() as store:
        people(store)
        yield store


@pytest.fixture(autouse=True)
def obedient(product: Sparky) -> Iterator[None]:
    """A venue that does as it should before and after each test, and no symbol that rests for what a test did."""
    yield
    product.control("aster", "market", {"refused_kinds": []})
    product.control("aster", "faults", [])
    with psycopg.connect(build_dsn(product.home)) as connection:
        connection.execute("update fills set created_at = created_at - interval '5 hours' where kind = 'undo'")


def enter(product: Sparky, store: Store, name: str, symbol: str) -> dict[str, Any]:
    """What is answered to a live entry with a stop."""
    (account,) = store.list_live_accounts()
    secret = store.get_webhook_secret(account.user_id)
    assert secret is not None
    body = {"secret": secret.get_secret_value(), "exchange": "aster", "symbol": symbol, "action": "buy", "size": 200,
            "stop_loss_percent": 20, "environment": "production", "signal_id": name}  # fmt: skip
    answer = requests.post(f"{product.url('webhook')}/webhook", json=body, timeout=PATIENCE_S)
    told: dict[str, Any] = answer.json()
    return told


def answer_of_next_server(product: Sparky, store: Store, name: str, symbol: str) -> dict[str, Any]:
    """To the same entry again; a server that has just started may finish requests before it answers any."""
    return product.wait_for(lambda: executed(enter(product, store, name, symbol)), "an answer of the next server")


def executed(told: dict[str, Any]) -> dict[str, Any]:
    return told if "action" in told else {}


def fills_of_position(product: Sparky, name: str) -> list[tuple[str, str]]:
    """Request and kind of every fill of the position that the entry `name` went into, oldest first."""
    with psycopg.connect(build_dsn(product.home)) as connection:
        return connection.execute(
            "select f.request_id, f.kind from fills f join fills e using (position_id) where e.request_id = %s "
            "order by f.id",
            [name],
        ).fetchall()


@contextmanager
def killed_while(product: Sparky, store: Store, name: str, symbol: str) -> Iterator[None]:
    """Sends an entry whose order hangs somewhere, and kills the webhook server there. Entered between both."""

    def send() -> None:
        with suppress(requests.RequestException):  # nobody answers
            enter(product, store, name, symbol)

    sender = threading.Thread(target=send)
    sender.start()
    product.wait_for(lambda: product.faults_left("aster") == 0, "an order that hangs")
    yield
    product.kill("webhook")
    sender.join(PATIENCE_S)
    product.wait_for(lambda: all_settled(store), "every request having ended", SETTLED_S)


def stop_of(store: Store, name: str) -> str:
    """The client order id of the stop that the entry `name` places."""
    (account,) = store.list_live_accounts()
    return build_client_order_id(uuid.uuid5(account.user_id, name), "l")


def stops_at_venue(product: Sparky, store: Store) -> set[str | None]:
    (account,) = store.list_live_accounts()
    credentials = store.get_venue_credentials(account.user_id, "aster")
    assert credentials is not None
    with closing(CcxtVenue("aster", credentials, product.url("sim_aster"))) as venue:
        return {order.client_order_id for order in venue.fetch_open_orders()}


@pytest.mark.parametrize("accept", [False, True], ids=["before", "after"])
def test_killed_between_an_entry_and_its_protection_the_next_server_protects_it(
    product: Sparky, books: Store, *, accept: bool
) -> None:
    name, symbol = uuid.uuid4().hex, "BTCUSDT" if accept else "ETHUSDT"
    product.control("aster", "faults", [HANG | {"after": 1, "accept": accept}])
    with killed_while(product, books, name, symbol):
        pass
    assert stop_of(books, name) in stops_at_venue(product, books)
    assert answer_of_next_server(product, books, name, symbol)["action"] == "opened"
    check_books(product, books, least=0)


@pytest.mark.parametrize("accept", [False, True], ids=["before", "after"])
def test_killed_between_refused_protection_and_the_undo_the_next_server_undoes_it_and_says_so(
    product: Sparky, books: Store, *, accept: bool
) -> None:
    name = uuid.uuid4().hex
    product.control("aster", "market", {"refused_kinds": PROTECTIVE})
    product.control("aster", "faults", [HANG | {"after": 2, "accept": accept}])
    with killed_while(product, books, name, "SOLUSDT"):
        pass
    told = answer_of_next_server(product, books, name, "SOLUSDT")
    assert (told["success"], told["action"]) == (False, "rejected")
    assert "undone" in told
    assert "SOLUSDT" not in {position.symbol for position in books.list_open_positions()}
    said = product.log_path.read_text().splitlines()
    assert any("entry_undone" in line and name in line for line in said)
    check_books(product, books, least=0)


def test_killed_before_the_undo_an_entry_that_can_be_protected_by_then_stays(product: Sparky, books: Store) -> None:
    name = uuid.uuid4().hex
    product.control("aster", "market", {"refused_kinds": PROTECTIVE})
    product.control("aster", "faults", [HANG | {"after": 2}])
    with killed_while(product, books, name, "SOLUSDT"):
        product.control("aster", "market", {"refused_kinds": []})
    assert stop_of(books, name) in stops_at_venue(product, books)
    assert answer_of_next_server(product, books, name, "SOLUSDT")["action"] == "opened"
    check_books(product, books, least=0)


def test_closing_all_closes_what_an_entry_under_way_opens_after_the_switch(product: Sparky, books: Store) -> None:
    product.control("aster", "market", {"fill_delay_s": 2})
    name = uuid.uuid4().hex
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(enter, product, books, name, "SOLUSDT")
        product.wait_for(
            lambda: answer.done() or [row for row in books.list_unfinished_requests() if row.status == "submitted"],
            "an order",
        )
        product.control("aster", "market", {"fill_delay_s": 0})
        closed = product.json("kill", "--close-all")
        assert answer.result(PATIENCE_S)["action"] == "opened"
    assert all(each["outcome"] == "delivered" for each in closed)
    assert "SOLUSDT" in {each["symbol"] for each in closed}
    fills = fills_of_position(product, name)
    assert (name, "open") in fills
    assert fills[-1][1] == "close"
    assert [position for position in books.list_open_positions() if not position.is_paper] == []
    product.json("kill", "--off")
    check_books(product, books, least=0)
