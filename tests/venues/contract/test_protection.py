"""Stops and targets at every venue: both or none, found again wherever they are kept, never twice, surely cancelled."""

from decimal import Decimal
from typing import Any

import pytest

from engine.domain.errors import OrderOutcomeUnknown, OrderRejected
from engine.domain.positions import Side
from engine.platform.errors import UpstreamUnavailable
from engine.venues.account_state import OrderKind
from engine.venues.orders import OrderStatus
from tests.venues.contract.conftest import STOP, TARGET, Bench, wanted

RATE = Decimal("0.0004")


def test_both_orders_wait_and_are_listed_with_kind_price_and_quantity(long: Bench) -> None:
    placed = long.venue.place_protection(wanted())
    assert [each.status for each in placed] == [OrderStatus.OPEN, OrderStatus.OPEN]
    assert [each.client_order_id for each in placed] == [STOP, TARGET]
    for listed in (long.venue.fetch_open_orders("BTCUSDT"), long.venue.fetch_open_orders()):
        stop, target = listed
        assert (stop.client_order_id, stop.kind, stop.price) == (STOP, OrderKind.STOP_LOSS, Decimal(27_000))
        assert (target.client_order_id, target.kind, target.price) == (TARGET, OrderKind.TAKE_PROFIT, Decimal(28_250))
        assert all(each.reduce_only and not each.is_buy and each.quantity == Decimal("0.01") for each in listed)
        assert [each.order_id for each in listed] == [each.order_id for each in placed]


def test_plain_and_conditional_orders_are_listed_together(long: Bench) -> None:
    long.venue.place_protection(wanted(take_profit_price=None))
    by_hand = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "quantity": "0.001", "price": "27000"}
    (user,) = long.exchange._accounts
    long.exchange.place_order(user, by_hand | {"newClientOrderId": "by-hand"})
    assert set(long.names()) == {STOP, "by-hand"}


@pytest.mark.parametrize("half", ["stop_loss_price", "take_profit_price"])
def test_one_that_is_refused_leaves_none(long: Bench, half: str) -> None:
    kind = "STOP_MARKET" if half == "stop_loss_price" else "TAKE_PROFIT_MARKET"
    long.direct(refused_kinds=[kind])
    with pytest.raises(OrderRejected):
        long.venue.place_protection(wanted())
    assert long.stops() == []


@pytest.mark.parametrize("more", [{"stop_loss_price": Decimal(28_500)}, {"take_profit_price": Decimal(27_900)}])
def test_a_price_that_the_market_is_beyond_is_refused_and_neither_waits(long: Bench, more: dict[str, Any]) -> None:
    with pytest.raises(OrderRejected) as caught:
        long.venue.place_protection(wanted(**more))
    assert caught.value.kind == "would_trigger"
    assert long.stops() == []


def test_too_many_stops_is_a_refusal_and_neither_waits(long: Bench) -> None:
    body = '{"code":-4045,"msg":"Reach max stop order limit."}'
    long.misbehave({"kind": "status", "status": 400, "body": body, "path": long.simulated.stop_path, "method": "POST",
                    "after": 1})  # fmt: skip
    with pytest.raises(OrderRejected, match="max stop order"):
        long.venue.place_protection(wanted())
    assert long.stops() == []


def test_an_order_that_is_taken_and_rejected_in_one_answer_is_a_refusal_and_neither_waits(long: Bench) -> None:
    """200, and a status that says that it protects nobody."""
    body = (
        '{"algoId":1,"orderId":1,"symbol":"BTCUSDT","side":"SELL","orderType":"TAKE_PROFIT_MARKET","quantity":"0.010",'
        '"origQty":"0.010","executedQty":"0","algoStatus":"REJECTED","status":"REJECTED","positionSide":"BOTH"}'
    )
    path = long.simulated.stop_path
    long.misbehave({"kind": "status", "status": 200, "body": body, "path": path, "method": "POST", "after": 1})
    with pytest.raises(OrderRejected, match="rejected"):
        long.venue.place_protection(wanted())
    assert long.stops() == []


def test_protecting_twice_or_after_a_crash_places_nothing_twice(long: Bench) -> None:
    first = long.venue.place_protection(wanted())
    assert long.venue.place_protection(wanted()) == first
    assert long.venue.place_protection(wanted(), reuse_existing=True) == first
    assert sorted(long.stops()) == sorted([STOP, TARGET])


def test_protecting_again_replaces_what_was_cancelled(long: Bench) -> None:
    long.venue.place_protection(wanted())
    long.venue.cancel_order("BTCUSDT", STOP)
    assert [each.status for each in long.venue.place_protection(wanted(), reuse_existing=True)] == [
        OrderStatus.OPEN,
        OrderStatus.OPEN,
    ]
    assert sorted(long.stops()) == sorted([STOP, TARGET])


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 503}, {"kind": "reset"}], ids=["503", "reset"])
@pytest.mark.parametrize("accept", [True, False], ids=["accepted", "not accepted"])
def test_a_protective_order_whose_answer_is_lost_is_asked_about_and_there_once(
    long: Bench, fault: dict[str, object], *, accept: bool
) -> None:
    long.misbehave(fault | {"path": long.simulated.stop_path, "method": "POST", "accept": accept})
    assert [each.status for each in long.venue.place_protection(wanted())] == [OrderStatus.OPEN, OrderStatus.OPEN]
    assert sorted(long.stops()) == sorted([STOP, TARGET])


