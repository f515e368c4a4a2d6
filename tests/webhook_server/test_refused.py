"""What a line says of a refused request: our words, and nothing of what was sent."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_server.refused import UNSHOWN, Refused, familiar, familiar_path
from webhook_server.schemas import AiSignal, FieldError, Order, parse


@pytest.mark.parametrize(
    "name", [*AiSignal.model_fields, "useTrailingStop", "stopLoss", "size_usd", "body", "webhook-id"]
)
def test_the_names_that_senders_may_write_are_shown(name: str) -> None:
    assert familiar(name) == name


@pytest.mark.parametrize(
    "name", ["hush", "whsec_abc", "stop_hush", "stop\nloss", "\x1b[31mstop", "stop1", "", "st\u00f6p"]
)
def test_names_that_somebody_made_up_are_not(name: str) -> None:
    assert familiar(name) == UNSHOWN


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/", "/"),
        ("", "/"),
        ("/webhooks", "/webhooks"),
        ("/api/webhook/", "/api/webhook/"),
        ("/webhook/AI_Signal", "/webhook/AI_Signal"),
        ("/webhook/hush", "/webhook/\u2026"),
        ("/hush\x1b[2J", "/\u2026"),
        ("/a" * 9_000, "/\u2026/\u2026/\u2026/\u2026"),
    ],
)
def test_of_a_path_the_known_words_are_shown(path: str, shown: str) -> None:
    assert familiar_path(path) == shown


@pytest.mark.parametrize(
    "message",
    [
        "found `hush` at 1",
        "'hush' is no action",
        'is not "hush"',
        "is not \u201chush\u201d",
        "hush has no quote currency",
        "is there more than once, as hush",
    ],
)
def test_a_reason_repeats_nothing_of_the_body(message: str) -> None:
    error = FieldError("symbol", message)
    vars(error).update(fields=("symbol", "hush"))
    shown = str(Refused.of_field(error, body={"symbol": "hush", "x": 1}).shown())
    assert "hush" not in shown
    assert "symbol" in shown


def test_a_reason_keeps_what_is_ours() -> None:
    with pytest.raises(FieldError) as refusal:
        parse({"exchange": "aster", "symbol": "BTCUSDT", "action": "BUY", "size": 1, "order_type": "STOP"}, Order)
    line = Refused.of_field(refusal.value, UUID(int=1), {"order_type": "STOP"}).shown()
    assert (line["field"], line["user"]) == ("order_type", str(UUID(int=1)))
    assert "'MARKET' or 'LIMIT'" in str(line["reason"])


def test_line_and_column_are_told_where_the_fault_has_them() -> None:
    error = FieldError("body", "is not JSON")
    vars(error).update(line=3, column=14)
    assert Refused.of_field(error).shown() == {"reason": "body: is not JSON", "field": "body", "line": 3, "column": 14}


@given(st.text(min_size=3, max_size=40), st.text(max_size=10))
def test_whatever_is_sent_a_line_is_one_line_of_printable_words(value: str, name: str) -> None:
    error = FieldError(name, f"is {value!r}, {value}")
    shown = Refused.of_field(error, body={name: value}).shown()
    assert all(character.isprintable() for character in str(shown["reason"]) + str(shown["field"]))
    assert (
        value not in str(shown["reason"])
        or familiar(value) == value
        or value in f"{UNSHOWN}: is '{UNSHOWN}', {UNSHOWN}"
    )
