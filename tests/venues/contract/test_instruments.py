"""Instruments that are true now: dated contracts, filters and statuses that change, symbols that vanish or are new."""

import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from engine.domain.errors import OrderOutcomeUnknown, OrderRejected, StrategyFault
from engine.platform.errors import SparkyError, UpstreamUnavailable
from engine.venues.ccxt_client.request_weight import RequestWeightLimiter
from engine.venues.instrument import GONE
from engine.venues.market_data.client import MarketData
from engine.venues.orders import OrderRequest, OrderStatus, build_client_order_id
from engine.venues.paper import PaperVenue
from tests.venues.contract.conftest import TIMEOUT_S, Bench, wanted
from tests.venues.contract.conftest import order as plain_order

DATED = {"symbol": "BTCUSDT_261225", "like": "BTCUSDT", "jump_percent": 5}
FOREIGN = "币安人生USDT"


def change(bench: Bench, symbol: str | None = "BTCUSDT", **wish: Any) -> None:
    """What the venue lists from now on; see `simulator.control.instrument_control`."""
    told = httpx.post(f"{bench.url}/_control/instruments", json={"symbol": symbol, **wish}, timeout=30)
    assert told.status_code == 200, told.text


@pytest.fixture
def market(bench: Bench) -> Iterator[MarketData]:
    """The market data of the same venue, which knows what the account knows of its instruments."""
    data = MarketData(bench.simulated.name, bench.url, TIMEOUT_S, bench.backoff)
    yield data
    data.close()


@pytest.fixture
def apart(bench: Bench) -> Iterator[MarketData]:
    """Market data of another process."""
    data = MarketData(bench.simulated.name, bench.url, TIMEOUT_S, RequestWeightLimiter(bench.hands))
    yield data
    data.close()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline, "it did not come true"
        threading.Event().wait(0.02)


def order(name: str = "1", quantity: str = "0.01", **more: Any) -> OrderRequest:
    """An entry, unless it is to reduce only."""
    return plain_order(name, quantity, **{"leverage": 1, **more})


def is_filled(bench: Bench, name: str, quantity: str, **more: Any) -> Decimal:
    result = bench.venue.place_market_order(order(name, quantity, **more))
    assert result.status is OrderStatus.FILLED
    return result.quantity


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("contract_type", ["CURRENT_QUARTER", "", None, "PERPETUAL"])
def test_a_dated_contract_beside_the_perpetual_is_never_traded(
    bench: Bench, market: MarketData, *, first: bool, contract_type: str | None
) -> None:
    change(bench, None, list=DATED | {"contract_type": contract_type, "first": first})
    assert bench.venue.place_market_order(order()).price == Decimal("28001.4")
    assert market.fetch_ticker("BTCUSDT").last == 28_000
    assert market.fetch_quote("BTCUSDT").ask == Decimal("28001.4")
    assert market.fetch_candles("BTCUSDT", "1m", 3).candles[-1].close == 28_000
    with pytest.raises(StrategyFault):
        market.fetch_instrument("BTCUSDT_261225")


@pytest.mark.parametrize("contract_type", ["", None, "TRADIFI_PERPETUAL", "PERPETUAL_DELIVERING"])
def test_a_perpetual_is_one_whatever_the_venue_calls_its_kind(bench: Bench, contract_type: str | None) -> None:
    change(bench, contract_type=contract_type)
    assert is_filled(bench, "1", "0.01") == Decimal("0.01")


def test_what_is_told_of_another_symbol_is_no_answer(bench: Bench, market: MarketData) -> None:
    other = {"kind": "edit", "replace": {"symbol": "BTCUSDT_261225"}}
    bench.misbehave(other | {"path": "/ticker/24hr"})
    with pytest.raises(UpstreamUnavailable, match="BTCUSDT_261225"):
        market.fetch_ticker("BTCUSDT")
    bench.misbehave(other | {"path": "/order", "method": "POST"})
    with pytest.raises(OrderOutcomeUnknown, match="BTCUSDT_261225"):
        bench.venue.place_market_order(order())
    bench.misbehave(other | {"path": "/order", "method": "GET"})
    with pytest.raises(UpstreamUnavailable, match="BTCUSDT_261225"):
        bench.venue.find_order("BTCUSDT", build_client_order_id("1"))
    bench.misbehave(other | {"path": "/depth", "replace": {"symbol": "ETHUSDT"}})
    with pytest.raises(UpstreamUnavailable, match="ETHUSDT"):
        market.fetch_quote("BTCUSDT")


