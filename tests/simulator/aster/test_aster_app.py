"""The stand-in for Aster through ccxt and by hand: orders that wait, and books that add up."""

from decimal import Decimal
from typing import Any

import ccxt
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.venue import trading_account as ledger
from simulator.venue.api_error import VenueApiError
from simulator.venue.venue import SimulatedVenue
from tests.support.factories.signing import KEY, refused, signed

SYMBOL = "BTC/USDT:USDT"


@pytest.fixture
def trader(aster_url: str) -> Any:
    """Plain ccxt, as anybody would use it, but for the address and the builder fee."""
    client = ccxt.aster({"privateKey": KEY, "enableRateLimit": False, "options": {"defaultType": "swap"}})
    client.options["builderFee"] = False
    client.has["fetchCurrencies"] = False
    client.urls["api"] = dict.fromkeys(client.urls["api"], f"{aster_url}/fapi")
    client.set_markets(client.parse_markets(client.fapiPublicGetV3ExchangeInfo()["symbols"]))
    return client


def test_ccxt_trades_and_its_position_balance_and_trades_agree(trader: Any) -> None:
    trader.set_leverage(10, SYMBOL)
    trader.create_order(SYMBOL, "market", "buy", 0.02, None, {"clientOrderId": "one"})
    (position,) = trader.fetch_positions([SYMBOL])
    assert (position["side"], position["contracts"], position["leverage"]) == ("long", 0.02, 10)
    assert position["entryPrice"] == 28_001.4
    (fill,) = trader.fetch_my_trades(SYMBOL)
    assert fill["fee"] == {"cost": pytest.approx(0.02 * 28_001.4 * 0.0004), "currency": "USDT"}
    assert trader.fetch_balance()["USDT"]["total"] == pytest.approx(10_000 - fill["fee"]["cost"])
    trader.create_order(SYMBOL, "market", "sell", 0.05, None, {"reduceOnly": "true"})
    assert trader.fetch_positions([SYMBOL]) == []


def test_a_market_order_is_only_acknowledged_until_it_is_asked_for(trader: Any) -> None:
    sent = trader.create_order(SYMBOL, "market", "buy", 0.01, None, {"clientOrderId": "one"})
    assert (sent["status"], sent["filled"]) == ("open", 0)
    found = trader.fetch_order(None, SYMBOL, {"clientOrderId": "one"})
    assert (found["status"], found["average"]) == ("closed", 28_001.4)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (("market", "buy", 0.01, None, {"clientOrderId": "x" * 37}), ccxt.InvalidOrder),
        (("market", "buy", 10.0, None, {}), ccxt.InsufficientFunds),
        (("market", "sell", 0.01, None, {"reduceOnly": "true"}), ccxt.OperationRejected),
        (("market", "sell", 0.01, None, {"stopLossPrice": 28_500}), ccxt.OrderImmediatelyFillable),
        (("limit", "buy", 0.001, 100, {}), None),
    ],
)
def test_orders_are_refused_with_asters_codes(
    trader: Any, given: tuple[Any, ...], kind: type[Exception] | None
) -> None:
    if kind is None:
        assert trader.create_order(SYMBOL, *given)["status"] == "open"
        return
    with pytest.raises(kind):
        trader.create_order(SYMBOL, *given)
    assert trader.fetch_open_orders(SYMBOL) == []


def test_a_client_order_id_is_unique_among_open_orders(trader: Any) -> None:
    trader.create_order(SYMBOL, "limit", "buy", 0.01, 27_000, {"clientOrderId": "one"})
    with pytest.raises(ccxt.DuplicateOrderId):
        trader.create_order(SYMBOL, "limit", "buy", 0.01, 27_000, {"clientOrderId": "one"})
    trader.cancel_order(None, SYMBOL, {"clientOrderId": "one"})
    with pytest.raises(ccxt.OrderNotFound):
        trader.cancel_order(None, SYMBOL, {"clientOrderId": "one"})
    trader.create_order(SYMBOL, "limit", "buy", 0.01, 27_000, {"clientOrderId": "one"})


def test_stops_and_profits_wait_for_their_price_and_then_close_the_position(trader: Any, hands: Any) -> None:
    trader.create_order(SYMBOL, "market", "buy", 0.01)
    stop = trader.create_order(SYMBOL, "market", "sell", 0.01, None, {"stopLossPrice": 27_000, "reduceOnly": "true"})
    profit = trader.create_order(
        SYMBOL, "market", "sell", 0.01, None, {"takeProfitPrice": 28_250, "reduceOnly": "true"}
    )
    hands.now = 60.0 * 6
    assert {order["id"] for order in trader.fetch_open_orders(SYMBOL)} == {stop["id"], profit["id"]}
    hands.now = 60.0 * 10
    assert [order["id"] for order in trader.fetch_open_orders(SYMBOL)] == [stop["id"]]
    closed = trader.fetch_order(profit["id"], SYMBOL)
    assert (closed["status"], closed["average"]) == ("closed", 28_250)
    assert trader.fetch_positions([SYMBOL]) == []
    trader.cancel_all_orders(SYMBOL)
    assert trader.fetch_open_orders(SYMBOL) == []


