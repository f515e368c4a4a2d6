"""What is believed of conditional orders while the venue does not show them: for how long, and of which."""

from dataclasses import dataclass, field
from typing import Any

import ccxt
import pytest

from engine.domain.errors import OrderContradictory
from engine.venues.live.conditional_orders import (
    ACCEPT_LAG_S,
    CANCEL_LAG_S,
    PURGED_AFTER_MS,
    RETRY_WAITS_S,
    SEND_LAG_S,
    TriggerOrders,
)
from engine.venues.orders import build_client_order_id

STOP, TARGET, ENTRY = (build_client_order_id("1", letter) for letter in ("l", "t", "o"))
MARKET = {"symbol": "BTC/USDT:USDT"}
NOW_MS = 10 * PURGED_AFTER_MS


@dataclass
class Exchange:
    """A ccxt client: conditional orders by client id, plain ones by order id; what has none is not found."""

    id: str = "binance"
    conditional: dict[str, dict[str, Any]] = field(default_factory=dict)
    plain: dict[str, dict[str, Any]] = field(default_factory=dict)

    def fetch_order(self, order_id: str | None, _: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        found = self.plain.get(str(order_id)) if params is None else self.conditional.get(params["clientOrderId"])
        if found is None:
            raise ccxt.OrderNotFound("-2013")
        return found

    def cancel_order(self, _: None, __: str, params: dict[str, Any]) -> dict[str, Any]:
        return {"id": self.conditional[params["clientOrderId"]]["id"]}

    def fetch_open_orders(self, _: str | None, params: dict[str, Any]) -> list[dict[str, Any]]:
        assert params == {"trigger": True}
        return list(self.conditional.values())

    def fetch_orders(self, _: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        return self.fetch_open_orders(None, params)

    def milliseconds(self) -> int:
        return NOW_MS


@dataclass
class World:
    exchange: Exchange = field(default_factory=Exchange)
    now_s: float = 1_000.0

    def __post_init__(self) -> None:
        self.orders = TriggerOrders(self.exchange, lambda: self.now_s)

    def put(self, name: str = STOP, number: int = 7, status: str = "NEW", **info: Any) -> None:
        self.exchange.conditional[name] = {
            "id": str(number),
            "clientOrderId": name,
            "status": "open",
            "timestamp": NOW_MS - PURGED_AFTER_MS,
            "info": {"algoStatus": status, **info},
        }

    def fetch(self, name: str = STOP) -> dict[str, Any] | None:
        return self.orders.fetch_order(MARKET, name)


@pytest.mark.parametrize(
    ("venue", "name", "is_kept_apart"),
    [
        ("binance", STOP, True),
        ("binance", TARGET, True),
        ("binance", ENTRY, False),
        ("binance", "web_lt", False),
        ("aster", STOP, False),
    ],
)
def test_only_stops_and_targets_of_a_venue_that_keeps_them_apart_are_looked_for_there(
    venue: str, name: str, *, is_kept_apart: bool
) -> None:
    orders = TriggerOrders(Exchange(venue))
    assert orders.is_trigger_order(name) is is_kept_apart
    assert orders.get_retry_waits_s(name) == (RETRY_WAITS_S if is_kept_apart else ())


@pytest.mark.parametrize(
    ("name", "may_be"),
    [("x-uuid", True), (ENTRY, False), (STOP, False), ("adl_autoclose", False), ("autoclose-1", False)],
)
def test_a_plain_order_may_be_one_that_triggered_unless_we_or_the_venue_sent_it(name: str, *, may_be: bool) -> None:
    assert TriggerOrders(Exchange()).may_be_triggered_order(name) is may_be
    assert not TriggerOrders(Exchange("aster")).may_be_triggered_order(name)


def test_an_order_may_be_invisible_for_five_seconds_after_it_was_sent_unless_it_was_declined() -> None:
    world = World()
    world.orders.record_sending(STOP)
    world.now_s += SEND_LAG_S - 0.001
    assert world.orders.may_be_invisible(STOP)
    assert not world.orders.may_be_invisible(TARGET)
    world.now_s += 0.001
    assert not world.orders.may_be_invisible(STOP)
    world.orders.record_sending(STOP)
    world.orders.forget(STOP)
    assert not world.orders.may_be_invisible(STOP)


def test_an_accepted_order_counts_for_thirty_seconds_though_the_venue_denies_it() -> None:
    world = World()
    world.orders.record_acceptance(STOP, "7")
    world.orders.record_acceptance(ENTRY, "8")
    world.now_s += ACCEPT_LAG_S - 0.001
    with pytest.raises(OrderContradictory, match=STOP):
        world.orders.check_not_just_accepted(STOP)
    world.orders.check_not_just_accepted(ENTRY)  # a plain one that is denied does not exist
    world.orders.check_not_just_accepted(TARGET)
    world.now_s += 0.001
    world.orders.check_not_just_accepted(STOP)


def test_an_order_that_does_not_exist_is_none() -> None:
    assert World().fetch() is None


def test_an_older_order_of_the_same_name_is_not_taken_for_the_one_that_was_just_accepted() -> None:
    world = World()
    world.put(number=7)
    world.orders.record_acceptance(STOP, "8")
    assert world.fetch() is None
    world.put(number=8)
    assert (world.fetch() or {})["id"] == "8"
    world.put(number=7)
    world.now_s += ACCEPT_LAG_S
    assert (world.fetch() or {})["id"] == "7"


@pytest.mark.parametrize("status", ["TRIGGERED", "FINISHED"])
def test_a_triggered_order_is_open_until_its_plain_order_is_known(status: str) -> None:
    world = World()
    world.put(status=status)
    world.exchange.conditional[STOP]["status"] = "closed"
    assert (world.fetch() or {})["status"] == "open"
    world.put(status=status, actualOrderId="99")
    world.exchange.plain["99"] = {"id": "99", "status": "closed"}
    assert world.fetch() == {"id": "99", "status": "closed"}


@pytest.mark.parametrize(
    ("age_ms", "price", "status"),
    [
        (PURGED_AFTER_MS, "0", "open"),  # it may not be shown yet
        (PURGED_AFTER_MS + 1, "0", "expired"),
        (PURGED_AFTER_MS + 1, "26600", "open"),  # it has filled, so it is not gone
    ],
)
def test_a_plain_order_that_is_gone_for_a_day_without_a_fill_has_expired(age_ms: int, price: str, status: str) -> None:
    world = World()
    world.put(status="FINISHED", actualOrderId="99", actualPrice=price)
    world.exchange.conditional[STOP]["timestamp"] = NOW_MS - age_ms
    assert (world.fetch() or {})["status"] == status


def test_an_accepted_cancellation_counts_for_thirty_seconds_unless_the_order_triggers() -> None:
    world = World()
    world.put()
    world.orders.record_acceptance(STOP, "7")
    world.orders.cancel_order(MARKET, STOP)
    assert (world.fetch() or {})["status"] == "canceled"
    assert world.orders.fetch_open_orders(None) == []
    world.put(status="TRIGGERED")
    assert (world.fetch() or {})["status"] == "open"
    assert len(world.orders.fetch_open_orders(None)) == 1
    world.put()
    world.now_s += CANCEL_LAG_S
    assert (world.fetch() or {})["status"] == "open"
    world.orders.check_not_just_accepted(STOP)  # it was cancelled: nothing contradicts that it is gone


def test_an_order_that_ended_is_no_longer_believed_to_be_accepted() -> None:
    world = World()
    world.orders.record_acceptance(STOP, "7")
    world.put(status="EXPIRED")
    world.exchange.conditional[STOP]["status"] = "expired"
    assert (world.fetch() or {})["status"] == "expired"
    world.orders.check_not_just_accepted(STOP)


def test_the_client_id_of_a_plain_order_is_that_of_the_order_that_became_it() -> None:
    world = World()
    world.put(status="FINISHED", actualOrderId="99")
    world.put(TARGET, number=8, actualOrderId="0")
    find = world.orders.find_client_order_id
    assert (find(MARKET, "99"), find(MARKET, "98")) == (STOP, None)
    world.put(TARGET, number=8, status="TRIGGERING", actualOrderId="")
    assert find(MARKET, "99") == STOP
    with pytest.raises(OrderContradictory, match="is being triggered, and may be 98"):
        find(MARKET, "98")


def test_a_venue_that_keeps_them_with_the_others_is_asked_for_none_apart() -> None:
    world = World(Exchange("aster"))
    world.put()
    assert world.orders.fetch_open_orders(None) == []
