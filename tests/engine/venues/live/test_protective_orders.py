"""Stops and targets at the venue: both or none, found again, never twice, and gone when they are cancelled."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from engine.domain.errors import OrderOutcomeUnknown, OrderRejected
from engine.domain.positions import Side
from engine.platform.errors import UpstreamUnavailable
from engine.venues.account_state import OrderKind
from engine.venues.instrument import Instrument
from engine.venues.live.ccxt_venue import CcxtVenue
from engine.venues.live.protective_orders import build_trigger_orders, round_trigger_price
from engine.venues.orders import PROTECTIVE_LETTERS, OrderRequest, OrderStatus, Protection, build_client_order_id

ORDER = "/fapi/v3/order"
STOP, TARGET = (build_client_order_id("1", letter) for letter in PROTECTIVE_LETTERS)
OpenVenue = Callable[..., CcxtVenue]
Misbehave = Callable[..., None]


def wanted(**more: Any) -> Protection:
    given = {
        "signal_id": "1",
        "symbol": "BTCUSDT",
        "side": Side.LONG,
        "quantity": Decimal("0.01"),
        "stop_loss_price": Decimal(27_000),
        "take_profit_price": Decimal(28_250),
    }
    return Protection(**(given | more))


@pytest.fixture
def long(open_venue: OpenVenue) -> CcxtVenue:
    """An account that holds 0.01 BTC, bought at 28,001.4."""
    venue = open_venue()
    buy(venue, "entry")
    return venue


def buy(venue: CcxtVenue, name: str, *, is_buy: bool = True, quantity: str = "0.01") -> None:
    given = OrderRequest(
        client_order_id=name, symbol="BTCUSDT", is_buy=is_buy, quantity=Decimal(quantity), leverage=None
    )
    assert venue.place_market_order(given).status is OrderStatus.FILLED


def names(venue: CcxtVenue) -> list[str | None]:
    return [order.client_order_id for order in venue.fetch_open_orders("BTCUSDT")]


def test_both_orders_wait_and_reduce_no_more_than_the_position(long: CcxtVenue) -> None:
    placed = long.place_protection(wanted())
    assert [order.status for order in placed] == [OrderStatus.OPEN, OrderStatus.OPEN]
    stop, target = long.fetch_open_orders("BTCUSDT")
    assert (stop.client_order_id, stop.kind, stop.price) == (STOP, OrderKind.STOP_LOSS, Decimal(27_000))
    assert (target.client_order_id, target.kind, target.price) == (TARGET, OrderKind.TAKE_PROFIT, Decimal(28_250))
    assert all(order.reduce_only and not order.is_buy and order.quantity == Decimal("0.01") for order in (stop, target))


def test_one_price_is_one_order(long: CcxtVenue) -> None:
    assert len(long.place_protection(wanted(take_profit_price=None))) == 1
    assert names(long) == [STOP]


def test_a_target_that_is_reached_closes_the_position_and_tells_price_and_fee(long: CcxtVenue, hands: Any) -> None:
    long.place_protection(wanted())
    hands.now += 60.0 * 10
    filled = long.find_order("BTCUSDT", TARGET)
    assert filled is not None
    assert (filled.status, filled.price, filled.quantity) == (OrderStatus.FILLED, Decimal(28_250), Decimal("0.01"))
    assert filled.fee_usd == Decimal("0.01") * Decimal(28_250) * Decimal("0.0004")
    assert long.fetch_positions() == ()
    cancelled = long.cancel_order("BTCUSDT", STOP)
    assert cancelled is not None
    assert cancelled.status is OrderStatus.REJECTED
    assert names(long) == []


def test_a_fall_beyond_the_stop_fills_it_at_the_price_there_is(long: CcxtVenue, direct: Callable[..., Any]) -> None:
    long.place_protection(wanted())
    direct(symbol="BTCUSDT", jump_percent=-5)
    filled = long.find_order("BTCUSDT", STOP)
    assert filled is not None
    assert (filled.status, filled.price) == (OrderStatus.FILLED, Decimal(26_600))


def test_what_was_protected_twice_is_protected_once(long: CcxtVenue) -> None:
    first = long.place_protection(wanted())
    assert long.place_protection(wanted()) == first
    assert long.place_protection(wanted(), reuse_existing=True) == first
    assert len(names(long)) == 2


def test_protecting_again_finds_a_stop_that_has_filled_meanwhile(long: CcxtVenue, direct: Callable[..., Any]) -> None:
    long.place_protection(wanted(take_profit_price=None))
    buy(long, "anothers")
    direct(jump_percent=-5)
    (found,) = long.place_protection(wanted(take_profit_price=None), reuse_existing=True)
    assert found.status is OrderStatus.FILLED
    assert names(long) == []


def test_protecting_again_replaces_what_was_cancelled(long: CcxtVenue) -> None:
    long.place_protection(wanted())
    long.cancel_order("BTCUSDT", STOP)
    assert [order.status for order in long.place_protection(wanted(), reuse_existing=True)] == [
        OrderStatus.OPEN,
        OrderStatus.OPEN,
    ]
    assert set(names(long)) == {STOP, TARGET}


@pytest.mark.parametrize("more", [{"stop_loss_price": Decimal(28_500)}, {"take_profit_price": Decimal(27_900)}])
def test_a_price_that_the_market_is_beyond_is_refused_and_neither_order_waits(
    long: CcxtVenue, more: dict[str, Decimal]
) -> None:
    with pytest.raises(OrderRejected) as caught:
        long.place_protection(wanted(**more))
    assert caught.value.kind == "would_trigger"
    assert names(long) == []


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 503}, {"kind": "reset"}], ids=["503", "reset"])
@pytest.mark.parametrize("accept", [True, False], ids=["accepted", "not accepted"])
def test_a_protective_order_whose_answer_is_lost_is_asked_about_and_there_once(
    long: CcxtVenue, misbehave: Misbehave, fault: dict[str, object], *, accept: bool
) -> None:
    misbehave(fault | {"path": ORDER, "method": "POST", "accept": accept})
    assert [order.status for order in long.place_protection(wanted())] == [OrderStatus.OPEN, OrderStatus.OPEN]
    assert names(long) == [STOP, TARGET]


def test_an_outcome_that_stays_unknown_is_told_and_undone_as_far_as_can_be(
    long: CcxtVenue, misbehave: Misbehave
) -> None:
    misbehave({"kind": "status", "status": 503, "path": ORDER, "times": None, "accept": True, "after": 1})
    with pytest.raises(OrderOutcomeUnknown, match="is not known"):
        long.place_protection(wanted())
    misbehave()
    for name in (STOP, TARGET):
        long.cancel_order("BTCUSDT", name)
    assert names(long) == []


def test_a_second_order_that_is_refused_takes_the_first_one_back(long: CcxtVenue, misbehave: Misbehave) -> None:
    body = '{"code":-4045,"msg":"Reach max stop order limit."}'
    misbehave({"kind": "status", "status": 400, "body": body, "path": ORDER, "method": "POST", "after": 1})
    with pytest.raises(OrderRejected, match="max stop order"):
        long.place_protection(wanted())
    assert names(long) == []


def test_a_short_is_protected_the_other_way_round(open_venue: OpenVenue, direct: Callable[..., Any]) -> None:
    venue = open_venue()
    buy(venue, "entry", is_buy=False)
    venue.place_protection(wanted(side=Side.SHORT, stop_loss_price=Decimal(29_000), take_profit_price=Decimal(27_500)))
    direct(jump_percent=-2)
    target = venue.find_order("BTCUSDT", TARGET)
    assert target is not None
    assert (target.status, target.price) == (OrderStatus.FILLED, Decimal(27_440))
    assert venue.fetch_positions() == ()


def test_protection_on_an_account_that_nets_to_less_may_go_without_reduce_only(
    long: CcxtVenue, direct: Callable[..., Any]
) -> None:
    buy(long, "anothers-short", is_buy=False, quantity="0.01")
    with pytest.raises(OrderRejected) as caught:
        long.place_protection(wanted(take_profit_price=None))
    assert caught.value.kind == "reduce_only"
    long.place_protection(wanted(take_profit_price=None, reduce_only=False))
    direct(jump_percent=-5)
    (position,) = long.fetch_positions()
    assert position.net == Decimal("-0.01")


def test_cancelling_is_idempotent_and_tells_how_the_order_ended(long: CcxtVenue, direct: Callable[..., Any]) -> None:
    assert long.cancel_order("BTCUSDT", STOP) is None
    long.place_protection(wanted())
    first, again = long.cancel_order("BTCUSDT", TARGET), long.cancel_order("BTCUSDT", TARGET)
    assert first is not None
    assert first.status is OrderStatus.REJECTED
    assert again == first
    direct(jump_percent=-5)
    too_late = long.cancel_order("BTCUSDT", STOP)
    assert too_late is not None
    assert too_late.status is OrderStatus.FILLED


@pytest.mark.parametrize("accept", [True, False])
def test_a_cancellation_whose_answer_is_lost_may_be_repeated(
    long: CcxtVenue, misbehave: Misbehave, *, accept: bool
) -> None:
    long.place_protection(wanted())
    misbehave({"kind": "status", "status": 503, "path": ORDER, "method": "DELETE", "accept": accept})
    with pytest.raises(UpstreamUnavailable):
        long.cancel_order("BTCUSDT", STOP)
    ended = long.cancel_order("BTCUSDT", STOP)
    assert ended is not None
    assert ended.status is OrderStatus.REJECTED
    assert names(long) == [TARGET]


@pytest.mark.parametrize("times", [1, 2])
def test_an_order_that_is_still_there_after_it_was_cancelled_is_cancelled_again(
    long: CcxtVenue, misbehave: Misbehave, times: int
) -> None:
    """The venue says yes and does nothing, once or twice."""
    long.place_protection(wanted())
    body = '{"orderId":1,"symbol":"BTCUSDT"}'
    misbehave({"kind": "status", "status": 200, "body": body, "path": ORDER, "method": "DELETE", "times": times})
    if times == 2:
        with pytest.raises(UpstreamUnavailable, match="still open"):
            long.cancel_order("BTCUSDT", STOP)
    assert long.cancel_order("BTCUSDT", STOP) is not None
    assert names(long) == [TARGET]


def test_a_venue_that_contradicts_itself_is_asked_and_told_once_more(long: CcxtVenue, misbehave: Misbehave) -> None:
    """It refuses the stop as a duplicate, and then knows of none."""
    body = '{"code":-4115,"msg":"ClientOrderId is duplicated."}'
    misbehave({"kind": "status", "status": 400, "body": body, "path": ORDER, "method": "POST"})
    assert len(long.place_protection(wanted())) == 2
    assert names(long) == [STOP, TARGET]


def test_a_protection_without_a_price_is_none() -> None:
    with pytest.raises(ValidationError, match="a stop-loss, a take-profit or both"):
        wanted(stop_loss_price=None, take_profit_price=None)


prices = st.decimals("0.01", "100000", places=4)


@given(
    price=prices,
    tick=st.sampled_from(["0.01", "0.1", "0.5", "5"]),
    side=st.sampled_from(Side),
    trigger=st.sampled_from(["stopLossPrice", "takeProfitPrice"]),
)
def test_a_trigger_is_on_the_tick_and_never_later_than_was_asked(
    price: Decimal, tick: str, side: Side, trigger: Any
) -> None:
    instrument = Instrument(symbol="X", tick=Decimal(tick), lot=Decimal(1))
    placed = round_trigger_price(instrument, side, trigger, price)
    assert placed > 0
    assert placed % instrument.tick == 0
    assert abs(placed - price) < instrument.tick
    if price >= instrument.tick:
        assert (placed >= price) if (trigger == "stopLossPrice") is (side is Side.LONG) else (placed <= price)


@given(quantity=st.decimals("0.0001", "1000", places=5), lot=st.sampled_from(["0.001", "0.01", "0.5"]))
def test_protection_never_covers_more_than_was_asked_and_always_whole_lots(quantity: Decimal, lot: str) -> None:
    instrument = Instrument(symbol="X", tick=Decimal("0.1"), lot=Decimal(lot))
    protection = wanted(quantity=quantity)
    if quantity < instrument.lot:
        with pytest.raises(OrderRejected, match="below the minimum"):
            build_trigger_orders(protection, instrument)
        return
    legs = build_trigger_orders(protection, instrument)
    for leg in legs:
        assert quantity - instrument.lot < leg.order.quantity <= quantity
        assert leg.order.quantity % instrument.lot == 0
        assert leg.order.is_buy is False
    assert len({leg.order.client_order_id for leg in legs}) == 2
