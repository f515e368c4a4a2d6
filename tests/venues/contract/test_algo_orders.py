"""What only a venue with algo orders can do to a stop: hide it, take its time to trigger it, end it without a fill."""

from decimal import Decimal

import ccxt
import pytest
import requests

from engine.domain.errors import OrderOutcomeUnknown, OrderRejected
from engine.venues.orders import OrderStatus
from tests.support.servers.simulated import BINANCE, Simulated
from tests.venues.contract.conftest import STOP, TARGET, Bench, wanted


@pytest.fixture
def simulated() -> Simulated:
    return BINANCE


def placed(bench: Bench) -> None:
    bench.venue.place_protection(wanted(take_profit_price=None))


def test_the_simulated_venue_knows_algo_orders_at_their_own_endpoints_only(long: Bench) -> None:
    placed(long)
    exchange = long.venue._exchange
    row = exchange.fapiPrivateGetAlgoOrder({"clientAlgoId": STOP})
    assert (row["algoStatus"], row["actualOrderId"], row["triggerPrice"]) == ("NEW", "", "27000")
    assert exchange.fapiPrivateGetOpenOrders({"symbol": "BTCUSDT"}) == []
    with pytest.raises(ccxt.OrderNotFound, match="-2013"):
        exchange.fapiPrivateGetOrder({"symbol": "BTCUSDT", "origClientOrderId": STOP})
    stop = {"symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET", "quantity": "0.01", "stopPrice": "26000"}
    with pytest.raises(ccxt.ExchangeError, match="-4120"):
        exchange.fapiPrivatePostOrder(stop)
    long.direct(jump_percent=-5)
    row = exchange.fapiPrivateGetAlgoOrder({"clientAlgoId": STOP})
    plain = exchange.fapiPrivateGetOrder({"symbol": "BTCUSDT", "orderId": row["actualOrderId"]})
    assert (row["algoStatus"], plain["status"], plain["avgPrice"]) == ("FINISHED", "FILLED", "26600")
    assert plain["clientOrderId"] != STOP
    assert plain["orderId"] != row["algoId"]


def test_a_new_order_that_is_not_seen_yet_is_there_all_the_same(long: Bench) -> None:
    long.direct_algo(unseen_for=3)
    placed(long)
    found = long.venue.find_order("BTCUSDT", STOP)
    assert found is not None
    assert found.status is OrderStatus.OPEN


@pytest.mark.parametrize("unseen_for", [1, 2, 4])
def test_an_order_whose_answer_is_lost_and_that_is_not_seen_yet_is_placed_once(long: Bench, unseen_for: int) -> None:
    long.direct_algo(unseen_for=unseen_for)
    long.misbehave({"kind": "reset", "path": "/algoOrder", "method": "POST", "accept": True})
    (stop,) = long.venue.place_protection(wanted(take_profit_price=None))
    assert stop.status is OrderStatus.OPEN
    assert long.stops() == [STOP]


@pytest.mark.parametrize("unseen_for", [1, 3])
def test_an_order_that_is_not_seen_yet_is_cancelled_all_the_same(long: Bench, unseen_for: int) -> None:
    long.direct_algo(unseen_for=unseen_for)
    placed(long)
    ended = long.venue.cancel_order("BTCUSDT", STOP)
    assert ended is not None
    assert ended.status is OrderStatus.REJECTED
    assert long.stops() == []


def test_the_first_of_two_is_taken_back_though_it_is_not_seen_yet(long: Bench) -> None:
    long.direct_algo(unseen_for=2)
    long.direct(refused_kinds=["TAKE_PROFIT_MARKET"])
    with pytest.raises(OrderRejected):
        long.venue.place_protection(wanted())
    assert long.stops() == []


def test_an_order_that_stays_unseen_is_no_order_that_is_gone(long: Bench) -> None:
    """The venue refuses its id as taken and knows none: nothing may be undone as if it were gone."""
    long.direct_algo(unseen_for=1_000)
    long.misbehave({"kind": "reset", "path": "/algoOrder", "method": "POST", "accept": True})
    with pytest.raises(OrderOutcomeUnknown):
        long.venue.place_protection(wanted(take_profit_price=None))


@pytest.mark.parametrize("triggering_for", [1, 3])
def test_a_stop_that_is_triggering_is_waited_for_and_then_tells_its_fill(long: Bench, triggering_for: int) -> None:
    placed(long)
    long.exchange.get_account(*long.exchange._accounts)
    long.direct_algo(triggering_for=triggering_for)
    long.venue.cancel_order("BTCUSDT", STOP)
    placed(long)
    long.direct(jump_percent=-5)
    ended = long.venue.cancel_order("BTCUSDT", STOP)
    assert ended is not None
    assert (ended.status, ended.price, ended.order_id) == (OrderStatus.FILLED, Decimal(26_600), long.number_of(STOP))


