"""A body is one JSON object, or an error that says where it stops being JSON and repeats none of it."""

import json

import pytest
import requests

from tests.webhook_server.conftest import Site
from webhook_server.intake.field_errors import FieldError
from webhook_server.intake.request_body import parse_envelope
from webhook_server.intake.schemas import WebhookSignal
from webhook_server.intake.signal_parser import parse_signal

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


@pytest.mark.parametrize(
    "raw", [b"", b" \n", b"{", b"[]", b"null", b'"a"', b"\xff", b"[" * 60_000, b'{"a":nan}', b"1" * 9_999]
)
def test_only_one_json_object_is_a_body(raw: bytes) -> None:
    with pytest.raises(FieldError):
        parse_envelope(raw, {})


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        (b'{"action":"BUY","action":"SELL"}', "action"),
        (b'{"action":"CLOSE","symbol":"BTCUSDT","symbol":"ETHUSDT"}', "symbol"),
        (b'{"secret":"a","secret":"b"}', "secret"),
        (b'{"x":{"y":1,"y":2}}', "x"),
        (rb'{"\ud800":1,"\ud800":2}', "body"),
    ],
)
def test_a_field_that_is_there_twice_is_refused_by_name(raw: bytes, where: str) -> None:
    with pytest.raises(FieldError) as refusal:
        parse_signal(parse_envelope(raw, {}).body, WebhookSignal)
    assert where in refusal.value.fields


def test_a_byte_order_mark_before_the_object_is_no_fault() -> None:
    assert parse_envelope(b'\xef\xbb\xbf{"symbol":"X"}', {}).body == {"symbol": "X"}


def test_brackets_within_brackets_are_counted_and_not_followed(site: Site) -> None:
    deep = "[" * 10_000 + "]" * 10_000
    body = json.dumps(site.sender.body())[:-1]
    for more in (f', "x": {deep}}}', f', "x": {"[" * 40}{"]" * 40}}}', ', "x": ' + '{"a":' * 40 + "1" + "}" * 40 + "}"):
        answer = requests.post(f"{site.url}/webhook", data=body + more, timeout=60)
        assert (answer.status_code, answer.json()["field"]) == (400, "body")
        assert "brackets" in answer.json()["error"]
    flat = json.dumps(site.sender.body(x="[" * 10_000, y=[[[[]]]], z='\\"[[['))
    assert requests.post(f"{site.url}/webhook", data=flat, timeout=60).json()["action"] == "opened"