def test_an_outcome_that_stays_unknown_is_told_and_can_be_undone(long: Bench) -> None:
    path = long.simulated.stop_path
    long.misbehave({"kind": "status", "status": 503, "path": path, "times": None, "accept": True, "after": 1})
    with pytest.raises(OrderOutcomeUnknown, match="is not known"):
        long.venue.place_protection(wanted())
    long.misbehave()
    for name in (STOP, TARGET):
        long.venue.cancel_order("BTCUSDT", name)
    assert long.stops() == []


def test_a_target_that_is_reached_tells_the_fill_under_the_number_that_its_trade_has(long: Bench) -> None:
    long.venue.place_protection(wanted())
    long.hands.now += 60.0 * 10
    filled = long.venue.find_order("BTCUSDT", TARGET)
    assert filled is not None
    assert (filled.status, filled.price, filled.quantity) == (OrderStatus.FILLED, Decimal(28_250), Decimal("0.01"))
    assert filled.fee_usd == Decimal("0.01") * Decimal(28_250) * RATE
    assert (filled.order_id, filled.client_order_id) == (long.number_of(TARGET), TARGET)
    assert long.venue.fetch_positions() == ()
    cancelled = long.venue.cancel_order("BTCUSDT", STOP)
    assert cancelled is not None
    assert cancelled.status is OrderStatus.REJECTED
    assert long.names() == []


def test_a_fall_beyond_the_stop_fills_it_at_the_price_there_is(long: Bench) -> None:
    long.venue.place_protection(wanted())
    long.direct(jump_percent=-5)
    filled = long.venue.find_order("BTCUSDT", STOP)
    assert filled is not None
    assert (filled.status, filled.price) == (OrderStatus.FILLED, Decimal(26_600))


def test_protecting_again_finds_a_stop_that_has_filled_meanwhile(long: Bench) -> None:
    long.venue.place_protection(wanted(take_profit_price=None))
    long.buy("anothers")
    long.direct(jump_percent=-5)
    (found,) = long.venue.place_protection(wanted(take_profit_price=None), reuse_existing=True)
    assert (found.status, found.order_id) == (OrderStatus.FILLED, long.number_of(STOP))
    assert long.stops() == []


def test_cancelling_may_be_repeated_and_tells_how_the_order_ended(long: Bench) -> None:
    assert long.venue.cancel_order("BTCUSDT", STOP) is None
    long.venue.place_protection(wanted())
    first, again = long.venue.cancel_order("BTCUSDT", TARGET), long.venue.cancel_order("BTCUSDT", TARGET)
    assert first is not None
    assert first.status is OrderStatus.REJECTED
    assert again == first
    long.direct(jump_percent=-5)
    too_late = long.venue.cancel_order("BTCUSDT", STOP)
    assert too_late is not None
    assert (too_late.status, too_late.order_id) == (OrderStatus.FILLED, long.number_of(STOP))


@pytest.mark.parametrize("accept", [True, False])
def test_a_cancellation_whose_answer_is_lost_may_be_repeated(long: Bench, *, accept: bool) -> None:
    long.venue.place_protection(wanted())
    long.misbehave({"kind": "status", "status": 503, "path": long.simulated.stop_path, "method": "DELETE",
                    "accept": accept})  # fmt: skip
    with pytest.raises(UpstreamUnavailable):
        long.venue.cancel_order("BTCUSDT", STOP)
    ended = long.venue.cancel_order("BTCUSDT", STOP)
    assert ended is not None
    assert ended.status is OrderStatus.REJECTED
    assert long.stops() == [TARGET]


def test_an_id_may_be_used_again_once_its_order_has_ended(long: Bench) -> None:
    long.venue.place_protection(wanted(take_profit_price=None))
    long.venue.cancel_order("BTCUSDT", STOP)
    (second,) = long.venue.place_protection(wanted(take_profit_price=None, stop_loss_price=Decimal(26_900)))
    assert long.venue.find_order("BTCUSDT", STOP) == second
    assert long.stops() == [STOP]


def test_a_short_is_protected_the_other_way_round(bench: Bench) -> None:
    bench.buy(is_buy=False)
    bench.venue.place_protection(
        wanted(side=Side.SHORT, stop_loss_price=Decimal(29_000), take_profit_price=Decimal(27_500))
    )
    bench.direct(jump_percent=-2)
    target = bench.venue.find_order("BTCUSDT", TARGET)
    assert target is not None
    assert (target.status, target.price) == (OrderStatus.FILLED, Decimal(27_440))
    assert bench.venue.fetch_positions() == ()


def test_protection_on_an_account_that_nets_to_less_may_go_without_reduce_only(long: Bench) -> None:
    long.buy("anothers-short", is_buy=False)
    with pytest.raises(OrderRejected) as caught:
        long.venue.place_protection(wanted(take_profit_price=None))
    assert caught.value.kind == "reduce_only"
    long.venue.place_protection(wanted(take_profit_price=None, reduce_only=False))
    long.direct(jump_percent=-5)
    assert long.net() == Decimal("-0.01")
