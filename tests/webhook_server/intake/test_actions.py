"""Words for what to do: a position that is to be flat is closed, and nothing is opened that was not asked for."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from engine.domain.signal import SignalAction
from tests.webhook_server.conftest import Site
from webhook_server.intake.field_errors import FieldError
from webhook_server.intake.schemas import WebhookSignal, load_stored_signal
from webhook_server.intake.signal_parser import parse_signal

BODY: dict[str, Any] = {"exchange": "aster", "symbol": "BTCUSDT"}
ENTRY = BODY | {"position_size_usd": 100}


@pytest.mark.parametrize(("entry", "exit_with"), [("buy", "sell"), ("sell", "buy")])
@pytest.mark.parametrize("name", ["market_position", "marketPosition", "sentiment"])
def test_a_position_that_is_to_be_flat_is_closed_and_none_is_opened(
    site: Site, entry: str, exit_with: str, name: str
) -> None:
    site.sender.post(action=entry)
    body = site.sender.post(action=exit_with, **{name: "flat"}).json()
    assert (body["action"], site.store.list_open_positions()) == ("closed", ())


@pytest.mark.parametrize("word", ["exit", "EXIT", "flat", " Flat ", "close"])
def test_the_words_for_an_exit_close(site: Site, word: str) -> None:
    site.sender.post()
    body = site.sender.post(action=word, position_size_usd=None, market_position="{{strategy.market_position}}").json()
    assert (body["action"], site.store.list_open_positions()) == ("closed", ())


@pytest.mark.parametrize(
    ("action", "position", "meant"),
    [
        ("buy", "long", "BUY"),
        ("sell", "short", "SELL"),
        ("LONG", "Long", "BUY"),
        ("short", "SHORT", "SELL"),
        ("buy", "bullish", "BUY"),
        ("sell", "flat", "CLOSE"),
        ("buy", " FLAT ", "CLOSE"),
        ("long", "flat", "CLOSE"),
        ("buy", "", "BUY"),
        ("sell", None, "SELL"),
        ("close", "long", "CLOSE"),
        ("exit", 7, "CLOSE"),
    ],
)
def test_what_action_and_market_position_mean_together(action: str, position: object, meant: str) -> None:
    body = ENTRY | {"action": action, "market_position": position, "prev_market_position": "long"}
    assert parse_signal(body, WebhookSignal).action is SignalAction(meant)


@pytest.mark.parametrize(("action", "position"), [("sell", "long"), ("buy", "short")])
def test_part_of_a_position_is_closed_by_its_percentage_only(action: str, position: str) -> None:
    body = ENTRY | {"action": action, "market_position": position}
    order = parse_signal(body | {"sell_percentage": "25"}, WebhookSignal)
    assert (order.action, order.sell_percentage) == (SignalAction.CLOSE, Decimal(25))
    with pytest.raises(FieldError, match="sell_percentage") as refusal:
        parse_signal(body, WebhookSignal)
    assert refusal.value.field_name == "market_position"


@pytest.mark.parametrize(
    ("action", "position"),
    [
        ("long", "short"),
        ("short", "long"),
        ("buy", "{{strategy.market_position}}"),
        ("sell", "neutral"),
        ("buy", 0),
        ("sell", -1),
        ("buy", ["flat"]),
        ("sell", "fl\u0430t"),
        ("sell", "NaN"),
    ],
)
def test_a_market_position_that_contradicts_or_is_unknown_is_refused(action: str, position: object) -> None:
    with pytest.raises(FieldError) as refusal:
        parse_signal(ENTRY | {"action": action, "market_position": position}, WebhookSignal)
    assert refusal.value.field_name == "market_position"


@pytest.mark.parametrize(
    "action",
    ["close_long", "exit_long", "ENTER_LONG", "EXIT_SHORT", "closelong", "{{strategy.order.action}}", "", None, "hold"],
)
@pytest.mark.parametrize("position", ["flat", "long", None])
def test_no_action_and_an_unknown_one_are_refused(action: str | None, position: str | None) -> None:
    with pytest.raises(FieldError) as refusal:
        parse_signal(ENTRY | {"action": action, "market_position": position}, WebhookSignal)
    assert refusal.value.field_name == "action"


def test_flat_leaves_nothing_whatever_part_the_template_names(site: Site) -> None:
    site.sender.post()
    site.sender.post(action="sell", market_position="long", sell_percentage="50")
    (half,) = site.store.list_open_positions()
    assert half.quantity == Decimal("0.020")
    assert site.sender.post(action="sell", market_position="flat", sell_percentage="50").json()["action"] == "closed"
    assert site.store.list_open_positions() == ()


TEMPLATE: str = next(
    text
    for text in re.findall(
        r"\{\s*\"secret\".*?\}(?=\n```)", (Path(__file__).parents[3] / "docs/webhooks.md").read_text(), re.DOTALL
    )
    if "strategy.market_position" in text
)


def rendered(site: Site, action: str, market_position: str, position_size: str) -> str:
    """The documented alert of a strategy as TradingView fills it in."""
    filled_in = {
        "whsec_\u2026": site.sender.secret.get_secret_value(),
        "{{exchange}}": "BYBIT",
        "{{ticker}}": "BTCUSDT.P",
        "{{interval}}": "1D",
        "{{strategy.order.action}}": action,
        "{{strategy.market_position}}": market_position,
        "{{strategy.position_size}}": position_size,
        "{{timenow}}": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    text = TEMPLATE
    for placeholder, value in filled_in.items():
        text = text.replace(placeholder, value)
    assert "{{" not in text
    return text


def test_the_documented_alert_of_a_strategy_enters_reverses_and_exits(site: Site) -> None:
    did = []
    for action, position, size in (
        ("buy", "long", "0.01"),
        ("sell", "short", "-0.01"),
        ("buy", "flat", "0"),
        ("sell", "short", "-0.0000015"),
    ):
        text = rendered(site, action, position, size).encode()
        first = requests.post(f"{site.url}/webhook", data=text, timeout=60)
        again = requests.post(f"{site.url}/webhook", data=text, timeout=60)
        assert (again.status_code, again.json()) == (200, first.json())
        did.append((first.json()["action"], [held.side.value for held in site.store.list_open_positions()]))
    assert did == [("opened", ["LONG"]), ("opened", ["SHORT"]), ("closed", []), ("opened", ["SHORT"])]


@pytest.mark.parametrize("share", ["50", 0.5, "NaN"])
def test_a_sale_of_a_part_is_no_entry(share: object) -> None:
    body = ENTRY | {"action": "sell", "sell_percentage": share}
    with pytest.raises(FieldError) as refusal:
        parse_signal(body, WebhookSignal)
    assert refusal.value.field_name == "sell_percentage"


@pytest.mark.parametrize(("action", "share"), [("sell", 100), ("sell", "100.0"), ("long", 50), ("short", "50")])
def test_a_part_that_no_entry_has_is_ignored_elsewhere(action: str, share: object) -> None:
    assert parse_signal(ENTRY | {"action": action, "sell_percentage": share}, WebhookSignal).is_entry
    for word, position in (("sell", "short"), ("buy", "long")):
        assert parse_signal(
            ENTRY | {"action": word, "market_position": position, "sell_percentage": share}, WebhookSignal
        ).is_entry


def test_two_market_positions_must_be_the_same() -> None:
    with pytest.raises(FieldError) as refusal:
        parse_signal(ENTRY | {"action": "buy", "market_position": "long", "marketPosition": "flat"}, WebhookSignal)
    assert refusal.value.field_name == "marketPosition"


def test_the_stored_order_keeps_what_was_meant() -> None:
    order = parse_signal(BODY | {"action": "sell", "market_position": "flat"}, WebhookSignal)
    again = load_stored_signal(order.model_dump(mode="json", exclude_none=True), may_have_traded=False)
    assert (again, again.action) == (order, SignalAction.CLOSE)


def test_what_an_older_version_stored_is_still_read() -> None:
    stored = ENTRY | {"action": "BUY", "symbol": "BTC", "position_size_usd": "1E+2", "trailing_stop_percent": "1"}
    order = load_stored_signal(stored, may_have_traded=False)
    assert (order.symbol, order.position_size_usd) == ("BTC", Decimal(100))
