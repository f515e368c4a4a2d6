"""What venues write otherwise than most of the time: flags as text, numbers that are none, ids that stay taken."""

import json
from decimal import Decimal
from typing import Any

import httpx
import pytest

from engine.domain.errors import OrderIdTaken, OrderRejected
from engine.platform.errors import UpstreamUnavailable
from tests.venues.contract.conftest import STOP, TARGET, Bench, order, wanted

DAY_MS = 86_400_000


def happen(bench: Bench, **event: Any) -> None:
    httpx.post(f"{bench.url}/_control/account", json=event, timeout=30).raise_for_status()
    bench.hands.now += 2


def arrange(bench: Bench, **settings: Any) -> None:
    httpx.post(f"{bench.url}/_control/settings", json=settings, timeout=30).raise_for_status()


@pytest.mark.parametrize(("told", "is_reduction"), [("true", True), ("false", False), ("TRUE", True), (True, True)])
def test_an_order_is_a_reduction_where_the_venue_says_so_in_text(
    long: Bench, told: object, *, is_reduction: bool
) -> None:
    long.venue.place_protection(wanted(take_profit_price=None))
    path = "/openOrders" if long.simulated.name == "aster" else "/openAlgoOrders"
    long.misbehave({"kind": "edit", "path": path, "replace": {"0.reduceOnly": told}})
    (stop,) = long.venue.fetch_open_orders("BTCUSDT")
    assert stop.reduce_only is is_reduction


def test_an_id_that_stays_taken_after_its_order_was_cancelled_is_no_protection(long: Bench) -> None:
    arrange(long, ids_stay_taken=True)
    long.venue.place_protection(wanted())
    for name in (STOP, TARGET):
        long.venue.cancel_order("BTCUSDT", name)
    for again in (False, True):
        with pytest.raises(OrderIdTaken, match=STOP):
            long.venue.place_protection(wanted(), reuse_existing=again)
    assert long.stops() == []


@pytest.mark.parametrize("code", [-4115, -4116])
def test_a_duplicate_of_an_order_that_waits_is_that_order(long: Bench, code: int) -> None:
    (first,) = long.venue.place_protection(wanted(take_profit_price=None))
    body = f'{{"code":{code},"msg":"ClientOrderId is duplicated."}}'
    long.misbehave({"kind": "status", "status": 400, "path": long.simulated.stop_path, "method": "POST", "body": body})
    assert long.venue.place_protection(wanted(take_profit_price=None)) == (first,)


@pytest.mark.parametrize("told", ["1E+400", "1E+30", "1_0", "\u0661", "NaN", "Infinity", "", None, True, [], "9" * 70])
@pytest.mark.parametrize("column", ["qty", "price", "commission"])
def test_a_trade_with_a_figure_that_is_none_is_an_error(long: Bench, column: str, told: object) -> None:
    long.misbehave({"kind": "edit", "path": "/userTrades", "replace": {f"0.{column}": told}})
    with pytest.raises(UpstreamUnavailable):
        long.venue.fetch_trades("BTCUSDT", after_id=0)


@pytest.mark.parametrize("column", ["id", "time"])
def test_a_trade_with_a_number_or_a_time_beyond_any_is_an_error(long: Bench, column: str) -> None:
    long.misbehave({"kind": "edit", "path": "/userTrades", "replace": {f"0.{column}": 10**19}})
    with pytest.raises(UpstreamUnavailable):
        long.venue.fetch_trades("BTCUSDT", after_id=0)


def test_a_position_of_a_quantity_that_is_none_is_an_error(long: Bench) -> None:
    rows = [{"symbol": "BTCUSDT", "positionAmt": "1E+400", "entryPrice": "1", "positionSide": "BOTH"}]
    long.misbehave({"kind": "status", "status": 200, "path": "/positionRisk", "body": json.dumps(rows)})
    with pytest.raises(UpstreamUnavailable):
        long.venue.fetch_positions("BTCUSDT")


def test_a_forced_order_without_an_average_has_the_price_of_its_cost(long: Bench) -> None:
    happen(long, liquidate="BTCUSDT")
    long.misbehave({"kind": "edit", "path": "/forceOrders", "replace": {"0.avgPrice": "0"}, "times": None})
    (forced,) = long.venue.fetch_forced_orders("BTCUSDT", long.exchange.clock.now_ms() - DAY_MS)
    (_, trade) = long.venue.fetch_trades("BTCUSDT", after_id=0)
    assert (forced.price, forced.quantity) == (trade.price, trade.quantity)


def test_a_record_from_long_ago_is_read_as_far_back_as_the_venue_answers(long: Bench) -> None:
    """The venues' clock goes on between two questions."""
    happen(long, liquidate="BTCUSDT")
    kept = long.exchange.clock.now_ms
    long.exchange.clock.now_ms = lambda: kept() + _ticks(long)  # type: ignore[method-assign]
    long_ago = kept() - 200 * DAY_MS
    assert len(long.venue.fetch_trades("BTCUSDT", since_ms=long_ago)) == 2
    assert len(long.venue.fetch_trades("BTCUSDT")) == 2
    assert len(long.venue.fetch_forced_orders("BTCUSDT", long_ago)) == 1
    assert len(long.venue.fetch_income("BTCUSDT", long_ago)) >= 3


def _ticks(bench: Bench) -> int:
    bench.hands.now += 0.001
    return 0


def test_a_trade_of_the_account_with_itself_is_told_on_both_sides(long: Bench) -> None:
    happen(long, self_trade={"symbol": "BTCUSDT", "quantity": "0.001"})
    happen(long, close="BTCUSDT")
    day_before = long.exchange.clock.now_ms() - DAY_MS
    for told in (
        long.venue.fetch_trades("BTCUSDT", since_ms=day_before),
        long.venue.fetch_trades("BTCUSDT", after_id=0),
    ):
        assert [each.signed_quantity for each in told] == [
            Decimal(each) for each in ("0.01", "0.001", "-0.001", "-0.01")
        ]
        assert told[1].trade_id == told[2].trade_id
        assert sum(each.signed_quantity for each in told) == 0


@pytest.mark.parametrize("code", [-4192, -1109, -4411])
def test_a_refusal_for_the_account_is_no_refusal_of_its_keys(bench: Bench, code: int) -> None:
    body = f'{{"code":{code},"msg":"The reason why."}}'
    bench.misbehave({"kind": "status", "status": 400, "path": "/order", "method": "POST", "body": body})
    with pytest.raises(OrderRejected, match=r"The reason why\. \(-\d+\): ") as caught:
        bench.venue.place_market_order(order())
    assert caught.value.kind == "account"
