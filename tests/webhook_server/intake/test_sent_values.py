"""Numbers that no trade can have are refused at once, by the name of their field; only ASCII words have a case."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.webhook_server.conftest import Site
from webhook_server.intake import sent_values
from webhook_server.intake.field_errors import FieldError
from webhook_server.intake.request_body import BodyTooLarge, parse_envelope, read_body
from webhook_server.intake.schemas import WebhookSignal
from webhook_server.intake.signal_parser import parse_signal

ENTRY: dict[str, Any] = {"exchange": "aster", "symbol": "BTCUSDT", "action": "BUY", "position_size_usd": 100}
BEYOND_BOUNDS = ("1e999999999", "-1e999999999", "1e-999999999", "0e999999999", "1E400", "1e-400", "9" * 4_000, "1" * 60)
READ_ONE = """
import sys
from webhook_server.intake.request_body import parse_envelope
from webhook_server.intake.field_errors import FieldError
from webhook_server.intake.schemas import WebhookSignal
from webhook_server.intake.signal_parser import parse_signal
try:
    envelope = parse_envelope(sys.stdin.buffer.read(), {})
    envelope.fingerprint
    parse_signal(envelope.body, WebhookSignal)
except FieldError as error:
    print(error.field_name)
"""


def raw(name: str, number: str) -> bytes:
    """An entry whose field `name` is the JSON text `number`."""
    return (
        json.dumps({each: value for each, value in ENTRY.items() if each != name})[:-1] + f', "{name}": {number}}}'
    ).encode()


def read(body: bytes) -> WebhookSignal:
    return parse_signal(parse_envelope(body, {}).body, WebhookSignal)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("leverage", "1e999999999"),
        ("price", '"1e-999999999"'),
        ("position_size_usd", "1e-999999999"),
        ("timestamp", "1e-999999999"),
        ("volume", "1e999999999"),
        ("volume", "[[1e999999999]]"),
    ],
)
def test_a_huge_exponent_costs_no_time(name: str, number: str) -> None:
    """In a process of its own, since what computes with such a number holds up all threads of its process."""
    ended = subprocess.run(
        [sys.executable, "-c", READ_ONE], input=raw(name, number), capture_output=True, timeout=60, check=True
    )
    assert ended.stdout.decode().strip() == name


@pytest.mark.parametrize("number", [*BEYOND_BOUNDS, "NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize(
    "name", ["timestamp", "expires_at", "ai_confidence", "price", "stop_loss_percent", "size", "note"]
)
def test_a_number_beyond_its_bounds_is_refused_by_the_name_of_its_field(name: str, number: str) -> None:
    for written in (number, f"[[{number}]]", f'{{"deep": {number}}}'):
        with pytest.raises(FieldError) as refusal:
            read(raw(name, written))
        assert refusal.value.field_name == name


@pytest.mark.parametrize(
    "text",
    [
        *("1e5", "1E2", "+5", "-0", "1_000", ".5", "5.", "0x10", "NaN", "inf", "Infinity", "1,5", "1 000", "--1"),
        *("\u0661\u0660\u0660", "\uff11\uff10\uff10", "\u22125", "100\x00", "1.2.3", "1" * 31, "1." + "0" * 30),
    ],
)
@pytest.mark.parametrize(
    "name", ["position_size_usd", "price", "stop_loss_percent", "take_profit_percent", "leverage", "ai_confidence"]
)
def test_a_numeral_in_text_has_plain_digits_and_one_point(name: str, text: str) -> None:
    with pytest.raises(FieldError) as refusal:
        parse_signal(ENTRY | {name: text}, WebhookSignal)
    assert refusal.value.field_name == name


@pytest.mark.parametrize(
    "text",
    ["1e9", "-1", "+1700000000", "1_700_000_000", "\u0661\u0667\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660"],
)
@pytest.mark.parametrize("name", ["timestamp", "expires_at"])
def test_a_moment_in_text_has_plain_digits(name: str, text: str) -> None:
    with pytest.raises(FieldError) as refusal:
        parse_signal(ENTRY | {name: text}, WebhookSignal)
    assert refusal.value.field_name == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("leverage", "2.0"),
        ("leverage", 2.5),
        ("timestamp", -1),
        ("price", "0." + "0" * 25 + "1"),
        ("stop_loss_percent", 1e-30),
        ("take_profit_percent", 1e-30),
        ("position_size_usd", 1e-30),
        ("strategy_id", "\uff10" * 32),
        ("strategy_id", 5),
    ],
)
def test_a_number_that_rounds_to_nothing_or_is_no_whole_one_is_refused(name: str, value: object) -> None:
    with pytest.raises(FieldError) as refusal:
        parse_signal(ENTRY | {name: value}, WebhookSignal)
    assert refusal.value.field_name == name


def test_a_server_answers_others_after_senseless_numbers(site: Site) -> None:
    for number in ('"1e999999999"', "1e-300", '"0.00000000000000000000000001"', "1e308"):
        for name in ("position_size_usd", "price", "leverage", "stop_loss_percent"):
            text = json.dumps(site.sender.body(**{name: None}, order_type="LIMIT" if name == "price" else None))
            answer = requests.post(f"{site.url}/webhook", data=f'{text[:-1]}, "{name}": {number}}}', timeout=60)
            assert (answer.status_code, answer.json()["field"]) == (400, name), answer.text
    assert site.store.list_open_positions() == ()
    assert site.sender.post().json()["action"] == "opened"


def test_the_smallest_part_of_a_position_is_nothing_to_do(site: Site) -> None:
    site.sender.post()
    body = site.sender.post(action="CLOSE", sell_percentage=1e-300).json()
    assert (body["success"], body["action"]) == (True, "skipped")


@pytest.mark.parametrize("length", ["65537", "99999999999999999", "0000000000000000000000000000000065537"])
def test_an_announced_length_is_read_whole(length: str) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    with pytest.raises(BodyTooLarge):
        asyncio.run(read_body(endless(), length))


@pytest.mark.parametrize("length", ["9" * 40, "-5", "+5", "1_0", "5, 6", "\xb2", "1e9", "0x10", ""])
def test_a_length_that_is_no_number_of_bytes_is_no_fault_of_ours(site: Site, length: str) -> None:
    where = urlsplit(site.url)
    with socket.create_connection((where.hostname, where.port), timeout=60) as connection:
        head = f"POST /webhook HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{{}}"
        connection.sendall(head.encode("latin-1"))
        with connection.makefile("rb") as answer:
            assert answer.readline().split()[1] in {b"400", b"401", b"413"}
    assert requests.get(f"{site.url}/health", timeout=60).status_code == 200


def test_words_are_read_in_any_case_with_blanks_around() -> None:
    assert (sent_values.to_upper(" Long\n"), sent_values.to_lower(" ASTER ")) == ("LONG", "aster")


@pytest.mark.parametrize("value", ["\u017fhort", "\u212a", 5, None, ["buy"]])  # the long s would become an S
def test_other_letters_and_values_are_no_words(value: object) -> None:
    assert sent_values.to_upper(value) is sent_values.to_lower(value) is None
