"""What a sender is told about a field, an address or a secret: our sentences, each with the next step."""

import re
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from engine.domain import symbol_names
from engine.platform.errors import ConfigurationError
from engine.venues.ccxt_client.client import open_ccxt_client
from tests.webhook_server.conftest import Site
from webhook_server.http import openapi
from webhook_server.intake.field_errors import FieldError
from webhook_server.intake.schemas import AiSignal, WebhookSignal
from webhook_server.intake.signal_parser import parse_signal

DOCUMENT = Path(__file__).parents[3] / "docs" / "webhooks.md"
ENTRY: dict[str, Any] = {"exchange": "aster", "symbol": "BTCUSDT", "action": "BUY", "size": 100}
NAMES = sorted(
    {
        *AiSignal.model_fields,
        *("size", "size_usd", "userId", "orderType", "useTrailingStop", "market_position", "sentiment", "qty", "tp"),
    }
)
OF_PYDANTIC = re.compile(r"Input|should|String|Value error|Decimal\(|valid |unable|pattern|\^|Assertion|[Uu]rl")
SENT = "Zyxw"  # in no sentence of ours
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
WORDS = (
    *("", " ", "1", "0", "-1", "1.5", "1e5", "true", "maybe", "long", "LIMIT", "stop", "2026-13-01", "\ud800", "\0"),
    *("{{x}}", SENT, f"{SENT} should", "testnet", "b" * 200, "0" * 31, "2026-02-30T00:00:00Z"),
)
NEAR = st.sampled_from([*WORDS, 0, -1, 1.5, 101, 1000, 10**12, True, False, [], {}, [SENT], {SENT: SENT}])


def told(**fields: Any) -> str:
    """What an entry with `fields` is refused with."""
    with pytest.raises(FieldError) as refusal:
        parse_signal(ENTRY | fields, WebhookSignal)
    return f"{refusal.value.field_name}: {refusal.value.message}"


def refusal_of(body: dict[str, Any], schema: type[WebhookSignal]) -> str:
    """Every reason why `body` is refused; empty when it is not."""
    try:
        parse_signal(body, schema)
    except FieldError as error:
        return error.message
    return ""


@given(st.dictionaries(st.sampled_from(NAMES), JSON | NEAR, max_size=6), st.sampled_from(["buy", "sell", "close", 5]))
def test_no_value_of_any_field_is_refused_in_pydantics_words_or_repeated(
    fields: dict[str, Any], action: object
) -> None:
    for schema in (WebhookSignal, AiSignal):
        message = refusal_of(ENTRY | {"action": action} | fields, schema)
        assert OF_PYDANTIC.search(message) is None, message
        assert SENT not in message


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("signal_id", "a b", "must be 1 to 100 letters, digits and . _ : ~ -"),
        (
            "exchange",
            "not an exchange",
            "must be 2 to 30 letters and digits, the exchange's name in ccxt, such as aster",
        ),
        ("exchange", 5, "must be text"),
        ("stop_loss_percent", 0, "must be at least 0.00000001"),
        ("stop_loss_percent", 100, "must be below 100"),
        ("take_profit_percent", 2000, "must be at most 1000"),
        ("leverage", 126, "must be at most 125"),
        ("leverage", 1.5, "must be a whole number"),
        ("leverage", [], "must be a whole number"),
        ("price", [], "must be a number"),
        ("useTrailingStop", "maybe", "must be true or false"),
        ("environment", "live", "must be production, testnet or paper"),
        ("order_type", "stop", "must be MARKET or LIMIT"),
        ("strategy_id", 5, "must be a UUID"),
        ("timestamp", "2026-13-45", "must be ISO 8601, or seconds or milliseconds since 1970"),
        ("timestamp", {}, "must be ISO 8601, or seconds or milliseconds since 1970"),
        ("strategy", 5, "must be text"),
        ("strategy", "\ud800", "has characters that cannot be stored"),
        ("size", None, "is missing; an entry needs it, above 0"),
        ("size", 0, "must be above 0 for an entry"),
        ("size", -1, "must be above 0 for an entry"),
        ("market_position", "up", "must be long (or bullish), short (or bearish) or flat"),
    ],
)
def test_a_wrong_value_is_told_what_is_right(field: str, value: object, reason: str) -> None:
    name = "position_size_usd" if value is None else field
    assert told(**{field: value}) == f"{name}: {reason}"


def test_a_share_of_nothing_is_told_what_is_right() -> None:
    assert told(action="CLOSE", sell_percentage=0) == "sell_percentage: must be above 0"


@pytest.mark.parametrize(
    "name",
    ["size", "exchange", "symbol", "action", "leverage", "price", "timestamp", "signal_id", "environment", "sentiment"],
)
def test_a_placeholder_that_was_not_filled_in_is_told_as_one(name: str) -> None:
    assert told(**{name: "{{strategy.order.x}}"}) == f"{name}: holds a placeholder that was not filled in"


