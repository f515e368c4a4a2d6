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


SECRET = "whsec_c2VjcmV0IG9mIHRoaXMgdGVzdA=="
NOT_JSON = {
    "trailing comma": ('{"secret": "%s",\n "size": 5,\n}', 2, 11, "comma"),
    "trailing comma in a list": ('{"secret": "%s", "x": [1,]}', 1, None, "comma"),
    "smart quotes": ('{"secret": \u201c%s\u201d}', 1, 12, "quotation mark"),
    "smart quotes around a name": ("{\u201csecret\u201d: 1}%s", 1, 2, "quotation mark"),
    "single quotes": ("{'secret': '%s'}", 1, 2, "quotation mark"),
    "bare placeholder": ('{"secret": "%s",\n"size": {{plot_0}}}', 2, 9, "placeholder"),
    "missing comma": ('{"secret": "%s"\n "size": 5}', 2, 2, "comma"),
    "bare word": ('{"secret": "%s", "action": buy}', 1, None, "double quotation marks"),
    "end of text": ('{"secret": "%s", "size": 5', 1, None, "ends"),
    "open text": ('{"secret": "%s', 1, 12, "text"),
    "line break in a text": ('{"secret": "%s\n"}', 1, None, "control character"),
    "more behind it": ('{"secret": "%s"} {}', 1, None, "follows"),
    "missing colon": ('{"secret" "%s"}', 1, 11, "colon"),
    "missing value": ('{"secret": , "x": "%s"}', 1, 12, "value"),
    "python words": ('{"secret": "%s", "x": None}', 1, None, "double quotation marks"),
    "comment": ('{"secret": "%s", // mine\n"x": 1}', 1, None, "comment"),
    "form": ("secret=%s&action=buy", 1, 1, "form"),
    "plain words": ("buy BTCUSDT %s", 1, 1, "object"),
}


@pytest.mark.parametrize("case", NOT_JSON)
def test_a_body_that_is_not_json_is_told_where_and_why(site: Site, case: str) -> None:
    text, line, column, word = NOT_JSON[case]
    written = text % SECRET
    with pytest.raises(FieldError) as refusal:
        parse_envelope(written.encode(), {})
    assert (refusal.value.field_name, refusal.value.line) == ("body", line)
    assert column is None or refusal.value.column == column
    answer = requests.post(f"{site.url}/webhook", data=written.encode(), timeout=60)
    assert (answer.status_code, answer.json()["field"], answer.json()["fields"]) == (400, "body", ["body"])
    told = answer.json()["error"]
    assert f"line {line}, column {refusal.value.column}" in told
    assert word in told
    assert not any(part in told for part in ("whsec", SECRET[6:12], "plot_0", "mine", "BTCUSDT"))


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (b"", "empty"),
        (b" \r\n\t", "empty"),
        (b"[]", "not an array"),
        (b'"text"', "not a text"),
        (b"5", "not a number"),
        (b"NaN", "not a number"),
        (b"null", "not null"),
        (json.dumps({"a": 1}).encode("utf-16"), "UTF-16"),
        (json.dumps({"a": 1}).encode("utf-16-be"), "UTF-16"),
        (json.dumps({"a": 1}).encode("utf-32"), "UTF-32"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b"\x00", "control character"),
    ],
)
def test_other_bodies_are_told_what_they_are(raw: bytes, word: str) -> None:
    with pytest.raises(FieldError, match=word) as refusal:
        parse_envelope(raw, {})
    assert refusal.value.field_name == "body"


def test_names_that_cannot_be_stored_are_no_fault(site: Site) -> None:
    names = r'"\ud800": 1, "\u0000": 2, "": 3, "\u202e": {"\udfff": 4}'
    body = "\ufeff" + json.dumps(site.sender.body())[:-1] + f", {names}}}"
    assert requests.post(f"{site.url}/webhook", data=body.encode(), timeout=60).json()["action"] == "opened"