def test_positions_and_orders_in_dated_contracts_keep_none_from_being_read(long: Bench) -> None:
    bench = long
    change(bench, None, list=DATED | {"contract_type": "CURRENT_QUARTER"})
    by_hand = {"symbol": "BTCUSDT_261225", "side": "BUY", "quantity": "0.02"}
    httpx.post(f"{bench.url}/_control/account", json={"trade": by_hand}, timeout=30).raise_for_status()
    held = {each.symbol: each.net for each in bench.venue.fetch_positions()}
    assert held == {"BTCUSDT": Decimal("0.01"), "BTCUSDT_261225": Decimal("0.02")}
    (user,) = bench.exchange.list_users()
    given = {"symbol": "BTCUSDT_261225", "side": "BUY", "type": "LIMIT", "quantity": "0.01", "price": "20000"}
    bench.exchange.place_order(user, given)
    assert [each.symbol for each in bench.venue.fetch_open_orders()] == ["BTCUSDT_261225"]
    assert bench.venue.fetch_open_orders("BTCUSDT") == ()


def test_an_exit_is_floored_again_when_the_step_has_grown(bench: Bench) -> None:
    is_filled(bench, "entry", "0.066")
    change(bench, step="0.01")
    assert is_filled(bench, "exit", "0.066", is_buy=False, reduce_only=True) == Decimal("0.06")
    assert bench.venue.find_order("BTCUSDT", build_client_order_id("exit")) is not None
    assert bench.net() == Decimal("0.006")
    assert bench.venue.fetch_instrument("BTCUSDT").lot == Decimal("0.01")


@pytest.mark.parametrize("code", [0, -1013, -1111, -4003])
def test_an_entry_is_floored_again_whatever_code_tells_it(bench: Bench, code: int) -> None:
    is_filled(bench, "entry", "0.01")
    change(bench, step="0.01", refused_with=code)
    assert is_filled(bench, "2", "0.017") == Decimal("0.01")


def test_a_stop_is_placed_on_the_tick_of_now(long: Bench) -> None:
    change(long, tick="1", step="0.002")
    stop, target = long.venue.place_protection(
        wanted(stop_loss_price=Decimal("27000.3"), take_profit_price=Decimal("28250.3"))
    )
    assert {each.price for each in long.venue.fetch_open_orders("BTCUSDT")} == {Decimal(27_001), Decimal(28_250)}
    assert (stop.status, target.status) == (OrderStatus.OPEN, OrderStatus.OPEN)


def test_market_orders_have_sizes_of_their_own(bench: Bench) -> None:
    change(
        bench,
        market_lot={"step": "0.002", "min_quantity": "0.004", "max_quantity": "0.05"},
        lot={"max_quantity": "100"},
    )
    instrument = bench.venue.fetch_instrument("BTCUSDT")
    assert (instrument.lot, instrument.min_quantity, instrument.max_quantity) == (
        Decimal("0.002"),
        Decimal("0.004"),
        Decimal("0.05"),
    )
    assert instrument.limit is not None
    assert (instrument.limit.step, instrument.limit.max_quantity) == (Decimal("0.001"), Decimal(100))
    assert is_filled(bench, "1", "0.0075") == Decimal("0.006")
    limited = bench.venue.place_limit_order(order("2", "0.055"), Decimal(28_100))
    assert limited.quantity == Decimal("0.055")


def test_a_market_step_of_zero_is_that_of_limit_orders(bench: Bench) -> None:
    change(bench, market_lot={"step": "0", "min_quantity": "0", "max_quantity": "0"})
    instrument = bench.venue.fetch_instrument("BTCUSDT")
    assert (instrument.lot, instrument.min_quantity) == (Decimal("0.001"), Decimal("0.001"))
    assert instrument.max_quantity == Decimal(1_000_000)


def test_both_steps_count_where_neither_holds_the_other(bench: Bench) -> None:
    change(bench, lot={"step": "0.002", "min_quantity": "0.002"}, market_lot={"step": "0.003", "min_quantity": "0.003"})
    assert bench.venue.fetch_instrument("BTCUSDT").lot == Decimal("0.006")
    assert is_filled(bench, "1", "0.02") == Decimal("0.018")


def test_what_the_venue_asks_as_margin_is_known(bench: Bench) -> None:
    change(bench, maintenance_percent="4")
    assert bench.venue.fetch_instrument("BTCUSDT").maintenance_rate == Decimal("0.04")


