"""Rows of the record as venues send them: fees, numbers as text, twice, out of order, or not to be read."""

from collections.abc import Callable
from decimal import Decimal

import pytest

from engine.platform.errors import UpstreamUnavailable
from engine.venues.live.ccxt_venue import CcxtVenue
from simulator.venue.venue import SimulatedVenue
from tests.engine.venues.record_scene import BTC, Happens, Misbehave, only_account, trade
from tests.support.factories.markets import START_MS

TRADE = (
    '{"id":%s,"orderId":25,"symbol":"BTCUSDT","side":"SELL","price":"28000.00000000001","qty":"0.0020",'
    '"commission":"%s","commissionAsset":"%s","realizedPnl":"0","maker":%s,"buyer":false,"time":1700006340000}'
)


def answers(misbehave: Misbehave, path: str, *rows: str) -> None:
    misbehave({"kind": "status", "status": 200, "path": path, "body": f"[{','.join(rows)}]"})


@pytest.mark.parametrize(
    ("commission", "asset", "maker", "fee"),
    [
        ("0.02240000000000000001", "USDT", "false", "0.02240000000000000001"),
        ("-0.0224", "USDT", "false", "0.0224"),  # a taker pays, however the venue writes it
        ("-0.0056", "USDC", "true", "-0.0056"),  # a maker's rebate
        ("0", "USDT", "true", "0"),
        ("0.00003", "BNB", "false", None),
    ],
)
def test_fees_are_exact_and_unknown_in_dollars_where_they_were_paid_in_a_coin(
    venue: CcxtVenue, misbehave: Misbehave, commission: str, asset: str, maker: str, fee: str | None
) -> None:
    answers(misbehave, "/userTrades", TRADE % (7, commission, asset, maker))
    (one,) = venue.fetch_trades(BTC, after_id=6)
    assert one.fee_usd == (None if fee is None else Decimal(fee))
    assert (str(one.price), str(one.quantity)) == ("28000.00000000001", "0.0020")


GOOD = TRADE % (7, "0.02", "USDT", "false")


BAD_TRADES = {
    "an id that is no integer": GOOD.replace('"id":7', '"id":"7a"'),
    "no id": GOOD.replace('"id":7,', ""),
    "another symbol": GOOD.replace("BTCUSDT", "ETHUSDT"),
    "no quantity": GOOD.replace('"qty":"0.0020",', ""),
    "a quantity of nothing": GOOD.replace("0.0020", "0"),
    "a price that is no number": GOOD.replace("28000.00000000001", "NaN"),
    "a side that is none": GOOD.replace("SELL", "UP"),
    "no order": GOOD.replace('"orderId":25,', ""),
    "no time": GOOD.replace('"time":1700006340000', '"time":null'),
    "no fee": GOOD.replace('"commission":"0.02",', ""),
    "not a trade": '"hello"',
    "two trades of one id": f"{GOOD},{GOOD.replace('0.0020', '0.0030')}",
}


def test_a_trade_that_cannot_be_read_is_an_error_and_never_left_out(venue: CcxtVenue, misbehave: Misbehave) -> None:
    for what, rows in BAD_TRADES.items():
        answers(misbehave, "/userTrades", rows)
        try:
            told = venue.fetch_trades(BTC, after_id=6)
        except UpstreamUnavailable:
            continue
        pytest.fail(f"{what} was read as {told}")


@pytest.mark.parametrize("path", ["/userTrades", "/income", "/forceOrders"])
def test_an_answer_of_another_shape_is_an_error_and_no_empty_record(
    venue: CcxtVenue, misbehave: Misbehave, path: str
) -> None:
    readings: dict[str, Callable[..., object]] = {
        "/userTrades": venue.fetch_trades,
        "/income": venue.fetch_income,
        "/forceOrders": venue.fetch_forced_orders,
    }
    for body in ("{}", "null", '{"rows":[]}', "<html>", '[{"code":1}]', "[null]", '""'):
        misbehave({"kind": "status", "status": 200, "path": path, "body": body})
        with pytest.raises(UpstreamUnavailable):
            readings[path](BTC, since_ms=1_700_000_000_000)


def test_rows_come_in_order_and_once_however_the_venue_sends_them(venue: CcxtVenue, misbehave: Misbehave) -> None:
    rows = [GOOD.replace('"id":7', f'"id":{number}') for number in (9, 7, 8, 7)]
    answers(misbehave, "/userTrades", *rows)
    assert [one.trade_id for one in venue.fetch_trades(BTC, after_id=6)] == [7, 8, 9]
    answers(misbehave, "/userTrades", *rows)
    assert [one.trade_id for one in venue.fetch_trades(BTC, after_id=8)] == [9]


def test_a_number_that_is_told_as_a_string_is_read_as_well(venue: CcxtVenue, misbehave: Misbehave) -> None:
    answers(misbehave, "/userTrades", GOOD.replace('"id":7', '"id":"7"').replace('"orderId":25', '"orderId":"x-25"'))
    (one,) = venue.fetch_trades(BTC, after_id=6)
    assert (one.trade_id, one.order_id) == (7, "x-25")


INCOME = (
    '{"symbol":"BTCUSDT","incomeType":"%s","income":"%s","asset":"%s","info":"","time":1700006340000,'
    '"tranId":%s,"tradeId":"%s"}'
)


def test_income_names_its_trade_where_there_is_one(venue: CcxtVenue, misbehave: Misbehave) -> None:
    rows = [
        INCOME % ("COMMISSION", "-0.01000000", "BNB", 9, 12),
        INCOME % ("REALIZED_PNL", "1.5", "USDT", 9, 12),
        INCOME % ("FUNDING_FEE", "-0.000000000001", "USDT", 10, ""),
    ]
    answers(misbehave, "/income", *rows)
    told = venue.fetch_income(BTC, since_ms=1_700_000_000_000)
    assert [(row.kind, str(row.amount), row.asset, row.trade_id) for row in told] == [
        ("COMMISSION", "-0.01000000", "BNB", 12),
        ("REALIZED_PNL", "1.5", "USDT", 12),
        ("FUNDING_FEE", "-1E-12", "USDT", None),
    ]
    assert len({row.income_id for row in told}) == 3


@pytest.mark.parametrize(
    "row",
    [
        INCOME % ("COMMISSION", "many", "USDT", 9, 12),
        INCOME % ("COMMISSION", "1", "USDT", 9, "12a"),
        INCOME % ("", "1", "USDT", 9, 12),
        (INCOME % ("COMMISSION", "1", "USDT", 9, 12)).replace("BTCUSDT", "ETHUSDT"),
        (INCOME % ("COMMISSION", "1", "USDT", 9, 12)).replace('"tranId":9', '"tranId":null'),
    ],
)
def test_income_that_cannot_be_read_is_an_error(venue: CcxtVenue, misbehave: Misbehave, row: str) -> None:
    answers(misbehave, "/income", row)
    with pytest.raises(UpstreamUnavailable):
        venue.fetch_income(BTC, since_ms=1_700_000_000_000)


def test_a_forced_order_that_filled_nothing_closed_nothing(
    venue: CcxtVenue, happens: Happens, exchange: SimulatedVenue
) -> None:
    trade(venue, "ours", "0.010")
    happens(adl=BTC)
    order = list(only_account(exchange).orders.values())[-1]
    order.status, order.filled, order.average = "EXPIRED", Decimal(0), Decimal(0)
    assert venue.fetch_forced_orders(BTC, since_ms=START_MS) == ()
