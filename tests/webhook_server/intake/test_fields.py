"""The types of a signal's fields: spellings that are accepted, and the JSON Schema of each."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter, ValidationError

from engine.domain.signal import SignalAction
from webhook_server.intake import fields
from webhook_server.intake.schemas import WebhookSignal
from webhook_server.intake.signal_parser import parse_signal

ENTRY: dict[str, Any] = {"exchange": "aster", "symbol": "BTCUSDT", "action": "BUY", "position_size_usd": 100}


@pytest.mark.parametrize(
    ("written", "meant"),
    [("buy", "BUY"), ("Long", "BUY"), (" SHORT ", "SELL"), ("sell", "SELL"), ("close", "CLOSE"), ("CLOSE", "CLOSE")],
)
def test_actions_are_understood_in_any_case(written: str, meant: str) -> None:
    assert parse_signal(ENTRY | {"action": written}, WebhookSignal).action is SignalAction(meant)


@pytest.mark.parametrize("written", ["BINANCE:BTCUSDT", "btcusdt", "BYBIT:BTCUSDT.P", " BTCUSDT "])
def test_a_symbol_loses_its_exchange(written: str) -> None:
    assert parse_signal(ENTRY | {"symbol": written}, WebhookSignal).symbol == "BTCUSDT"


@pytest.mark.parametrize(
    "written", [1_700_000_000, 1_700_000_000_000, "1700000000000", "2023-11-14T22:13:20Z", "2023-11-14T22:13:20"]
)
def test_a_moment_may_be_milliseconds_seconds_or_iso(written: object) -> None:
    assert parse_signal(ENTRY | {"timestamp": written}, WebhookSignal).timestamp == datetime(
        2023, 11, 14, 22, 13, 20, tzinfo=UTC
    )


def describe(kind: Any) -> dict[str, Any]:
    return TypeAdapter(kind).json_schema()


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        (fields.Usd, {"type": "number", "minimum": 0, "maximum": 1_000_000_000}),
        (fields.Price, {"type": "number", "minimum": 1e-20, "maximum": 1_000_000_000}),
        (fields.Percent, {"type": "number", "minimum": 1e-8, "exclusiveMaximum": 100}),
        (fields.TakeProfitPercent, {"type": "number", "minimum": 1e-8, "maximum": 1000}),
        (fields.PositionPercent, {"type": "number", "exclusiveMinimum": 0, "maximum": 100}),
        (fields.Confidence, {"type": "number", "minimum": 0, "maximum": 1}),
    ],
)
def test_a_number_is_described_with_its_bounds_and_as_text(kind: Any, number: dict[str, Any]) -> None:
    assert describe(kind) == {"anyOf": [number, fields.DECIMAL_TEXT]}


def test_a_whole_number_is_described_with_its_bounds_and_as_text() -> None:
    number = {"type": "integer", "minimum": 1, "maximum": 125}
    assert describe(fields.Leverage) == {"anyOf": [number, fields.WHOLE_TEXT]}


def test_a_moment_is_described_as_text_and_as_a_number() -> None:
    assert describe(fields.Timestamp)["anyOf"] == [{"type": "string", "format": "date-time"}, {"type": "number"}]


@pytest.mark.parametrize("text", ["1", " 2.5 ", "0.00000001", "999.999999999999999"])
def test_text_that_the_description_allows_is_read(text: str) -> None:
    assert re.fullmatch(fields.DECIMAL_TEXT["pattern"], text)
    read = TypeAdapter(fields.Usd).validate_python(text, context=fields.FROM_SENDER)
    assert read == Decimal(text.strip())


@pytest.mark.parametrize("text", ["1e3", "+1", "1.", ".5", "1,5", ""])
def test_other_text_is_refused_from_senders(text: str) -> None:
    assert not re.fullmatch(fields.DECIMAL_TEXT["pattern"], text)
    with pytest.raises(ValidationError):
        TypeAdapter(fields.Usd).validate_python(text, context=fields.FROM_SENDER)


def test_a_stored_number_may_have_an_exponent() -> None:
    assert TypeAdapter(fields.Usd).validate_python("1E+3") == 1000


@pytest.mark.parametrize(
    ("values", "are_equal"),
    [((100, "100.0", Decimal("1E+2")), True), (("long", " LONG "), True), ((True, "true"), True), ((1, True), False)],
)
def test_aliases_are_equal_when_they_mean_the_same(values: tuple[object, ...], are_equal: bool) -> None:  # noqa: FBT001
    assert fields.are_equal(values) is are_equal


def test_long_text_is_cut_and_text_that_cannot_be_stored_is_refused() -> None:
    text = TypeAdapter(Annotated[str, fields.truncate_text(3)])
    assert text.validate_python("abcdef") == "abc"
    with pytest.raises(ValidationError):
        text.validate_python("a\x00b")