def test_a_symbol_that_is_not_traded_is_not_entered_and_is_left(long: Bench, market: MarketData) -> None:
    change(long, status="SETTLING")
    with pytest.raises(OrderRejected, match="SETTLING") as refused:
        long.venue.place_market_order(order("2"))
    assert refused.value.kind == "filter"
    assert market.fetch_instrument("BTCUSDT").status == "SETTLING"
    assert is_filled(long, "exit", "0.01", is_buy=False, reduce_only=True) == Decimal("0.01")


def test_a_symbol_that_is_traded_again_is_entered_within_a_minute(bench: Bench, market: MarketData) -> None:
    change(bench, status="BREAK")
    paper = PaperVenue(market, Decimal(0), Decimal(0))
    for venue in (bench.venue, paper):
        with pytest.raises(OrderRejected, match="BREAK"):
            venue.place_market_order(order())
    change(bench, status="TRADING")
    bench.hands.now += 61
    for venue in (bench.venue, paper):
        assert venue.place_market_order(order()).status is OrderStatus.FILLED


def test_a_symbol_that_vanished_is_gone_and_what_it_did_can_be_read(long: Bench, market: MarketData) -> None:
    market.fetch_instrument("BTCUSDT")
    change(long, None, list={"symbol": "ETHUSDT", "like": "BTCUSDT"})
    is_filled(long, "eth", "0.02", symbol="ETHUSDT")
    change(long, remove="trades")
    with pytest.raises(SparkyError):
        market.fetch_quote("BTCUSDT")
    for known in (market.fetch_instrument("BTCUSDT"), long.venue.fetch_instrument("BTCUSDT")):
        assert (known.status, known.is_trading) == (GONE, False)
    with pytest.raises(OrderRejected, match="GONE"):
        long.venue.place_market_order(order("2"))
    assert [each.quantity for each in long.venue.fetch_trades("BTCUSDT")] == [Decimal("0.01")] * 2
    for trade in long.venue.fetch_trades("BTCUSDT"):
        assert long.venue.find_client_order_id("BTCUSDT", trade.order_id) is not None
    assert {row.kind for row in long.venue.fetch_income("BTCUSDT", 0)} == {"COMMISSION", "REALIZED_PNL"}
    assert long.venue.fetch_forced_orders("BTCUSDT", 0) == ()
    assert [each.symbol for each in long.venue.fetch_positions()] == ["ETHUSDT"]
    assert long.venue.fetch_positions("BTCUSDT") == ()
    assert long.venue.fetch_open_orders("BTCUSDT") == ()


def test_the_record_of_a_symbol_that_this_process_never_saw_listed_can_be_read(long: Bench) -> None:
    change(long, None, list={"symbol": "ETHUSDT", "like": "BTCUSDT"})
    change(long, remove="trades")
    fresh = long.another()
    assert len(fresh.fetch_trades("BTCUSDT")) == 2
    assert fresh.fetch_positions("BTCUSDT") == ()
    assert fresh.fetch_open_orders("BTCUSDT") == ()
    with pytest.raises(StrategyFault):
        fresh.fetch_instrument("BTCUSDT")
    fresh.close()


def test_a_new_symbol_is_found_when_it_is_asked_for(long: Bench, market: MarketData) -> None:
    assert market.fetch_ticker("BTCUSDT").last == 28_000
    change(long, None, list={"symbol": "NEWUSDT", "like": "BTCUSDT"})
    assert market.fetch_ticker("NEWUSDT").last == 28_000
    assert is_filled(long, "2", "0.01", symbol="NEWUSDT") == Decimal("0.01")


def test_a_symbol_that_is_never_listed_asks_once_a_minute(long: Bench, market: MarketData) -> None:
    for _ in range(5):
        with pytest.raises(StrategyFault):
            market.fetch_ticker("NEWUSDT")
    used = long.direct()["weight_used"]
    with pytest.raises(StrategyFault):
        market.fetch_ticker("NEWUSDT")
    assert long.direct()["weight_used"] == used


@pytest.mark.parametrize("name", [FOREIGN, "1000PEPEUSDT"])
def test_any_name_is_traded(bench: Bench, market: MarketData, name: str) -> None:
    change(bench, None, list={"symbol": name, "like": "BTCUSDT"})
    assert market.fetch_ticker(name).last == 28_000
    assert market.fetch_quote(name).ask == Decimal("28001.4")
    assert market.fetch_candles(name, "1m", 3).candles[-1].close == 28_000
    assert is_filled(bench, "1", "0.01", symbol=name, leverage=3) == Decimal("0.01")
    placed = bench.venue.place_protection(wanted(symbol=name))
    assert len(placed) == 2
    assert {each.symbol for each in bench.venue.fetch_open_orders(name)} == {name}
    assert {each.symbol for each in bench.venue.fetch_open_orders()} == {name}
    assert [each.symbol for each in bench.venue.fetch_positions(name)] == [name]
    assert len(bench.venue.fetch_trades(name)) == 1
    for each in placed:
        bench.venue.cancel_order(name, each.client_order_id)
    assert bench.venue.fetch_open_orders(name) == ()
    assert is_filled(bench, "2", "0.01", symbol=name, is_buy=False, reduce_only=True) == Decimal("0.01")


