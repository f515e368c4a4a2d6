"""A 400 names everything that is wrong, and where the text stops being JSON, without repeating any of it."""

import json

import pytest
import requests

from tests.webhook_server.conftest import Site
from webhook_server.intake.field_errors import FieldError
from webhook_server.intake.request_body import parse_envelope
from webhook_server.intake.schemas import AiSignal, WebhookSignal
from webhook_server.intake.signal_parser import parse_signal


def test_an_empty_signal_is_told_all_that_it_lacks() -> None:
    with pytest.raises(FieldError) as refusal:
        parse_signal({}, AiSignal)
    assert refusal.value.fields == ("user_id", "exchange", "symbol", "action")
    assert all(f"{name}: is missing" in f"user_id: {refusal.value}" for name in refusal.value.fields)


def test_a_400_names_every_wrong_field_once_with_its_reason(site: Site) -> None:
    answer = site.sender.post(symbol="?", action="buy", position_size_usd=0, stop_loss_percent="x", leverage=500)
    body = answer.json()
    assert (answer.status_code, body["field"]) == (400, "symbol")
    assert body["fields"] == ["symbol", "position_size_usd", "stop_loss_percent", "leverage"]
    assert all(f"{name}: " in body["error"] for name in body["fields"])


def test_rules_across_fields_are_told_beside_wrong_fields() -> None:
    body = {"action": "short", "size": "0", "take_profit_percent": 100, "orderType": "limit", "exchange": "?"}
    with pytest.raises(FieldError) as refusal:
        parse_signal(body, WebhookSignal)
    assert refusal.value.fields == ("exchange", "symbol", "size", "take_profit_percent", "price")


def test_a_single_fault_has_the_same_shape(site: Site) -> None:
    body = site.sender.post(action="HOLD").json()
    assert (body["field"], body["fields"]) == ("action", ["action"])
    assert body["error"].startswith("action: must be one of buy, sell")


def test_every_field_that_is_there_twice_is_named() -> None:
    with pytest.raises(FieldError) as refusal:
        parse_signal(parse_envelope(b'{"action":"BUY","size":1,"size":2,"action":"SELL"}', {}).body, WebhookSignal)
    assert {"action", "size"} < set(refusal.value.fields)


def test_names_that_cannot_be_stored_are_no_fault(site: Site) -> None:
    names = r'"\ud800": 1, "\u0000": 2, "": 3, "\u202e": {"\udfff": 4}'
    body = "\ufeff" + json.dumps(site.sender.body())[:-1] + f", {names}}}"
    assert requests.post(f"{site.url}/webhook", data=body.encode(), timeout=60).json()["action"] == "opened"
