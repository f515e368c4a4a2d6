"""What a line says of a refused request: our words, and nothing of what was sent."""

import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_server.http.refusal_log import REDACTED, RefusalDetails, redact_path, redact_unknown_words
from webhook_server.intake.field_errors import FieldError
from webhook_server.intake.request_body import parse_envelope
from webhook_server.intake.schemas import AiSignal, WebhookSignal
from webhook_server.intake.signal_parser import parse_signal


@pytest.mark.parametrize(
    "name", [*AiSignal.model_fields, "useTrailingStop", "stopLoss", "size_usd", "body", "webhook-id"]
)
def test_the_names_that_senders_may_write_are_shown(name: str) -> None:
    assert redact_unknown_words(name) == name


@pytest.mark.parametrize(
    "name", ["hush", "whsec_abc", "stop_hush", "stop\nloss", "\x1b[31mstop", "stop1", "", "st\u00f6p"]
)
def test_names_that_somebody_made_up_are_not(name: str) -> None:
    assert redact_unknown_words(name) == REDACTED


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
    assert redact_path(path) == shown


BODY = {"exchange": "aster", "symbol": "BTCUSDT", "action": "BUY", "size": 1}
SENT = "zyxwv"  # in no word of ours
SENT_NAMES = st.sampled_from([SENT, f"{SENT}_stop", *AiSignal.model_fields, "sentiment", "size_usd", "qty", "StopLoss"])
SENT_VALUES = st.sampled_from(
    [SENT, f"'{SENT}'", f"{SENT}{{{{x}}}}", f"{SENT}://{SENT}", [SENT], {SENT: SENT}, 5, -1, f"BTC:{SENT}"]
)


@given(st.dictionaries(SENT_NAMES, SENT_VALUES, min_size=1))
def test_a_reason_repeats_nothing_of_the_body(sent: dict[str, object]) -> None:
    lines = []
    for text in (
        json.dumps(BODY | sent),
        json.dumps(BODY | sent)[:-2],
        f"{json.dumps(sent)[:-1]},{json.dumps(sent)[1:]}",
    ):
        try:
            parse_signal(parse_envelope(text.encode(), {}).body, WebhookSignal)
        except FieldError as error:
            lines.append(str(RefusalDetails.from_field_error(error).to_log_fields()))
    assert not any(SENT in line for line in lines)


def test_names_that_the_sender_made_up_are_left_out_of_reasons_and_fields() -> None:
    error = FieldError.from_reasons(
        {"hush_a": "is there more than once", "size": "must be above 0", "hush_b": "is wrong"}
    )
    shown = RefusalDetails.from_field_error(error).to_log_fields()
    assert shown["reason"] == "\u2026: is there more than once; size: must be above 0; \u2026: is wrong"
    assert (shown["field"], shown["fields"]) == ("\u2026", ["\u2026", "size"])


def test_a_reason_keeps_what_is_ours() -> None:
    with pytest.raises(FieldError) as refusal:
        parse_signal(
            {"exchange": "aster", "symbol": "BTCUSDT", "action": "BUY", "size": 1, "order_type": "STOP"}, WebhookSignal
        )
    line = RefusalDetails.from_field_error(refusal.value, UUID(int=1)).to_log_fields()
    assert (line["field"], line["user"]) == ("order_type", str(UUID(int=1)))
    assert "MARKET or LIMIT" in str(line["reason"])


def test_line_and_column_are_told_where_the_fault_has_them() -> None:
    error = FieldError("body", "is not JSON", line=3, column=14)
    assert RefusalDetails.from_field_error(error).to_log_fields() == {
        "reason": "body: is not JSON",
        "field": "body",
        "line": 3,
        "column": 14,
    }


@given(st.text(max_size=10))
def test_whatever_the_name_a_line_is_one_line_of_printable_words(name: str) -> None:
    shown = RefusalDetails.from_field_error(FieldError(name, "is wrong")).to_log_fields()
    assert shown == {"reason": f"{redact_unknown_words(name)}: is wrong", "field": redact_unknown_words(name)}
    assert all(character.isprintable() for character in str(shown))