@pytest.mark.parametrize("end", ["REJECTED", "EXPIRED", "FINISHED"])
def test_a_triggered_order_that_ends_without_a_fill_protects_nobody(long: Bench, end: str) -> None:
    placed(long)
    long.direct_algo(triggered_end=end)
    long.direct(jump_percent=-5)
    found = long.venue.find_order("BTCUSDT", STOP)
    assert found is not None
    assert (found.status, found.quantity) == (OrderStatus.REJECTED, Decimal(0))
    ended = long.venue.cancel_order("BTCUSDT", STOP)
    assert ended is not None
    assert ended.status is OrderStatus.REJECTED
    assert long.net() == Decimal("0.01")


def test_a_triggered_order_with_nothing_left_to_reduce_has_not_filled(long: Bench) -> None:
    long.venue.place_protection(wanted())
    long.buy("exit", is_buy=False)
    long.direct(jump_percent=-5)
    for name in (STOP, TARGET):
        ended = long.venue.cancel_order("BTCUSDT", name)
        assert ended is not None
        assert ended.status is OrderStatus.REJECTED
    assert long.venue.fetch_positions() == ()


def test_a_plain_order_that_is_not_told_yet_leaves_the_stop_open_and_not_refused(long: Bench) -> None:
    """Its trigger is known and its plain order is not: what it did is asked for again, and never taken for nothing."""
    placed(long)
    long.direct(jump_percent=-5)
    long.misbehave({"kind": "status", "status": 400, "path": "/v1/order", "method": "GET", "times": 2,
                    "body": '{"code":-2013,"msg":"Order does not exist."}'})  # fmt: skip
    ended = long.venue.cancel_order("BTCUSDT", STOP)
    assert ended is not None
    assert ended.status is OrderStatus.FILLED


def test_requests_are_weighed_as_binance_does(bench: Bench) -> None:
    bench.buy()
    answer = requests.get(f"{bench.url}/fapi/v1/time", timeout=10)
    before = int(answer.headers["X-MBX-USED-WEIGHT-1M"])
    bench.venue.fetch_open_orders("BTCUSDT")
    assert bench.exchange.meter.used - before == 2
    bench.venue.fetch_open_orders()
    assert bench.exchange.meter.used - before == 2 + 80


def test_a_cancelled_order_that_the_venue_forgets_at_once_is_gone(long: Bench) -> None:
    placed(long)
    forgotten = {"kind": "status", "status": 400, "path": "/algoOrder", "method": "GET", "times": None,
                 "body": '{"code":-2013,"msg":"Order does not exist."}'}  # fmt: skip
    long.misbehave(forgotten)
    assert long.venue.cancel_order("BTCUSDT", STOP) is None
    assert long.stops() == []


@pytest.mark.parametrize("code", [-2011, -2013, -20124])
def test_whatever_says_that_nothing_waits_is_believed_of_a_cancellation(long: Bench, code: int) -> None:
    body = f'{{"code":{code},"msg":"Invalid algo id or it has been completed."}}'
    placed(long)
    long.direct(jump_percent=-5)
    long.net()
    long.misbehave({"kind": "status", "status": 400, "path": "/algoOrder", "method": "DELETE", "body": body})
    ended = long.venue.cancel_order("BTCUSDT", STOP)
    assert ended is not None
    assert ended.status is OrderStatus.FILLED


def test_an_older_order_of_the_same_name_is_not_taken_for_the_new_one(long: Bench) -> None:
    placed(long)
    long.venue.cancel_order("BTCUSDT", STOP)
    long.direct_algo(unseen_for=3)
    (new,) = long.venue.place_protection(wanted(take_profit_price=None))
    found = long.venue.find_order("BTCUSDT", STOP)
    assert found is not None
    assert (found.status, found.order_id) == (OrderStatus.OPEN, new.order_id)


def test_a_cancellation_that_was_accepted_is_believed_while_the_order_says_that_it_waits(long: Bench) -> None:
    long.direct_algo(new_for=1_000)
    placed(long)
    began = long.hands.now
    ended = long.venue.cancel_order("BTCUSDT", STOP)
    assert ended is not None
    assert ended.status is OrderStatus.REJECTED
    assert long.hands.now - began < 3
    assert long.venue.cancel_order("BTCUSDT", STOP) == ended
    assert long.names() == []


def test_one_that_is_placed_anew_after_such_a_cancellation_waits(long: Bench) -> None:
    long.direct_algo(new_for=4)
    placed(long)
    long.venue.cancel_order("BTCUSDT", STOP)
    (second,) = long.venue.place_protection(wanted(take_profit_price=None, stop_loss_price=Decimal(26_900)))
    assert second.status is OrderStatus.OPEN
    assert long.names() == [STOP]
    assert long.venue.find_order("BTCUSDT", STOP) == second
    assert long.stops() == [STOP]