@pytest.mark.parametrize("name", ["symbol", "exchange", "sell_percentage", "strategy_id", "environment"])
def test_a_placeholder_in_what_concerns_an_exit_is_told_as_one(name: str) -> None:
    assert told(action="close", **{name: "{{x}}"}) == f"{name}: holds a placeholder that was not filled in"


def test_a_placeholder_as_user_is_told_as_one(site: Site) -> None:
    answer = site.sender.post(user_id="{{user}}").json()
    assert answer["error"] == "user_id: holds a placeholder that was not filled in"


@pytest.mark.parametrize(
    "same",
    [
        {"position_size_usd": 100},
        {"position_size_usd": 100, "size": "100"},
        {"position_size_usd": "100.00", "size": 1e2},
        {"order_type": "MARKET", "orderType": " market"},
        {"useTrailingStop": False, "use_trailing_stop": "false"},
        {"market_position": "long", "sentiment": "LONG"},
    ],
)
def test_two_names_of_a_field_with_one_value_are_one(same: dict[str, Any]) -> None:
    assert parse_signal(ENTRY | {"size": 100.0} | same, WebhookSignal).position_size_usd == 100


@pytest.mark.parametrize("other", [{"position_size_usd": 100.1}, {"size_usd": "x"}, {"size_usd": True}])
def test_two_names_of_a_field_with_two_values_are_refused(other: dict[str, Any]) -> None:
    assert "which means the same" in told(**other)


def test_the_sentence_about_symbols_names_every_form_and_each_is_understood() -> None:
    forms = re.findall(r"[A-Z][A-Z0-9./:_-]+", symbol_names.ACCEPTED_FORMS)
    assert {symbol_names.normalize_symbol(form) for form in forms} == {"BTCUSDT"}
    paragraph = next(each for each in DOCUMENT.read_text("utf-8").split("\n\n") if each.startswith("**Symbols.**"))
    documented = re.findall(r"`([^`]+)`", paragraph.partition(" in any case")[0])
    assert set(forms) == {*documented, "BINANCE:BTCUSDT"}


def test_the_page_says_that_entries_with_a_trailing_stop_are_refused(site: Site) -> None:
    page = requests.get(f"{site.url}/docs", timeout=60).text
    for name in ("useTrailingStop", "trailing_stop_percent"):
        row = page.partition(f"<code>{name}</code>")[2].partition("</tr>")[0]
        assert "Every entry with it is refused" in row


def test_every_field_on_the_page_is_in_the_document() -> None:
    table = DOCUMENT.read_text("utf-8").partition("\n| field | meaning |")[2].partition("\n\n**Symbols.**")[0]
    assert {
        name
        for name in openapi.build_signal_request(WebhookSignal)["requestBody"]["content"]["application/json"]["schema"][
            "properties"
        ]
        if f"`{name}`" not in table
    } == {"use_trailing_stop"}


@pytest.mark.parametrize(("written", "near"), [("astr", "aster"), ("binanse", "binance"), ("qqqqqq", None)])
def test_an_unknown_exchange_is_told_the_near_one(written: str, near: str | None) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        open_ccxt_client(written)
    assert str(refusal.value).startswith(f"No exchange is called '{written}'")
    assert (f"did you mean '{near}'?" in str(refusal.value)) is (near is not None)


def test_an_unknown_exchange_gets_no_hint_about_credentials(site: Site) -> None:
    answer = site.sender.post(exchange="astr")
    assert (answer.status_code, answer.json()["field"]) == (400, "exchange")
    assert "hint" not in answer.json()
    live = site.sender.post(environment="production")
    assert "sparky credentials set" in live.json()["hint"]


def test_who_reads_positions_without_a_secret_is_told_the_header(site: Site) -> None:
    for headers in ({}, {"X-Webhook-Secret": "wrong"}):
        answer = requests.get(f"{site.url}/positions", headers=headers, timeout=60)
        assert answer.status_code == 401
        assert answer.json()["hint"].startswith("Send the webhook secret in the header X-Webhook-Secret.")
    assert requests.get(f"{site.url}/positions", timeout=60).json()["error"] == "No webhook secret was sent"


def test_a_wrong_secret_is_told_how_to_get_one(site: Site) -> None:
    assert "`sparky credentials set webhook --new`" in site.sender.post(secret="whsec_wrong").json()["hint"]


@pytest.mark.parametrize(
    ("method", "path", "word"),
    [
        ("POST", "/", "/webhook/ai-signal"),
        ("POST", "/webhooks", "/webhook/ai-signal"),
        ("POST", "/webhook/", "/webhook/ai-signal"),
        ("GET", "/webhook", "POST"),
        ("PUT", "/webhook/ai-signal", "POST"),
    ],
)
def test_a_wrong_address_or_method_is_told_the_right_one(site: Site, method: str, path: str, word: str) -> None:
    assert word in requests.request(method, site.url + path, timeout=60).json()["hint"]
