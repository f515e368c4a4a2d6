"""What a sender may write, field by field, and what it is understood as."""

from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from webhook_server.intake.field_errors import FieldError
from webhook_server.intake.schemas import AiSignal, WebhookSignal, load_stored_signal
from webhook_server.intake.signal_parser import list_unknown_names, parse_signal

ENTRY: dict[str, Any] = {"exchange": "aster", "symbol": "BTCUSDT", "action": "BUY", "position_size_usd": 100}


def test_the_route_says_what_is_an_ai_signal_and_no_sender_can() -> None:
    for claim in (True, False, "no"):
        assert not parse_signal(ENTRY | {"is_ai_signal": claim}, WebhookSignal).is_ai_signal
        signal = parse_signal(ENTRY | {"user_id": str(uuid4()), "is_ai_signal": claim}, AiSignal)
        assert signal.is_ai_signal
        kept = signal.model_dump(mode="json", exclude_none=True)
        assert load_stored_signal(kept, may_have_traded=False).is_ai_signal
    assert list_unknown_names({"is_ai_signal": True}) == ["'is_ai_signal'"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("action", "HOLD"),
        ("action", None),
        ("action", 1),
        ("symbol", None),
        ("symbol", "BTC/EURX"),
        ("symbol", "BINANCE:"),
        ("symbol", "BTCU\u017fDT"),
        ("exchange", None),
        ("exchange", "a ster"),
        ("position_size_usd", None),
        ("position_size_usd", 0),
        ("position_size_usd", -1),
        ("position_size_usd", "much"),
        ("position_size_usd", True),
        ("position_size_usd", "1e30"),
        ("position_size_usd", "NaN"),
        ("position_size_usd", [100]),
        ("stop_loss_percent", 100),
        ("take_profit_percent", 0),
        ("sell_percentage", 101),
        ("strategy_id", "mine"),
        ("expires_at", "soon"),
        ("timestamp", 10**20),
        ("timestamp", 10**4000),
        ("timestamp", -(10**4000)),
        ("timestamp", "9" * 4000),
        ("expires_at", "9999-12-31T23:59:59-12:00"),
        ("expires_at", "0001-01-01T00:00:00+12:00"),
        ("timestamp", True),
        ("leverage", 0),
        ("leverage", 2.5),
        ("signal_id", "with space"),
        ("signal_id", "x" * 101),
        ("ai_confidence", 1.5),
        ("ai_reasoning", "nul \x00"),
        ("ai_reasoning", "half \ud800"),
        ("useTrailingStop", True),
        ("environment", "elsewhere"),
        ("orderType", "STOP"),
        ("user_id", "me"),
    ],
)
def test_a_field_that_cannot_be_used_is_named(field: str, value: object) -> None:
    with pytest.raises(FieldError) as refusal:
        parse_signal(ENTRY | {field: value}, WebhookSignal)
    assert refusal.value.field_name.replace("order_type", "orderType") == field


def test_a_limit_order_needs_its_price() -> None:
    with pytest.raises(FieldError) as refusal:
        parse_signal(ENTRY | {"orderType": "LIMIT"}, WebhookSignal)
    assert refusal.value.field_name == "price"


def test_a_short_cannot_gain_all_of_its_price() -> None:
    assert parse_signal(
        ENTRY | {"action": "SELL", "take_profit_percent": "99.9"}, WebhookSignal
    ).take_profit_percent == Decimal("99.9")
    assert parse_signal(ENTRY | {"take_profit_percent": 300}, WebhookSignal).take_profit_percent == 300
    with pytest.raises(FieldError) as refusal:
        parse_signal(ENTRY | {"action": "SHORT", "take_profit_percent": 100}, WebhookSignal)
    assert refusal.value.field_name == "take_profit_percent"


def test_the_engines_signals_name_their_user() -> None:
    with pytest.raises(FieldError) as refusal:
        parse_signal(ENTRY, AiSignal)
    assert refusal.value.field_name == "user_id"


def test_an_order_survives_its_stored_form() -> None:
    order = parse_signal(
        ENTRY | {"expires_at": 1_700_000_000, "position_size_usd": "0.1", "stop_loss_percent": "1.5"}, WebhookSignal
    )
    assert WebhookSignal.model_validate(order.model_dump(mode="json", exclude_none=True)) == order
