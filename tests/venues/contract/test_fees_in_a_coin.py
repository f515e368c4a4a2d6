"""Commissions paid in a coin are booked in dollars at the coin's price when they were paid, whatever order it was."""

from contextlib import closing
from decimal import Decimal
from typing import Any

import httpx
import pytest

from engine.domain.market import Candle
from engine.venues.orders import OrderResult, OrderStatus, build_client_order_id
from simulator.market.candles import MINUTE_MS, FileSeries
from simulator.market.market import Market
from simulator.venue.commissions import DOLLAR
from simulator.venue.trading_account import Account, Fill
from tests.support.factories.markets import START_MS
from tests.venues.contract.conftest import STOP, Bench, order, wanted

CENT = Decimal("0.01")
TAKER = Decimal("0.0004")


def coin_market() -> Market:
    """A coin at 600 that gains 3 dollars in every minute."""
    opens = [600.0 + 3 * step for step in range(300)]
    candles = [
        Candle(START_MS + i * MINUTE_MS, opened, opened + 3, opened, opened + 3, 10.0) for i, opened in enumerate(opens)
    ]
    return Market(FileSeries(candles, decimals=2))


@pytest.fixture
def coin(bench: Bench) -> Bench:
    """An account that pays its commissions in BNB, which the venue lists."""
    bench.exchange.markets["BNBUSDT"] = coin_market()
    bench.hands.now = 20.0
    bench.venue.fetch_positions()
    happens(bench, fee_coin="BNB")
    return bench


def happens(bench: Bench, **event: Any) -> None:
    """What happens to the account; see `simulator.control.account_control`."""
    httpx.post(f"{bench.url}/_control/account", json=event, timeout=30).raise_for_status()


def spoil(bench: Bench, **wishes: Any) -> None:
    """What shall be wrong with candles; see `simulator.control.candle_control`."""
    httpx.post(f"{bench.url}/_control/candles", json=wishes, timeout=30).raise_for_status()


def account(bench: Bench) -> Account:
    (found,) = bench.exchange._accounts.values()
    return found


def worth(bench: Bench, fill: Fill) -> Decimal:
    """What `fill` cost in dollars when it happened."""
    return fill.commission * (1 if fill.asset == DOLLAR else bench.exchange.get_coin_price(fill.asset, fill.at_ms))


def paid(bench: Bench, told: OrderResult) -> Decimal:
    """What all trades of the order cost in dollars when they happened."""
    number = bench.simulated.order_number
    return sum(
        (worth(bench, each) for each in account(bench).fills if str(number(each.order)) == told.order_id), CENT * 0
    )


def test_the_fee_of_an_entry_and_an_exit_is_the_coins_price_at_that_moment(coin: Bench) -> None:
    entry = coin.venue.place_market_order(order("entry", "0.5"))
    coin.hands.now += 25  # in the same minute, at another price of the coin
    end = coin.venue.place_market_order(order("exit", "0.5", is_buy=False, reduce_only=True))
    assert (entry.fee_usd, end.fee_usd) == (paid(coin, entry), paid(coin, end))
    assert entry.fee_usd != end.fee_usd
    assert account(coin).fills[0].asset == "BNB"


def test_an_order_whose_trades_paid_in_different_assets_costs_what_each_paid(coin: Bench) -> None:
    happens(coin, trades_per_order=3)
    happens(coin, fee_coin="BNB", fee_coin_left="0.0001")
    told = coin.venue.place_market_order(order())
    assert [fill.asset for fill in account(coin).fills] == ["BNB", "BNB", "USDT"]
    assert told.fee_usd == paid(coin, told)


def test_the_fee_of_a_stop_that_fired_is_that_of_its_minute(coin: Bench) -> None:
    coin.buy()
    coin.venue.place_protection(wanted(take_profit_price=None))
    coin.direct(symbol="BTCUSDT", jump_percent=-5)
    coin.venue.fetch_positions()
    coin.hands.now += 7 * 60
    fired = coin.venue.find_order("BTCUSDT", STOP)
    assert fired is not None
    assert abs(fired.fee_usd - paid(coin, fired)) < CENT / 10
    assert fired.fee_usd != Decimal("0.01") * fired.price * TAKER


def test_a_minute_that_the_coins_candles_lack_costs_the_last_close_before_it(coin: Bench) -> None:
    coin.buy("entry", "0.01")
    coin.hands.now += 5 * 60
    spoil(coin, symbol="BNBUSDT", missing=[4, 5], repeated=[3], order="newest_first", broken={6: "null"})
    told = coin.venue.find_order("BTCUSDT", build_client_order_id("entry"))
    assert told is not None
    assert abs(told.fee_usd - paid(coin, told)) < CENT


UNPRICED = {
    "not listed": {},
    "refused": {"kind": "status", "status": 400, "body": '{"code":-1121,"msg":"Invalid symbol."}'},
    "away": {"kind": "status", "status": 503},
    "empty": {"kind": "status", "status": 200, "body": "[]"},
    "nonsense": {"kind": "status", "status": 200, "body": '[[1,"x",null,"","0","NaN"],7]'},
    "hangs": {"kind": "hang", "seconds": 120},
}


@pytest.mark.parametrize("failure", list(UNPRICED))
def test_a_coin_without_a_price_costs_the_takers_rate_and_is_in_no_fills_way(bench: Bench, failure: str) -> None:
    if failure != "not listed":
        bench.exchange.markets["BNBUSDT"] = coin_market()
        bench.misbehave(UNPRICED[failure] | {"path": "/klines", "times": None})
    bench.venue.fetch_positions()
    happens(bench, fee_coin="BNB")
    with closing(bench.another(timeout_s=10.0)) as venue:
        for name in ("1", "2"):
            told = venue.place_market_order(order(name))
            assert (told.status, told.fee_usd) == (OrderStatus.FILLED, Decimal("0.01") * told.price * TAKER)


def test_what_failed_is_not_asked_again_for_a_minute_and_then_it_is(coin: Bench) -> None:
    coin.misbehave({"kind": "status", "status": 503, "path": "/klines", "times": 1})
    first = coin.venue.place_market_order(order("1"))
    assert first.fee_usd == Decimal("0.01") * first.price * TAKER
    second = coin.venue.place_market_order(order("2"))
    assert second.fee_usd == Decimal("0.01") * second.price * TAKER
    coin.hands.now += 61
    third = coin.venue.place_market_order(order("3"))
    assert third.fee_usd == paid(coin, third)


def test_the_record_tells_what_was_paid_in_a_coin_and_what_it_was_worth(coin: Bench) -> None:
    coin.buy("entry", "0.1")
    coin.hands.now += 150
    happens(coin, close="BTCUSDT")
    coin.hands.now += 300
    for trade, fill in zip(coin.venue.fetch_trades("BTCUSDT", since_ms=START_MS), account(coin).fills, strict=True):
        assert trade.fee_usd is None
        assert (trade.fee_coin, trade.fee_amount) == ("BNB", fill.commission)
        usd = coin.venue.convert_to_usd(trade.fee_coin or "", trade.fee_amount, trade.at_ms)
        assert usd is not None
        assert abs(usd - worth(coin, fill)) < CENT
    assert coin.venue.convert_to_usd("NOSUCH", Decimal(1), START_MS) is None
    assert coin.venue.convert_to_usd("USDC", Decimal(1), START_MS) == 1