def test_what_is_listed_is_read_anew_every_hour_beside_what_is_asked(long: Bench, market: MarketData) -> None:
    assert market.fetch_instrument("BTCUSDT").tick == Decimal("0.1")
    change(long, tick="0.5")
    assert market.fetch_instrument("BTCUSDT").tick == Decimal("0.1")
    long.hands.now += 2 * 3_600
    until(lambda: market.fetch_instrument("BTCUSDT").tick == Decimal("0.5"))
    assert long.venue.fetch_instrument("BTCUSDT").tick == Decimal("0.5")


def test_a_list_that_cannot_be_read_again_leaves_the_old_one_and_no_exit_waits(long: Bench, market: MarketData) -> None:
    market.fetch_instrument("BTCUSDT")
    change(long, tick="0.5")
    long.hands.now += 2 * 3_600
    long.misbehave({"kind": "status", "path": "/exchangeInfo", "status": 500, "times": None})
    assert is_filled(long, "exit", "0.01", is_buy=False, reduce_only=True) == Decimal("0.01")
    assert market.fetch_instrument("BTCUSDT").tick == Decimal("0.1")
    long.misbehave()
    until(lambda: _after_a_minute(long, market) == Decimal("0.5"))


def _after_a_minute(bench: Bench, market: MarketData) -> Decimal:
    bench.hands.now += 61
    return market.fetch_instrument("BTCUSDT").tick


REFUSALS: dict[str, tuple[dict[str, Any], dict[str, Any], str | None, str]] = {
    # what the venue lists; the order; its limit; what the answer says
    "status": ({"status": "BREAK"}, {}, None, "BREAK"),
    "least": ({"step": "0.01"}, {"quantity": "0.004"}, None, "below the minimum of 0.01"),
    "most": ({"market_lot": {"max_quantity": "0.05"}}, {"quantity": "0.06"}, None, "above the maximum of 0.05"),
    "most of a limit": ({"lot": {"max_quantity": "0.05"}}, {"quantity": "0.06"}, "28100", "above the maximum of 0.05"),
    "notional": ({"min_notional": "500"}, {"quantity": "0.01"}, None, "below the minimum of 500"),
    "notional of a limit": ({"min_notional": "500"}, {"quantity": "0.01"}, "28100", "below the minimum of 500"),
    "tick": ({}, {"quantity": "0.01"}, "0.04", "below the tick of 0.1"),
    "highest limit": ({"multiplier_up": "1.05"}, {"quantity": "0.01"}, "30000", "above 1.05 times the mark price"),
    "lowest limit": (
        {"multiplier_down": "0.95"},
        {"quantity": "0.01", "is_buy": False},
        "20000",
        "below 0.95 times the mark price",
    ),
    "market beyond the band": ({"multiplier_up": "1.00001"}, {"quantity": "0.01"}, None, "above 1.00001 times the"),
    "reduction below the least": (
        {"step": "0.01"},
        {"quantity": "0.004", "is_buy": False, "reduce_only": True},
        None,
        "below the minimum of 0.01",
    ),
}


@pytest.mark.parametrize("is_known", [True, False], ids=["known", "changed"])
@pytest.mark.parametrize("case", REFUSALS)
def test_paper_and_live_give_the_same_answer_to_an_order_that_a_filter_refuses(
    long: Bench, apart: MarketData, case: str, *, is_known: bool
) -> None:
    wish, given, limit, words = REFUSALS[case]
    change(long, **wish)
    live = long.another() if is_known else long.venue
    told = [refusal(live, given, limit), refusal(PaperVenue(apart, Decimal(0), Decimal(0)), given, limit)]
    assert told[0] == told[1]
    assert told[0][0] == "filter"
    assert words in told[0][1]
    if is_known:
        live.close()


def refusal(venue: Any, given: dict[str, Any], limit: str | None) -> tuple[str, str]:
    wanted_order = order("9", **{"quantity": "0.01", **given})
    with pytest.raises(OrderRejected) as refused:
        venue.place_market_order(wanted_order) if limit is None else venue.place_limit_order(
            wanted_order, Decimal(limit)
        )
    return refused.value.kind, str(refused.value)
