"""An exit of more than one market order may be is sent as several: booked once, found again, never sent twice."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from simulator.venue.api_error import VenueApiError
from tests.venues.conftest import Floor
from tests.venues.instruments import at_venue, change, check_agreement, trades
from webhook_server.app import WebhookServer

HELD, MOST = Decimal("0.009"), Decimal("0.004")
STOP: dict[str, Any] = {"stop_loss_percent": 2}
LOST: dict[str, Any] = {"kind": "reset", "path": "rder", "accept": True, "times": 1, "method": "POST"}
DEAF: dict[str, Any] = {"kind": "reset", "path": "rder", "times": None}
SMALL: dict[str, Any] = {"market_lot": {"max_quantity": str(MOST)}}


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


def exits(floor: Floor, letter: str = "c") -> list[tuple[str, Decimal]]:
    """The orders of exits at the venue, by the beginnings of their ids."""
    names = ((name.partition("-")[0], quantity) for name, quantity in at_venue(floor))
    return [(start, quantity) for start, quantity in names if start[:2] == f"s{letter}"]


def test_an_exit_of_more_than_one_order_may_be_is_sent_as_several_and_booked_as_one(floor: Floor) -> None:
    floor.send("a", **STOP)
    change(floor, **SMALL)
    told = floor.send("x", action="close")
    assert (told["action"], told["quantity"], told["remaining_quantity"]) == ("closed", 0.009, 0)
    assert exits(floor) == [("sc", MOST), ("sc1", MOST), ("sc2", Decimal("0.001"))]
    assert floor.net() == floor.booked() == 0
    assert trades(floor) == [("signal", HELD)]
    check_agreement(floor)


def test_an_exit_is_split_by_sizes_that_only_its_refusal_tells(floor: Floor) -> None:
    floor.send("a", **STOP)
    change(floor, is_read=False, **SMALL)
    told = floor.send("x", action="close")
    assert (told["action"], told["quantity"], told["remaining_quantity"]) == ("closed", 0.009, 0)
    assert exits(floor) == [("sc", MOST), ("sc1", MOST), ("sc2", Decimal("0.001"))]
    check_agreement(floor)


def test_the_books_know_every_order_of_a_split_exit(floor: Floor) -> None:
    floor.send("a")
    change(floor, **SMALL)
    floor.send("x", action="close", sell_percentage=90)
    (account,) = floor.exchange._accounts.values()
    numbers = {str(floor.simulated.order_number(each.order)) for each in account.fills}
    place = (floor.user_id, floor.simulated.name, "BTCUSDT")
    facts = floor.store.get_symbol_facts(*place)
    (position,) = facts.positions
    assert facts.order_ids == numbers == facts.order_positions.keys()
    assert position.exit_order_ids < numbers
    assert floor.store.find_booked_orders(*place, sorted(numbers)).keys() == numbers


def test_the_last_two_orders_share_what_would_be_less_than_the_least(floor: Floor) -> None:
    floor.send("a")
    change(floor, market_lot={"max_quantity": str(MOST), "min_quantity": "0.002"})
    assert floor.send("x", action="close")["remaining_quantity"] == 0
    assert exits(floor) == [("sc", MOST), ("sc1", Decimal("0.003")), ("sc2", Decimal("0.002"))]
    check_agreement(floor)


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_server_that_dies_between_two_orders_of_an_exit_leaves_only_what_is_missing(
    floor: Floor, another: Callable[[], WebhookServer], after: int
) -> None:
    floor.send("a", **STOP)
    change(floor, **SMALL)
    floor.misbehave(LOST | {"after": after}, DEAF | {"after": after + 1, "method": "POST"}, DEAF | {"method": "GET"})
    assert floor.send("x", action="close")["status"] == 503
    floor.misbehave()
    another().recovery.run()
    told = floor.send("x", action="close")
    assert (told["action"], told["quantity"], told["remaining_quantity"]) == ("closed", 0.009, 0)
    assert [quantity for _, quantity in exits(floor)] == [MOST, MOST, Decimal("0.001")]
    assert trades(floor) == [("signal", HELD)]
    check_agreement(floor)


def test_an_order_refused_in_the_middle_leaves_the_rest_protected(floor: Floor) -> None:
    floor.send("a", **STOP)
    change(floor, **SMALL)
    place = floor.exchange.place_order

    def refuses(user: str, params: Any) -> Any:
        if str(params.get("newClientOrderId")).startswith("sc1-"):
            raise VenueApiError(-2010, "New order is rejected.")
        return place(user, params)

    floor.exchange.place_order = refuses  # type: ignore[method-assign] # the venue's own doing
    told = floor.send("x", action="close")
    assert (told["action"], told["quantity"], told["remaining_quantity"]) == ("closed", 0.004, 0.005)
    floor.exchange.place_order = place  # type: ignore[method-assign]
    assert floor.net() == floor.booked() == Decimal("0.005")
    assert floor.send("y", action="close")["remaining_quantity"] == 0
    check_agreement(floor)


def test_a_venue_that_is_busy_in_the_middle_is_asked_again_for_what_is_missing(
    floor: Floor, another: Callable[[], WebhookServer]
) -> None:
    floor.send("a", **STOP)
    change(floor, **SMALL)
    busy = {"status": 400, "body": '{"code":-1008,"msg":"overloaded"}'}
    floor.misbehave({"kind": "status", "path": "/order", "times": 1, "method": "POST", "after": 1} | busy)
    assert floor.send("x", action="close")["status"] == 503
    floor.misbehave()
    another().recovery.run()
    assert floor.send("x", action="close")["remaining_quantity"] == 0
    assert sum(quantity for _, quantity in exits(floor)) == HELD
    check_agreement(floor)


def test_a_reversal_splits_its_exit(floor: Floor) -> None:
    floor.send("a")
    change(floor, **SMALL)
    assert floor.send("x", action="sell", size=100)["action"] == "opened"
    assert floor.net() == floor.booked() < 0
    check_agreement(floor)


def test_what_others_positions_cover_is_split_too(floor: Floor) -> None:
    a, b = floor.strategy(), floor.strategy()
    floor.send("long", strategy_id=a)
    floor.send("short", strategy_id=b, action="sell")
    change(floor, **SMALL)
    assert floor.send("x", strategy_id=a, action="close")["remaining_quantity"] == 0
    assert [start for start, _ in exits(floor, "r")] == ["sr", "sr1", "sr2"]
    check_agreement(floor)


@pytest.mark.parametrize("after", [0, 1])
def test_a_server_that_dies_between_two_orders_beyond_zero_leaves_only_what_is_missing(
    floor: Floor, another: Callable[[], WebhookServer], after: int
) -> None:
    a, b = floor.strategy(), floor.strategy()
    floor.send("long", strategy_id=a)
    floor.send("short", strategy_id=b, action="sell")
    change(floor, **SMALL)
    floor.misbehave(LOST | {"after": after}, DEAF | {"after": after + 1, "method": "POST"}, DEAF | {"method": "GET"})
    assert floor.send("x", strategy_id=a, action="close")["status"] == 503
    floor.misbehave()
    another().recovery.run()
    assert floor.send("x", strategy_id=a, action="close")["remaining_quantity"] == 0
    assert [quantity for _, quantity in exits(floor, "r")] == [MOST, MOST, Decimal("0.001")]
    check_agreement(floor)


def test_a_paper_exit_of_any_size_is_made(floor: Floor) -> None:
    floor.send("a", environment="paper")
    change(floor, **SMALL)
    told = floor.send("x", action="close", environment="paper")
    assert (told["action"], told["quantity"], told["remaining_quantity"]) == ("closed", 0.009, 0)


def test_an_exit_of_more_orders_than_are_sent_at_once_is_told_as_partial(floor: Floor) -> None:
    floor.send("a", size=1_100)
    change(floor, market_lot={"max_quantity": "0.001"})
    told = floor.send("x", action="close")
    assert (told["action"], told["quantity"], told["remaining_quantity"] > 0) == ("closed", 0.035, True)
    assert floor.send("y", action="close")["remaining_quantity"] == 0
    check_agreement(floor)
