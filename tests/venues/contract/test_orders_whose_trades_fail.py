"""An order that the venue says is filled is filled, whatever its list of trades says or does not."""

from decimal import Decimal
from typing import Any

import pytest

from engine.venues.live.order_fees import ASSUMED_TAKER_RATE
from engine.venues.orders import OrderStatus, build_client_order_id
from tests.venues.contract.conftest import STOP, Bench, order, wanted

PRICE = Decimal("28001.4")
RATE = Decimal("0.0004")
FAILURES: dict[str, dict[str, Any]] = {
    "503": {"kind": "status", "status": 503},
    "unknown": {"kind": "status", "status": 400, "body": '{"code":-1000,"msg":"An unknown error occurred."}'},
    "window": {"kind": "status", "status": 400, "body": '{"code":-4166,"msg":"Search window is restricted."}'},
    "rights": {"kind": "status", "status": 401, "body": '{"code":-2015,"msg":"Invalid API-key."}'},
    "too many": {"kind": "status", "status": 429, "headers": {"retry-after": "1"}},
    "reset": {"kind": "reset"},
    "not json": {"kind": "status", "status": 200, "body": "<html>"},
    "other rows": {"kind": "status", "status": 200, "body": '[{"id":1,"orderId":1,"price":null}]'},
    "not shown": {"kind": "status", "status": 200, "body": "[]"},
}


@pytest.mark.parametrize("failure", list(FAILURES))
def test_an_order_is_filled_by_its_own_price_while_its_trades_cannot_be_asked(bench: Bench, failure: str) -> None:
    bench.venue.fetch_instrument("BTCUSDT")
    bench.misbehave(FAILURES[failure] | {"path": "/userTrades", "times": None})
    first = bench.venue.place_market_order(order())
    bench.hands.now += 2
    for told in (first, bench.venue.find_order("BTCUSDT", build_client_order_id("1"))):
        assert told is not None
        assert (told.status, told.price, told.quantity) == (OrderStatus.FILLED, PRICE, Decimal("0.01"))
        # While nothing may be asked, the account's own rate is not known either.
        rate = ASSUMED_TAKER_RATE if failure == "too many" else RATE
        assert told.fee_usd == Decimal("0.01") * PRICE * rate


def test_a_stop_that_fired_is_seen_while_trades_cannot_be_asked(long: Bench) -> None:
    long.venue.place_protection(wanted(take_profit_price=None))
    long.misbehave(FAILURES["503"] | {"path": "/userTrades", "times": None})
    long.direct(jump_percent=-5)
    fired = long.venue.cancel_order("BTCUSDT", STOP)
    assert fired is not None
    assert (fired.status, fired.price, fired.order_id) == (OrderStatus.FILLED, Decimal(26_600), long.number_of(STOP))


def test_a_fee_is_taken_at_binances_rate_where_the_accounts_own_cannot_be_asked_either(bench: Bench) -> None:
    bench.venue.fetch_instrument("BTCUSDT")
    bench.misbehave(*(FAILURES["503"] | {"path": path, "times": None} for path in ("/userTrades", "/commissionRate")))
    assert bench.venue.place_market_order(order()).fee_usd == Decimal("0.01") * PRICE * ASSUMED_TAKER_RATE


def test_the_price_of_an_order_whose_trades_lag_is_its_cost_by_its_quantity(bench: Bench) -> None:
    """The average that venues tell of an order is rounded."""
    bench.venue.fetch_instrument("BTCUSDT")
    bench.misbehave(
        {"kind": "edit", "path": bench.simulated.order_path, "method": "POST", "replace": {"avgPrice": "28000"}},
        FAILURES["not shown"] | {"path": "/userTrades", "times": None},
    )
    assert bench.venue.place_market_order(order()).price == PRICE


def test_the_price_of_an_order_that_paid_in_another_coin_is_that_of_its_trades(bench: Bench) -> None:
    bench.venue.fetch_positions()
    bench.exchange._accounts[bench.exchange.list_users()[0]].fee_coin = "BNB"
    rounded = {"avgPrice": "28000", "cumQuote": "280"}
    bench.misbehave({"kind": "edit", "path": bench.simulated.order_path, "method": "POST", "replace": rounded})
    told = bench.venue.place_market_order(order())
    assert (told.price, told.fee_usd) == (PRICE, Decimal("0.01") * PRICE * RATE)
