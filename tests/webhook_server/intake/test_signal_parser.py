"""A sender's object becomes a signal, or an error that names every faulty field."""

from decimal import Decimal
from typing import Any

import pytest

from webhook_server.intake.field_errors import FieldError
from webhook_server.intake.schemas import WebhookSignal
from webhook_server.intake.signal_parser import list_unknown_names, parse_signal

ENTRY: dict[str, Any] = {"exchange": "aster", "symbol": "BTCUSDT", "action": "BUY", "position_size_usd": 100}


def test_a_fault_never_repeats_the_value() -> None:
    with pytest.raises(FieldError) as refusal:
        parse_signal(ENTRY | {"strategy_id": "whsec_hidden"}, WebhookSignal)
    assert "whsec_hidden" not in str(refusal.value)


@pytest.mark.parametrize("name", ["position_size_usd", "size", "size_usd"])
def test_the_size_has_several_names_and_may_be_text(name: str) -> None:
    order = parse_signal({"exchange": "aster", "symbol": "BTCUSDT", "action": "BUY", name: " 12.5 "}, WebhookSignal)
    assert order.position_size_usd == Decimal("12.5")


def test_empty_fields_are_absent_fields() -> None:
    order = parse_signal(ENTRY | {"stop_loss_percent": "", "strategy_id": None}, WebhookSignal)
    assert order.stop_loss_percent is None
    assert order.strategy_id is None


def test_two_names_of_one_field_must_say_the_same() -> None:
    assert parse_signal(ENTRY | {"size": "100"}, WebhookSignal).position_size_usd == 100
    with pytest.raises(FieldError) as refusal:
        parse_signal(ENTRY | {"size": 5}, WebhookSignal)
    assert refusal.value.field_name == "size"


def test_a_close_needs_no_size() -> None:
    assert parse_signal({"exchange": "aster", "symbol": "BTCUSDT", "action": "CLOSE"}, WebhookSignal).is_entry is False


def test_unknown_fields_are_ignored_and_listed_by_name() -> None:
    body = ENTRY | {"comment": "x", "orderType": "MARKET", "zeta": 1}
    assert parse_signal(body, WebhookSignal).symbol == "BTCUSDT"
    assert list_unknown_names(body) == ["'comment'", "'zeta'"]