def test_the_first_level_that_the_market_reaches_wins_also_within_a_minute(trader: Any, hands: Any) -> None:
    """Rising from 28,000 to 28,100 in minute 110: the nearer target fills, the farther one then finds nothing."""
    hands.now = 60.0 * 4.5
    trader.create_order(SYMBOL, "market", "buy", 0.01)
    far, near = (
        trader.create_order(SYMBOL, "market", "sell", 0.01, None, {"takeProfitPrice": price, "reduceOnly": "true"})
        for price in (28_090, 28_050)
    )
    hands.now = 60.0 * 6
    filled = trader.fetch_order(near["id"], SYMBOL)
    assert (filled["status"], filled["average"]) == ("closed", 28_050)
    assert trader.fetch_order(far["id"], SYMBOL)["info"]["status"] == "EXPIRED"
    (_, exit_fill) = trader.fetch_my_trades(SYMBOL)
    assert exit_fill["timestamp"] == 1_700_000_040_000 + 110 * 60_000 + 30_000


def test_what_the_market_did_before_an_order_came_does_not_trigger_it(trader: Any, hands: Any) -> None:
    hands.now = 60.0 * 5.9  # the minute has been at 28,000 and is at 28,090 now
    trader.create_order(SYMBOL, "market", "buy", 0.01)
    trader.create_order(SYMBOL, "market", "sell", 0.01, None, {"stopLossPrice": 28_040, "reduceOnly": "true"})
    hands.now = 60.0 * 6
    assert len(trader.fetch_open_orders(SYMBOL)) == 1


def test_an_immediate_order_that_does_not_fill_expires(trader: Any) -> None:
    sent = trader.create_order(SYMBOL, "limit", "buy", 0.01, 28_000, {"timeInForce": "IOC"})
    ended = trader.fetch_order(sent["id"], SYMBOL)
    assert (ended["info"]["status"], ended["timeInForce"], ended["filled"]) == ("EXPIRED", "IOC", 0)
    assert trader.fetch_open_orders(SYMBOL) == []
    filled = trader.create_order(SYMBOL, "limit", "buy", 0.01, 28_500, {"timeInForce": "IOC", "clientOrderId": "b"})
    assert trader.fetch_order(filled["id"], SYMBOL)["average"] == 28_001.4


def test_the_rest_of_the_account_is_told_as_aster_tells_it(trader: Any) -> None:
    trader.create_order(SYMBOL, "limit", "buy", 0.01, 27_000, {"clientOrderId": "one"})
    assert trader.fetch_open_order(None, SYMBOL, {"clientOrderId": "one"})["price"] == 27_000
    assert [order["clientOrderId"] for order in trader.fetch_orders(SYMBOL)] == ["one"]
    with pytest.raises(ccxt.OperationRejected, match="-4047"):
        trader.set_margin_mode("isolated", SYMBOL)
    trader.cancel_all_orders(SYMBOL)
    trader.set_margin_mode("isolated", SYMBOL)
    with pytest.raises(ccxt.NoChange):
        trader.set_margin_mode("isolated", SYMBOL)
    assert trader.fetch_position_mode(SYMBOL)["hedged"] is False
    assert trader.fetch_trading_fee(SYMBOL)["taker"] == 0.0004
    assert trader.fapiPrivateGetV3Account()["assets"][0]["availableBalance"] == "10000"
    with pytest.raises(ccxt.BadRequest):
        trader.set_leverage(125.5, SYMBOL)
    with pytest.raises(ccxt.OrderNotFound):
        trader.fetch_order("77", SYMBOL)


