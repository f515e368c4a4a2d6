"""Symbols whose prices have eleven places: what a trade costs is spread, fees and slippage, on paper and live."""

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from engine.domain.market import Candle
from simulator.market.candles import MINUTE_MS, FileSeries
from simulator.market.market import Market, MarketClock
from simulator.venue.venue import SimulatedVenue
from simulator.venue.weight_meter import WeightMeter
from tests.support.factories.markets import START_MS

from .conftest import Floor

PRICES = {"TINYUSDT": 4.567e-8, "DUSTUSDT": 1.23e-9}
DECIMALS = 11
SYMBOLS = tuple(PRICES)


def flat(price: float) -> FileSeries:
    opens = [START_MS + i * MINUTE_MS for i in range(200)]
    return FileSeries([Candle(at_ms, price, price, price, price, 1e9) for at_ms in opens], DECIMALS)


@pytest.fixture
def make_exchange() -> Callable[..., SimulatedVenue]:
    """A venue that lists both symbols beside the usual one."""

    def made(markets: dict[str, Market], clock: MarketClock, meter: WeightMeter) -> SimulatedVenue:
        tiny = {symbol: Market(flat(price)) for symbol, price in PRICES.items()}
        return SimulatedVenue(markets | tiny, clock, meter=meter)

    return made


@pytest.fixture(autouse=True)
def wide_limits(floor: Floor) -> None:
    """One tick on each side of a price of 123 ticks is a spread of 1.6 %, more than the default allows."""
    floor.sql(
        "insert into trade_settings_exchange (user_id, exchange, max_spread_percent) values (%s, %s, 5)",
        floor.user_id,
        floor.simulated.name,
    )


def wallet(floor: Floor) -> Decimal:
    (account,) = floor.exchange._accounts.values()
    return account.balance


def cash(floor: Floor, *, is_paper: bool) -> Fraction:
    """What an account has that paid and received every fill of the book."""
    rows = floor.sql("select kind, side, quantity, price, fee_usd from fills where is_paper = %s", is_paper)
    total = Fraction(0)
    for kind, side, quantity, price, fee in rows:
        pays = (kind == "open") is (side == "LONG")
        total += (-1 if pays else 1) * Fraction(quantity) * Fraction(price) - Fraction(fee)
    return total


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("action", ["buy", "sell"])
def test_an_immediate_round_trip_live_costs_what_the_venue_took(floor: Floor, symbol: str, action: str) -> None:
    opened = floor.send(symbol=symbol, action=action, size=100)
    closed = floor.send(symbol=symbol, action="close")

    assert (opened.get("action"), closed.get("action")) == ("opened", "closed"), (opened, closed)
    (trade,) = floor.store.list_trades()
    assert trade.pnl_usd == wallet(floor) - 10_000
    assert -Decimal("2.5") < trade.pnl_usd < 0
    assert closed["pnl"]["usd"] == float(round(trade.pnl_usd, 2))
    there = sorted((str(f.order.order_id), f.quantity, f.price, f.commission) for f in account_fills(floor))
    assert floor.fills() == there


def account_fills(floor: Floor) -> list[Any]:
    (account,) = floor.exchange._accounts.values()
    return account.fills


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_an_immediate_round_trip_on_paper_costs_spread_fees_and_slippage_only(floor: Floor, symbol: str) -> None:
    opened = floor.send(symbol=symbol, size=100, environment="paper", stop_loss_percent=5, take_profit_percent=5)
    (held,) = floor.store.list_open_positions()
    closed = floor.send(symbol=symbol, action="close", environment="paper")

    assert (opened.get("action"), closed.get("action")) == ("opened", "closed"), (opened, closed)
    (trade,) = floor.store.list_trades()
    assert Fraction(trade.pnl_usd or 0) == cash(floor, is_paper=True)
    bid, ask = floor.exchange.markets[symbol].get_bid_ask(floor.exchange.clock.now_ms())
    tick = Decimal("0.00000000001")
    # Slippage goes on to the next tick, so it costs up to a tick and its percents, there and back.
    dearest = Decimal(f"{ask:.11f}") * Decimal("1.0002") + tick
    cheapest = Decimal(f"{bid:.11f}") * Decimal("0.9998") - tick
    assert cheapest <= (trade.exit_price or 0) < trade.entry_price <= dearest
    assert held.stop_loss_price is not None
    assert held.take_profit_price is not None
    assert {held.stop_loss_price % tick, held.take_profit_price % tick} == {0}
    assert held.entry_price * Decimal("0.95") <= held.stop_loss_price < held.entry_price < held.take_profit_price


def test_protective_orders_wait_at_the_tick_and_a_stop_that_fires_is_booked_at_its_price(floor: Floor) -> None:
    opened = floor.send(symbol="TINYUSDT", size=100, stop_loss_percent=5, take_profit_percent=5)
    assert opened.get("action") == "opened", opened
    (held,) = floor.store.list_open_positions()
    waiting = {order.price for order in floor.account.fetch_open_orders("TINYUSDT")}
    assert waiting == {held.stop_loss_price, held.take_profit_price}

    floor.direct(symbol="TINYUSDT", jump_percent=-10)
    floor.server.protection_watchdog.run()

    (trade,) = floor.store.list_trades()
    assert (trade.exit_reason, trade.pnl_usd) == ("stop_loss", wallet(floor) - 10_000)


def test_an_average_that_the_venue_rounds_is_not_what_is_booked(floor: Floor) -> None:
    rounded = {"avgPrice": "0.00000005", "cumQuote": "100"}
    floor.misbehave({"kind": "edit", "path": "/order", "method": "POST", "replace": rounded})

    floor.send(symbol="TINYUSDT", size=100)

    (fill,) = account_fills(floor)
    assert [(row[1], row[2]) for row in floor.fills()] == [(fill.quantity, fill.price)]


def test_a_limit_order_below_a_hundred_millionth_is_taken(floor: Floor) -> None:
    beyond = floor.send(symbol="DUSTUSDT", size=100, order_type="LIMIT", price="0.000000001")
    within = floor.send(symbol="DUSTUSDT", size=100, order_type="LIMIT", price="0.00000000125")

    assert (beyond.get("action"), within.get("action")) == ("skipped", "opened"), (beyond, within)
    assert beyond["reason"].endswith("the limit price 0.000000001")


def test_numbers_of_more_digits_than_a_double_holds_are_read_as_the_venue_wrote_them(floor: Floor) -> None:
    price = "0.000000045671234567890123456"
    assert floor.account.fetch_instrument("TINYUSDT").tick == Decimal("0.00000000001")
    floor.misbehave({"kind": "edit", "path": "/ticker/24hr", "replace": {"lastPrice": price}})

    assert floor.account.fetch_quote("TINYUSDT").last == Decimal(price)
