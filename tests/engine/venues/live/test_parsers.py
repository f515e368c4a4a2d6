"""ccxt's unified answers as our values: contracts into the base asset, signs, and nothing that is missing as zero."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.positions import Side
from engine.venues.account_state import OrderKind
from engine.venues.live.parsers import (
    calculate_average_price,
    parse_balance,
    parse_leverage,
    parse_open_order,
    parse_position,
    parse_status,
    to_symbol,
)
from engine.venues.orders import OrderStatus

MARKET = {"id": "BTCUSDT", "baseId": "BTC", "quoteId": "USDT", "base": "BTC", "quote": "USDT", "contractSize": 1}
ORDER: dict[str, Any] = {"id": 7, "side": "sell", "amount": "3", "type": "market"}


@pytest.mark.parametrize(
    ("status", "filled", "expected"),
    [
        ("open", "1", OrderStatus.OPEN),
        (None, "1", OrderStatus.OPEN),  # acknowledged without a status
        ("closed", "1", OrderStatus.FILLED),
        ("canceled", "0.001", OrderStatus.FILLED),  # in part
        ("canceled", "0", OrderStatus.REJECTED),
        ("expired", "0", OrderStatus.REJECTED),
        ("rejected", "0", OrderStatus.REJECTED),
    ],
)
def test_an_order_that_ended_is_filled_where_anything_was(
    status: str | None, filled: str, expected: OrderStatus
) -> None:
    assert parse_status({"status": status}, Decimal(filled)) is expected


def test_an_open_order_is_in_the_base_asset_and_missing_figures_are_none_of_its_own() -> None:
    found = parse_open_order(ORDER | {"filled": "1", "clientOrderId": "", "timestamp": 5}, "BTCUSDT", Decimal("0.1"))
    assert (found.order_id, found.client_order_id, found.is_buy, found.at_ms) == ("7", None, False, 5)
    assert [found.quantity, found.filled, found.price] == [Decimal("0.3"), Decimal("0.1"), 0]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"info": {"origType": "STOP_MARKET", "type": "MARKET"}}, OrderKind.STOP_LOSS),  # once it has triggered
        ({"info": {"type": "TAKE_PROFIT_MARKET"}}, OrderKind.TAKE_PROFIT),
        ({"info": {"orderType": "STOP"}}, OrderKind.STOP_LOSS),
        ({"type": "limit"}, OrderKind.LIMIT),
        ({"type": "trailing"}, OrderKind.OTHER),
    ],
)
def test_the_kind_is_what_the_venue_itself_calls_it(fields: dict[str, Any], kind: OrderKind) -> None:
    assert parse_open_order(ORDER | fields, "BTCUSDT", Decimal(1)).kind is kind


@pytest.mark.parametrize(
    ("fields", "price"),
    [
        ({"triggerPrice": "9", "stopPrice": "8", "price": "7"}, 9),
        ({"stopPrice": "8", "price": "7"}, 8),
        ({"triggerPrice": 0, "price": "7"}, 7),
    ],
)
def test_the_price_of_a_conditional_order_is_its_trigger(fields: dict[str, Any], price: int) -> None:
    assert parse_open_order(ORDER | fields, "BTCUSDT", Decimal(1)).price == price


@pytest.mark.parametrize(
    ("fields", "is_reducing"),
    [
        ({}, False),
        ({"reduceOnly": True}, True),
        ({"reduceOnly": False}, False),
        ({"info": {"reduceOnly": "true"}}, True),  # as text, which ccxt does not read
        ({"info": {"reduceOnly": "false"}}, False),
        ({"info": {"closePosition": True}}, True),
    ],
)
def test_an_order_that_only_reduces_is_known_as_such(fields: dict[str, Any], *, is_reducing: bool) -> None:
    assert parse_open_order(ORDER | fields, "BTCUSDT", Decimal(1)).reduce_only is is_reducing


@pytest.mark.parametrize("missing", ["id", "side"])
def test_an_answer_without_an_order_is_an_error(missing: str) -> None:
    with pytest.raises(ValueError, match="names no order"):
        parse_open_order(ORDER | {missing: None}, "BTCUSDT", Decimal(1))


@pytest.mark.parametrize("side", Side)
def test_a_position_is_in_the_base_asset_and_unknown_figures_are_none(side: Side) -> None:
    raw = {"contracts": "3", "side": side.lower(), "entryPrice": "100.5", "leverage": None, "unrealizedPnl": None}
    found = parse_position(raw, MARKET | {"contractSize": "0.01"})
    assert found is not None
    assert (found.symbol, found.side, found.leverage, found.unrealized_pnl_usd) == ("BTCUSDT", side, None, None)
    assert [found.quantity, found.entry_price] == [Decimal("0.03"), Decimal("100.5")]
    assert found.net == (Decimal("0.03") if side is Side.LONG else Decimal("-0.03"))
    known = parse_position(raw | {"leverage": 20.0, "unrealizedPnl": "-1.5"}, MARKET)
    assert known is not None
    assert (known.leverage, known.unrealized_pnl_usd) == (20, Decimal("-1.5"))


@pytest.mark.parametrize("contracts", [0, "0.0", None])
def test_an_empty_position_is_none(contracts: object) -> None:
    assert parse_position({"contracts": contracts, "side": "long", "entryPrice": "1"}, MARKET) is None


def test_a_balance_adds_up_dollars_and_tells_what_one_of_them_has_free() -> None:
    raw = {
        "USDT": {"total": "10.1", "free": "3"},
        "USDC": {"total": "5", "free": None},
        "BNB": {"total": "99", "free": "99"},
    }
    found = parse_balance(raw)
    assert [found.wallet_usd, found.available_usd] == [Decimal("15.1"), 3]
    with pytest.raises(ValueError, match="no dollar"):
        parse_balance({"BNB": {"total": "99", "free": "99"}})


def trades(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"price": price, "amount": amount} for price, amount in pairs]


def test_an_average_price_is_weighted_by_quantity_and_exact_where_all_have_one() -> None:
    assert calculate_average_price(trades(("100", "3"), ("104", "1"))) == 101
    odd = "0.30000000000000000000000000000000001"
    assert calculate_average_price(trades((odd, "3"), (odd, "7"))) == Decimal(odd)


figures = st.decimals("0.01", "100000", places=2)


@given(st.lists(st.tuples(figures, figures), min_size=1, max_size=8))
def test_an_average_price_lies_between_the_best_and_the_worst(pairs: list[tuple[Decimal, Decimal]]) -> None:
    found = calculate_average_price(trades(*((f"{price}", f"{amount}") for price, amount in pairs)))
    prices = [price for price, _ in pairs]
    assert min(prices) <= found <= max(prices)


@pytest.mark.parametrize(
    ("long", "short", "leverage"), [(5, 5, 5), (5, 10, None), (None, 7, 7), ("7", None, 7), (None, None, None)]
)
def test_a_leverage_is_known_where_both_sides_have_the_same(long: object, short: object, leverage: int | None) -> None:
    assert parse_leverage({"longLeverage": long, "shortLeverage": short}) == leverage


def test_a_symbol_is_the_venues_id_where_that_is_base_and_quote() -> None:
    assert to_symbol(MARKET) == "BTCUSDT"
    assert to_symbol(MARKET | {"id": "1000PEPEUSDT", "baseId": "1000PEPE", "base": "PEPE"}) == "1000PEPEUSDT"
    assert to_symbol(MARKET | {"id": "BTC-PERP", "baseId": "BTC", "quoteId": "USD"}) == "BTCUSDT"
