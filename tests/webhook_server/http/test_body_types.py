"""Figures are JSON numbers with all digits that a double has; a key is absent or has a value; bodies are closed."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from engine.domain.positions import Side
from webhook_server.http.body_types import Body, Count, Figure, Number, OrAbsent, Timestamp, to_number


class Sample(Body):
    side: Side
    price: Number
    note: OrAbsent[str] = None
    stop: Number | None
    at: Timestamp
    limit: Figure
    count: Count


NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


def sample(**fields: object) -> Sample:
    given = {"side": Side.LONG, "price": Decimal("1.50"), "stop": None, "at": NOON, "limit": Decimal(2), "count": 0}
    return Sample.model_validate(given | fields)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("1.50", "1.5"),
        ("25005.0", "25005"),
        ("-0", "0"),
        ("1E+3", "1000"),
        ("1E-8", "1e-08"),
        ("0.1", "0.1"),
        ("999999999999999", "999999999999999"),
        ("1000000000000000", "1000000000000000.0"),
        ("25005.1234567890123", "25005.123456789013"),
    ],
)
def test_a_figure_is_the_json_number_that_senders_know(value: str, written: str) -> None:
    assert json.dumps(to_number(Decimal(value))) == written


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**14), max_value=10**14, places=8))
def test_a_figure_read_back_is_the_nearest_double(value: Decimal) -> None:
    assert float(json.loads(json.dumps(to_number(value)))) == float(value)


def test_a_key_that_may_be_absent_is_absent_and_one_that_may_be_null_is_null() -> None:
    assert "note" not in sample().to_json()
    assert sample().to_json()["stop"] is None
    assert sample(note="cut").to_json()["note"] == "cut"


def test_values_are_plain_and_in_the_order_of_the_class() -> None:
    body = sample(limit=NOON).to_json()
    assert body == {
        "side": "LONG",
        "price": 1.5,
        "stop": None,
        "at": "2026-11-28T12:00:00+00:00",
        "limit": "2026-11-28T12:00:00+00:00",
        "count": 0,
    }
    assert list(body) == ["side", "price", "stop", "at", "limit", "count"]
    assert type(body["side"]) is str


@pytest.mark.parametrize("fields", [{"other": 1}, {"side": "UP"}, {"price": Decimal("NaN")}])
def test_a_body_takes_nothing_that_its_description_lacks(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        sample(**fields)


def test_a_bound_is_described_and_refuses_no_body_of_a_trade_that_was_made() -> None:
    assert sample(count=-1).to_json()["count"] == -1
    assert Sample.model_json_schema(mode="serialization")["properties"]["count"]["minimum"] == 0


def test_the_description_says_what_is_sent() -> None:
    schema = Sample.model_json_schema(mode="serialization")
    assert schema["required"] == ["side", "price", "stop", "at", "limit", "count"]
    assert schema["additionalProperties"] is False
    properties = {name: {**each, "title": None} for name, each in schema["properties"].items()}
    assert properties["price"] == {"type": "number", "title": None}
    assert properties["note"] == {"type": "string", "title": None}
    assert properties["stop"]["anyOf"] == [{"type": "number"}, {"type": "null"}]
    assert properties["at"] == {"type": "string", "format": "date-time", "title": None}
