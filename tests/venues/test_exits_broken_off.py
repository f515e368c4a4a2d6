"""An exit that is broken off between its orders is finished by whoever comes next: booked once, told as it was."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest

from simulator.venue.trading_account import Order
from tests.venues.conftest import Floor
from webhook_server.app import WebhookServer

PATIENCE_S = 60.0
LOST: dict[str, Any] = {"kind": "reset", "path": "rder", "accept": True, "times": 1, "method": "POST"}
DEAF: dict[str, Any] = {"kind": "reset", "path": "rder", "times": None}


class Killed(BaseException):
    """What a server feels of a kill: nothing of it goes on."""


@pytest.fixture
def another(floor: Floor) -> Iterator[Callable[[], WebhookServer]]:
    """Servers that come after the first on the same books."""
    servers: list[WebhookServer] = []

    def make() -> WebhookServer:
        servers.append(floor.build_another())
        return servers[-1]

    yield make
    for server in servers:
        server.workers.shutdown()


def opposed(floor: Floor, long_usd: int = 280) -> str:
    """A long position of 0.009 (or 0.019) of the strategy returned, and a short one of 0.010 of another."""
    a, b = floor.strategy(), floor.strategy()
    floor.send("long", strategy_id=a, size=long_usd)
    floor.send("short", strategy_id=b, action="sell")
    return a


def test_a_second_order_alone_whose_answer_is_lost_is_booked(
    floor: Floor, another: Callable[[], WebhookServer]
) -> None:
    a = opposed(floor)
    floor.misbehave(LOST, DEAF)
    assert floor.send("x", strategy_id=a, action="close")["status"] == 503
    floor.misbehave()
    another().recovery.run()
    assert floor.send("x", strategy_id=a, action="close")["action"] == "closed"
    floor.check_books()


@pytest.mark.parametrize("busy", [{"status": 400, "body": '{"code":-1008,"msg":"overloaded"}'}, {"status": 429}])
def test_a_venue_that_is_busy_at_the_second_order_leaves_the_exit_open(
    floor: Floor, another: Callable[[], WebhookServer], busy: dict[str, Any]
) -> None:
    a = opposed(floor, 560)
    floor.misbehave({"kind": "status", "path": "/order", "times": 1, "method": "POST", "after": 1} | busy)
    assert floor.send("x", strategy_id=a, action="close")["status"] == 503
    floor.misbehave()
    another().recovery.run()
    deadline = time.monotonic() + PATIENCE_S
    while (told := floor.send("x", strategy_id=a, action="close"))["status"] == 503:  # the venue wants to be left alone
        assert time.monotonic() < deadline, told
        time.sleep(0.1)
    assert (told["action"], told["remaining_quantity"]) == ("closed", 0)
    floor.check_books()


def test_an_exit_that_a_dead_server_booked_is_told_as_it_was(
    floor: Floor, another: Callable[[], WebhookServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    floor.send("a")
    floor.misbehave(LOST, DEAF)
    floor.send("x", action="close")
    floor.misbehave()

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    monkeypatch.setattr(type(floor.store), "finish_booked_request", die)
    with suppress(Killed):
        another().recovery.run()
    monkeypatch.undo()
    another().recovery.run()
    told = floor.send("x", action="close")
    assert told["action"] == "closed"
    assert told["pnl"]["usd"] < 0
    floor.check_books()


def test_a_second_order_that_expired_after_a_death_leaves_the_first_told(
    floor: Floor, another: Callable[[], WebhookServer]
) -> None:
    a = opposed(floor, 560)
    (account,) = floor.exchange._accounts.values()
    accept = account.accept

    def expires(order: Order, *more: Any, **named: Any) -> None:
        if not order.client_order_id.startswith("sr-"):
            accept(order, *more, **named)
            return
        account.orders[order.order_id] = order
        account.end(order, "EXPIRED", order.created_ms)

    account.accept = expires  # type: ignore[method-assign] # the venue's own doing
    floor.misbehave(LOST | {"after": 1}, DEAF)
    floor.send("x", strategy_id=a, action="close")
    floor.misbehave()
    another().recovery.run()
    told = floor.send("x", strategy_id=a, action="close")
    assert (told["action"], told["quantity"] > 0, told["remaining_quantity"] > 0) == ("closed", True, True)
    assert floor.net() == floor.booked()


def test_an_exit_beside_a_signal_whose_end_is_not_known_comes_back(floor: Floor) -> None:
    a, c = opposed(floor), floor.strategy()
    floor.sql(
        "insert into webhook_requests (request_id, user_id, strategy_id, exchange, symbol, action, fingerprint,"
        " payload, status, created_at) values ('stuck', %s, %s, %s, 'BTCUSDT', 'BUY', 'x', '{}', 'submitted', now())",
        floor.user_id,
        c,
        floor.simulated.name,
    )
    assert floor.send("x", strategy_id=a, action="close")["status"] == 503
    floor.sql("update webhook_requests set status = 'failed' where request_id = 'stuck'")
    assert floor.send("x", strategy_id=a, action="close")["action"] == "closed"
    floor.check_books()


@pytest.mark.parametrize("first", ["x", "y"])
def test_two_exits_that_could_not_be_finished_do_not_wait_for_each_other(floor: Floor, first: str) -> None:
    of = {"x": floor.strategy(), "y": floor.strategy()}
    floor.send("long", strategy_id=of["x"], size=560)
    floor.send("short", strategy_id=of["y"], action="sell")
    unseen(floor)
    assert floor.send("x", strategy_id=of["x"], action="close")["status"] == 503
    floor.misbehave()
    floor.send("another", strategy_id=floor.strategy(), action="sell", size=180)
    unseen(floor)
    assert floor.send("y", strategy_id=of["y"], action="close")["status"] == 503
    floor.misbehave()
    told = [floor.send(name, strategy_id=of[name], action="close") for name in (first, *(of.keys() - {first}))]
    assert [(each.get("action"), each.get("remaining_quantity")) for each in told] == [("closed", 0)] * 2
    assert floor.net() == floor.booked() < 0
    (account,) = floor.exchange._accounts.values()
    paid = sum((fill.commission for fill in account.fills), Decimal(0))
    assert sum((fee for *_, fee in floor.fills()), Decimal(0)) == paid


def test_what_an_exit_that_could_not_be_finished_leaves_is_protected_meanwhile(floor: Floor) -> None:
    a, b = floor.strategy(), floor.strategy()
    floor.send("long", strategy_id=a, size=560, stop_loss_percent=2)
    floor.send("short", strategy_id=b, action="sell")
    unseen(floor)
    assert floor.send("x", strategy_id=a, action="close")["status"] == 503
    floor.misbehave()
    assert floor.send("y", strategy_id=b, action="close")["action"] == "closed"
    floor.server.protection_watchdog.run()
    assert [order.quantity for order in floor.waiting()] == [floor.net()]
    floor.direct(symbol="BTCUSDT", jump_percent=-5)
    floor.account.fetch_positions()  # the market moves when it is looked at
    assert floor.net() == 0
    floor.server.protection_watchdog.run()
    told = floor.send("x", strategy_id=a, action="close")
    assert (told["action"], told["remaining_quantity"]) == ("closed", 0)
    floor.check_books()


def unseen(floor: Floor) -> None:
    """The venue does not tell what the account holds."""
    floor.misbehave({"kind": "status", "status": 503, "path": "/positionRisk", "times": None})