def test_prices_are_told_alike_by_every_ticker(trader: Any) -> None:
    assert trader.fetch_ticker(SYMBOL)["last"] == trader.fetch_last_prices([SYMBOL])[SYMBOL]["price"] == 28_000
    best = trader.fetch_bids_asks([SYMBOL])[SYMBOL]
    book = trader.fetch_order_book(SYMBOL, 5)
    assert (best["bid"], best["ask"]) == (book["bids"][0][0], book["asks"][0][0]) == (27_998.6, 28_001.4)
    assert [level[0] for level in book["asks"]] == [28_001.4, 28_001.5, 28_001.6, 28_001.7, 28_001.8]
    assert trader.fetch_funding_rate(SYMBOL)["markPrice"] == 28_000


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"symbol": "BTCUSDT", "side": "BUY", "type": "ICEBERG", "quantity": "1"}, -1116),
        ({"symbol": "BTCUSDT", "side": "UP", "type": "MARKET", "quantity": "1"}, -1117),
        ({"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET"}, -1102),
        ({"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0"}, -4003),
        ({"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.0005"}, -1111),
        ({"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "quantity": "0.001", "price": "27000.05"}, -1111),
        ({"side": "BUY", "type": "MARKET", "quantity": "1"}, -1102),
        ({"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "1000001"}, -4005),
        (
            {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "quantity": "1", "price": "1", "timeInForce": "X"},
            -1115,
        ),
    ],
)
def test_an_order_that_makes_no_sense_gets_asters_code(aster_url: str, given: dict[str, object], code: int) -> None:
    answer = httpx.post(f"{aster_url}/fapi/v3/order", content=signed(given), timeout=30)
    assert refused(answer) == (400, code)


def test_an_entry_below_the_minimum_notional_is_refused() -> None:
    with pytest.raises(VenueApiError, match="no smaller than 5"):
        ledger.Account().accept(market_order(1, Decimal("0.1"), is_buy=True), Decimal(10), Decimal(10))


def test_market_time_is_simulated_and_stands_still_at_the_end(
    aster_url: str, hands: Any, exchange: SimulatedVenue
) -> None:
    def served() -> int:
        return int(httpx.get(f"{aster_url}/fapi/v3/time", timeout=30).json()["serverTime"])

    before = served()
    hands.now = 30.0
    assert served() == before + 30_000
    hands.now = 1e9
    assert served() == served() == before + 95 * 60_000
    query: dict[str, str | int] = {"symbol": "BTCUSDT", "interval": "1m", "limit": 2}
    klines = httpx.get(f"{aster_url}/fapi/v3/klines", params=query, timeout=30).json()
    assert klines[-1][6] == served() - 1
    assert klines[-1][4] == "37000.0"


@pytest.mark.parametrize(
    ("path", "query", "code"),
    [
        ("/klines", {"symbol": "BTCUSDT", "interval": "7m"}, -1120),
        ("/klines", {"symbol": "NOPE", "interval": "1m"}, -1121),
        ("/klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": "many"}, -1102),
        ("/depth", {}, -1102),
        ("/ticker/24hr", {"symbol": "NOPE"}, -1121),
    ],
)
def test_bad_queries_get_asters_codes(aster_url: str, path: str, query: dict[str, str], code: int) -> None:
    assert refused(httpx.get(f"{aster_url}/fapi/v3{path}", params=query, timeout=30)) == (400, code)


def test_klines_from_a_time_on_are_the_first_ones_after_it(aster_url: str) -> None:
    start = 1_700_000_040_000 + 50 * 60_000
    query: dict[str, str | int] = {"symbol": "BTCUSDT", "interval": "1m", "startTime": start, "limit": 3}
    klines = httpx.get(f"{aster_url}/fapi/v3/klines", params=query, timeout=30).json()
    assert [row[0] for row in klines] == [start, start + 60_000, start + 120_000]


steps = st.lists(st.tuples(st.booleans(), st.integers(1, 50), st.integers(1, 2_000)), max_size=30)


@given(steps)
def test_an_account_equals_a_cash_model_after_any_orders(trades: list[tuple[bool, int, int]]) -> None:
    """Balance plus unrealised profit is what buying and selling cost, fee by fee, to the last digit."""
    account = ledger.Account(balance=Decimal(10**9))
    cash, amount, price = Decimal(10**9), Decimal(0), Decimal(1)
    for number, (is_buy, lots, whole) in enumerate(trades):
        quantity, price = Decimal(lots), Decimal(whole * 10)
        account.accept(market_order(number, quantity, is_buy=is_buy), price, price)
        signed_quantity = quantity if is_buy else -quantity
        cash -= signed_quantity * price + quantity * price * ledger.TAKER_RATE
        amount += signed_quantity
    held = account.get_holding("X")
    assert held.amount == amount
    assert account.balance + held.amount * (price - held.entry_price) == pytest.approx(
        cash + amount * price, rel=Decimal("1e-20")
    )


def market_order(number: int, quantity: Decimal, *, is_buy: bool) -> ledger.Order:
    zero = Decimal(0)
    return ledger.Order(
        order_id=number,
        client_order_id=str(number),
        symbol="X",
        kind="MARKET",
        is_buy=is_buy,
        quantity=quantity,
        reduce_only=False,
        close_position=False,
        price=zero,
        stop_price=zero,
        created_ms=0,
        updated_ms=0,
    )
