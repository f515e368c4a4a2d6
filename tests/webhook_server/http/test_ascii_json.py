"""An answer is read with curl in a terminal: what others wrote comes back escaped, and is the same JSON."""

import pytest
import requests

from tests.support.factories.hostile import HOSTILE, unsafe
from tests.webhook_server.conftest import Site


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/webhook", {HOSTILE: HOSTILE}),
        ("/webhook", {"secret": HOSTILE, "exchange": "aster", "symbol": "BTCUSDT", "action": "BUY", "size": 1}),
        ("/webhook", {"exchange": HOSTILE, "symbol": HOSTILE, "action": HOSTILE}),
        ("/webhook/ai-signal", {"user_id": HOSTILE}),
    ],
)
def test_a_refusal_is_escaped(site: Site, path: str, body: dict[str, object]) -> None:
    answer = requests.post(site.url + path, json=body, timeout=60)
    assert answer.status_code in (400, 401)
    assert answer.content.isascii()
    assert unsafe(answer.text) == []


def test_what_a_position_is_called_is_escaped_and_the_same(site: Site) -> None:
    assert site.sender.post(signal_id="one").json()["success"]
    site.sql("update positions set symbol = %s", HOSTILE)
    headers = {"X-Webhook-Secret": site.sender.secret.get_secret_value()}
    answer = requests.get(f"{site.url}/positions", headers=headers, timeout=60)
    assert answer.content.isascii()
    assert unsafe(answer.text) == []
    assert [each["symbol"] for each in answer.json()["positions"]] == [HOSTILE]


def test_every_other_answer_is_escaped(site: Site) -> None:
    for path in ("/health", "/health/live", "/health/ai-worker", "/openapi.json", "/%1b%5b2J", "/positions"):
        text = requests.get(site.url + path, timeout=60)
        assert unsafe(text.text) == [], path
        assert text.content.isascii(), path
