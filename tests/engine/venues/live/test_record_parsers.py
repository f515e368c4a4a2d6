"""Rows of an account's record, exactly: signs, fees, causes, and an error for what cannot be read."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.positions import Side
from engine.venues.account_record import ForcedExitCause
from engine.venues.live.record_parsers import (
    MAX_DIGITS,
    parse_account_trade,
    parse_cause,
    parse_decimal,
    parse_forced_order,
    parse_income,
    parse_int,
    parse_position,
    parse_rows,
    parse_text,
    parse_time_ms,
)

TRADE: dict[str, Any] = {
    "id": 11,
    "orderId": 22,
    "side": "SELL",
    "qty": "0.5",
    "price": "100.10",
    "commission": "0.02",
    "commissionAsset": "USDT",
    "time": 1_700_000_000_000,
    "maker": False,
}
FORCED: dict[str, Any] = {
    "orderId": 33,
    "side": "SELL",
    "executedQty": "2",
    "avgPrice": "90",
    "cumQuote": "170",
    "clientOrderId": "autoclose-1",
    "time": 5,
    "updateTime": 9,
}
INCOME: dict[str, Any] = {
    "incomeType": "FUNDING_FEE",
    "asset": "USDT",
    "tranId": 44,
    "tradeId": "",
    "income": "-0.5",
    "time": 5,
}
POSITION: dict[str, Any] = {"positionAmt": "-2", "entryPrice": "100", "updateTime": 7}


def test_a_trade_is_exact_and_a_sale_reduces_the_net() -> None:
    found = parse_account_trade(TRADE, "BTCUSDT")
    assert (found.trade_id, found.order_id, found.is_buy, found.at_ms) == (11, "22", False, 1_700_000_000_000)
    assert [found.signed_quantity, found.price, found.fee_usd] == [Decimal("-0.5"), Decimal("100.10"), Decimal("0.02")]
    assert parse_account_trade(TRADE | {"side": "BUY"}, "BTCUSDT").signed_quantity == Decimal("0.5")


@pytest.mark.parametrize(
    ("commission", "maker", "fee"),
    [
        ("0.02", False, "0.02"),
        ("-0.02", False, "0.02"),  # as Binance's documents write what a taker pays
        ("-0.02", True, "-0.02"),  # a rebate
        ("-0.02", "true", "-0.02"),
        ("0.02", True, "0.02"),
    ],
)
def test_only_a_maker_has_a_rebate(commission: str, maker: object, fee: str) -> None:
    row = TRADE | {"commission": commission, "maker": maker}
    assert parse_account_trade(row, "BTCUSDT").fee_usd == Decimal(fee)


def test_a_fee_in_a_coin_is_kept_as_that_and_is_no_dollars() -> None:
    found = parse_account_trade(TRADE | {"commission": "-0.0001", "commissionAsset": "BNB"}, "BTCUSDT")
    assert (found.fee_usd, found.fee_coin, found.fee_amount) == (None, "BNB", Decimal("0.0001"))


@pytest.mark.parametrize("field", ["id", "orderId", "side", "qty", "price", "commission", "commissionAsset", "time"])
@pytest.mark.parametrize("value", [None, "", "much", True])
def test_a_trade_that_cannot_be_read_is_an_error_and_is_not_left_out(field: str, value: object) -> None:
    if (field, value) in {("orderId", "much"), ("commissionAsset", "much")}:  # any text is a name
        assert parse_account_trade(TRADE | {field: value}, "BTCUSDT")
        return
    with pytest.raises((ValueError, KeyError)):
        parse_account_trade(TRADE | {field: value}, "BTCUSDT")


@pytest.mark.parametrize(
    ("fields", "adl_ids", "cause"),
    [
        ({}, (), ForcedExitCause.LIQUIDATED),
        ({"clientOrderId": "adl_autoclose"}, (), ForcedExitCause.ADL),
        ({"clientOrderId": "adl_autoclose_7"}, (), ForcedExitCause.ADL),
        ({}, ("33",), ForcedExitCause.ADL),  # by the venue's own list
        ({"clientOrderId": None}, ("34",), ForcedExitCause.LIQUIDATED),
    ],
)
def test_a_forced_order_is_a_liquidation_unless_it_is_known_as_a_deleveraging(
    fields: dict[str, Any], adl_ids: tuple[str, ...], cause: ForcedExitCause
) -> None:
    assert parse_forced_order(FORCED | fields, "BTCUSDT", frozenset(adl_ids)).cause is cause


@pytest.mark.parametrize(
    ("fields", "price", "at_ms"),
    [
        ({}, "90", 9),
        ({"avgPrice": "0"}, "85", 9),  # 170 for 2
        ({"avgPrice": "0", "cumQuote": None, "updateTime": 0}, "0", 5),
        ({"avgPrice": "0", "executedQty": "0"}, "0", 9),
    ],
)
def test_a_forced_order_without_a_price_has_that_of_its_cost(fields: dict[str, Any], price: str, at_ms: int) -> None:
    found = parse_forced_order(FORCED | fields, "BTCUSDT", frozenset())
    assert (found.price, found.at_ms) == (Decimal(price), at_ms)


def test_an_order_of_anybody_else_states_no_cause() -> None:
    assert [parse_cause({"clientOrderId": name}) for name in ("web_1", "", None)] == [None] * 3
    assert parse_cause({}) is None


def test_income_is_signed_and_named_by_kind_transaction_trade_and_asset() -> None:
    found = parse_income(INCOME, "BTCUSDT")
    assert (found.income_id, found.amount, found.trade_id) == ("FUNDING_FEE:44::USDT", Decimal("-0.5"), None)
    traded = parse_income(INCOME | {"tradeId": "55", "incomeType": "COMMISSION", "asset": "BNB"}, "BTCUSDT")
    assert (traded.income_id, traded.trade_id) == ("COMMISSION:44:55:BNB", 55)


@pytest.mark.parametrize(("amount", "side"), [("-2", Side.SHORT), ("2", Side.LONG)])
def test_a_position_has_its_side_from_the_sign(amount: str, side: Side) -> None:
    found = parse_position(POSITION | {"positionAmt": amount}, "BTCUSDT")
    assert found is not None
    assert (found.side, found.quantity, found.net, found.changed_ms) == (side, Decimal(2), Decimal(amount), 7)
    assert (found.leverage, found.unrealized_pnl_usd, found.liquidation_price) == (None, None, None)


def test_an_empty_position_is_none() -> None:
    assert parse_position(POSITION | {"positionAmt": "0.000"}, "BTCUSDT") is None


@pytest.mark.parametrize(
    ("told", "price"), [("55.5", Decimal("55.5")), ("0", None), ("-1", None), (None, None), ("?", None)]
)
def test_a_liquidation_price_that_is_none_makes_no_position_unreadable(told: object, price: Decimal | None) -> None:
    found = parse_position(POSITION | {"liquidationPrice": told}, "BTCUSDT")
    assert found is not None
    assert found.liquidation_price == price


def test_rows_are_those_of_the_symbol_that_was_asked_for() -> None:
    rows = [{"symbol": "BTCUSDT"}]
    assert parse_rows(rows, "BTCUSDT") is rows
    assert parse_rows([], "BTCUSDT") == []
    assert parse_rows([{"symbol": "ETHUSDT"}], None)
    with pytest.raises(ValueError, match="the request was about BTCUSDT, the answer is about ETHUSDT"):
        parse_rows([{"symbol": "ETHUSDT"}], "BTCUSDT")
    answers: tuple[object, ...] = ({}, None, "[]", [None], [[]])
    for answer in answers:
        with pytest.raises(ValueError, match="no list of rows"):
            parse_rows(answer, None)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**19), max_value=10**19, places=8))
def test_every_figure_is_read_to_its_last_digit(figure: Decimal) -> None:
    assert parse_decimal(f"{figure:f}") == figure


@pytest.mark.parametrize("raw", [0.1, True, None, "", "NaN", "1e999", "1E+20", "-1E+20", [1]])
def test_what_is_no_exact_figure_is_an_error(raw: object) -> None:
    with pytest.raises(ValueError, match=r"figure|number"):
        parse_decimal(raw)


@pytest.mark.parametrize("raw", ["-1", "1.0", " 1", "", True, None, "1" * (MAX_DIGITS + 1), "\u0661"])  # an Arabic 1
def test_what_is_no_number_of_a_trade_is_an_error(raw: object) -> None:
    assert parse_int("9" * MAX_DIGITS) == 10**MAX_DIGITS - 1
    with pytest.raises(ValueError, match="no whole number"):
        parse_int(raw)


def test_a_time_beyond_14_digits_and_an_empty_name_are_errors() -> None:
    assert parse_time_ms("1700000000000") == 1_700_000_000_000
    with pytest.raises(ValueError, match="no whole number"):
        parse_time_ms("1" * 15)
    assert [parse_text(7), parse_text("x")] == ["7", "x"]
    for raw in ("", None, True, 1.5):
        with pytest.raises(ValueError, match="no name"):
            parse_text(raw)
