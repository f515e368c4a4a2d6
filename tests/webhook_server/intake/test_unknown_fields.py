"""No entry without what it asks for: names that mean nothing here are refused; no exit waits for fields of entries."""

import json
from typing import Any

import pytest
import requests

from tests.webhook_server.conftest import Site
from webhook_server.intake.field_errors import FieldError
from webhook_server.intake.schemas import WebhookSignal
from webhook_server.intake.signal_parser import parse_signal

BODY: dict[str, Any] = {"exchange": "aster", "symbol": "BTCUSDT"}
ENTRY = BODY | {"action": "BUY", "position_size_usd": 100}
PROMISES = {
    **dict.fromkeys(("stop_loss", "stopLoss", "STOP_LOSS", "sl", "stop_loss_price", "stopPrice"), "stop_loss_percent"),
    **dict.fromkeys(("stopLossPercent", "StopLoss", "stop-loss", "sl_price"), "stop_loss_percent"),
    **dict.fromkeys(("take_profit", "takeProfit", "tp", "take_profit_price", "tp_price"), "take_profit_percent"),
    **dict.fromkeys(
        ("trailing_stop", "trailingStop", "trail", "callbackRate", "trailingStopPercent"), "stop_loss_percent"
    ),
    **dict.fromkeys(
        ("quantity", "qty", "contracts", "amount", "lots", "positionSize", "positionSizeUsd"), "position_size_usd"
    ),
    **dict.fromkeys(("reduceOnly", "reduce_only", "closePosition"), "CLOSE"),
    **dict.fromkeys(("strategyId", "Strategy_ID"), "strategy_id"),
    **dict.fromkeys(("expiresAt", "expiry", "ttl"), "expires_at"),
    **dict.fromkeys(("hedge", "hedge_mode", "positionSide", "position_side"), "position"),
    **dict.fromkeys(("limitPrice", "limit", "maxSlippage", "slippage_percent"), "price"),
    **dict.fromkeys(("dry_run", "paper", "testMode", "is_test"), "environment"),
}
SENSELESS = {
    "size": "NaN",
    "position_size_usd": -5,
    "stop_loss_percent": "{{plot_1}}",
    "take_profit_percent": [],
    "qty": "x",
    "useTrailingStop": "maybe",
    "trailing_stop_percent": 1,
    "leverage": 1e300,
    "price": "NaN",
    "order_type": "STOP",
    "orderType": "LIMIT",
    "stopLoss": 5,
    "reduceOnly": True,
    "timestamp": "{{timenow}}",
    "ai_confidence": "high",
    "market_position": "{{strategy.market_position}}",
    "expires_at": "soon",
    "expiresAt": 1,
}


@pytest.mark.parametrize("name", PROMISES)
def test_an_entry_that_asks_by_a_name_that_means_nothing_is_refused(name: str) -> None:
    with pytest.raises(FieldError) as refusal:
        parse_signal(ENTRY | {name: 5}, WebhookSignal)
    assert refusal.value.field_name == (name if name.isidentifier() else "body")
    assert PROMISES[name] in str(refusal.value)


@pytest.mark.parametrize("value", [None, "", False, "false"])
@pytest.mark.parametrize("name", ["trailing_stop", "reduceOnly", "hedge", "sl"])
def test_what_is_not_asked_for_is_not_refused(name: str, value: object) -> None:
    assert parse_signal(ENTRY | {name: value}, WebhookSignal).is_entry


def test_a_trailing_distance_is_refused_as_a_trailing_stop_is() -> None:
    with pytest.raises(FieldError) as refusal:
        parse_signal(ENTRY | {"trailing_stop_percent": 1}, WebhookSignal)
    assert refusal.value.field_name == "trailing_stop_percent"
    assert parse_signal(ENTRY | {"useTrailingStop": False}, WebhookSignal).is_entry


def test_harmless_names_are_ignored(site: Site) -> None:
    harmless = {"linked_exchange_id": 1, "comment": "x", "volume": "12.5", "interval": "15", "close": 5, "ticker": "X"}
    assert site.sender.post(**harmless, prev_market_position="short", time="x").json()["action"] == "opened"


@pytest.mark.parametrize("name", SENSELESS)
def test_no_field_of_an_entry_decides_over_an_exit(name: str) -> None:
    assert not parse_signal(BODY | {"action": "close", name: SENSELESS[name]}, WebhookSignal).is_entry


def test_an_exit_with_every_senseless_field_at_once_closes(site: Site) -> None:
    site.sender.post()
    text = json.dumps(site.sender.body(**SENSELESS | {"action": "sell", "market_position": "flat"}))
    body = text[:-1] + ', "plot": NaN, "size_usd": NaN, "leverage ": 1e999999999, "x": [1e999999999]}'
    answer = requests.post(f"{site.url}/webhook", data=body, timeout=60)
    assert (answer.status_code, answer.json().get("action")) == (200, "closed"), answer.text
    assert site.store.list_open_positions() == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sell_percentage", "half"),
        ("sell_percentage", 0),
        ("sell_percentage", "NaN"),
        ("sellPercentage", 50),
        ("strategyId", "5"),
        ("environment", "live"),
        ("strategy_id", "x"),
        ("symbol", "?"),
    ],
)
def test_what_concerns_an_exit_is_checked(name: str, value: object) -> None:
    with pytest.raises(FieldError) as refusal:
        parse_signal(BODY | {"action": "close", name: value}, WebhookSignal)
    assert refusal.value.field_name == name
