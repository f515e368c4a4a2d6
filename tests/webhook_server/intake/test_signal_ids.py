"""A signal that its sender gave no id: what repeats it is one signal, what is new is another."""

import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from engine.platform.settings.settings import Settings
from engine.venues.orders import OrderRequest, build_client_order_id
from tests.webhook_server.conftest import Front, Sender, Site, until
from tests.webhook_server.market import Venues
from webhook_server.app import build
from webhook_server.clock import SystemClock
from webhook_server.intake import signal_ids

DOCUMENT = Path(__file__).parents[3] / "docs" / "webhooks.md"
MOMENT = datetime.now(UTC).replace(microsecond=0)
RENDERED = {
    "exchange": "ASTER",
    "ticker": "BTCUSDT",
    "interval": "15",
    "timenow": MOMENT.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "strategy.order.action": "buy",
    "strategy.market_position": "long",
    "strategy.position_size": "0.25",
}


def documented_alerts() -> Iterator[str]:
    """Every alert message in the document, as TradingView renders it."""
    for block in re.findall(r"```\n(\{.*?\})\n```", DOCUMENT.read_text(), re.DOTALL):
        if "{{" in block:
            yield re.sub(r"\{\{([\w.]+)\}\}", lambda found: RENDERED[found.group(1)], block)


def post(sender: Sender, text: str) -> requests.Response:
    return requests.post(
        f"{sender.url}/webhook", data=text.encode(), headers={"Content-Type": "text/plain"}, timeout=60
    )


@pytest.fixture
def live(site: Site) -> Site:
    site.credentials()
    return site


def alert(site: Site, **fields: Any) -> str:
    """An entry of a charting service into the live book; None removes a field."""
    given = {"environment": "production", "timestamp": MOMENT.isoformat()} | fields
    return json.dumps(site.sender.body(user_id=None, **given))


def aged(site: Site, seconds: float) -> None:
    """All that has been asked so far was asked and answered `seconds` ago."""
    site.sql(
        "update webhook_requests set created_at = created_at - %s, processed_at = processed_at - %s",
        timedelta(seconds=seconds),
        timedelta(seconds=seconds),
    )


def test_the_documented_alert_that_is_sent_again_enters_once(live: Site) -> None:
    entries = [each for each in documented_alerts() if json.loads(each)["action"] != "CLOSE"]
    assert entries
    for text in entries:
        body = json.loads(text) | {"secret": live.sender.secret.get_secret_value(), "environment": "production"}
        before = len(live.account.orders)
        live.account.mood = "lost"
        assert [post(live.sender, json.dumps(body)).status_code for _ in range(2)] == [503, 503]
        live.account.mood = "fill"
        answers = [post(live.sender, json.dumps(body)) for _ in range(2)]
        assert [each.status_code for each in answers] == [200, 200], answers[0].text
        assert answers[0].json() == answers[1].json()
        assert len(live.account.orders) == before + 1
        live.sender.post(action="CLOSE", environment="production")


def test_every_documented_alert_names_its_signal() -> None:
    alerts = [json.loads(text) for text in documented_alerts()]
    assert alerts
    assert all(each["signal_id"].endswith(each["timestamp"]) for each in alerts)


def test_an_alert_with_its_moment_is_one_signal_however_late_it_is_repeated(live: Site) -> None:
    first = post(live.sender, alert(live)).json()
    aged(live, 3600)
    assert post(live.sender, alert(live)).json() == first
    later = post(live.sender, alert(live, timestamp=(MOMENT + timedelta(seconds=1)).isoformat())).json()
    assert (later["action"], later["signal_id"] == first["signal_id"]) == ("opened", False)
    assert len(live.account.orders) == 2


def test_an_alert_without_a_moment_is_repeated_until_its_sender_hears_its_end(live: Site) -> None:
    text = alert(live, timestamp=None)
    live.account.mood = "lost"
    assert post(live.sender, text).status_code == 503
    aged(live, 480)  # the venue tells of the fill 8 minutes later
    live.account.mood = "fill"
    first = post(live.sender, text).json()
    assert (first["action"], len(live.account.orders)) == ("opened", 1)
    second = post(live.sender, text).json()
    assert (second["signal_id"] == first["signal_id"], len(live.account.orders)) == (False, 2)


@pytest.mark.parametrize("is_restarted", [False, True])
def test_an_end_that_its_sender_did_not_hear_is_told_once(
    live: Site, front: tuple[Front, str], *, is_restarted: bool
) -> None:
    text = alert(live, timestamp=None)
    live.account.mood = "lost"
    assert post(live.sender, text).status_code == 503
    if is_restarted:
        restart(live, front[0])
    live.account.mood = "fill"
    assert live.server.recovery.run() == 1
    first = post(live.sender, text)
    assert (first.json()["action"], first.headers["Idempotent-Replayed"]) == ("opened", "true")
    assert len(live.account.orders) == 1
    assert post(live.sender, text).json()["signal_id"] != first.json()["signal_id"]
    assert len(live.account.orders) == 2


def restart(site: Site, front: Front) -> None:
    """A new server in the place of the old one; only the database remembers."""
    site.server.workers.shutdown()
    site.server = build(Settings(), site.store, Venues(site.market, site.account), SystemClock())
    front.app = site.server.app


def test_a_whole_exit_without_id_or_moment_is_made_each_time(site: Site) -> None:
    close = alert(site, action="CLOSE", position_size_usd=None, environment=None, timestamp=None)
    for size in (500, 600):
        assert site.sender.post(position_size_usd=size).json()["action"] == "opened"
        assert post(site.sender, close).json()["action"] == "closed"
    assert site.store.list_open_positions() == ()


@pytest.mark.parametrize("name", ["Long Exit", "x" * 101, 7, "caf\u00e9", ["a"]])
def test_an_id_that_cannot_be_kept_stops_no_exit(site: Site, name: Any) -> None:
    site.sender.post()
    body = site.sender.body(action="CLOSE", signal_id=name, position_size_usd=None)
    headers = {"webhook-id": "not one either"}
    assert requests.post(f"{site.url}/webhook", json=body, headers=headers, timeout=60).json()["action"] == "closed"
    assert site.sender.post(signal_id=name).json()["field"] == "signal_id"


def test_half_an_exit_with_its_moment_is_made_once(site: Site) -> None:
    site.sender.post()
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    close = alert(site, action="CLOSE", sell_percentage=50, environment=None, timestamp=moment)
    first = post(site.sender, close).json()
    assert (first["action"], post(site.sender, close).json()) == ("closed", first)


def test_a_moment_that_is_long_past_tells_no_signal_from_the_next(site: Site) -> None:
    """As in a message that was copied with its example: a repetition after a final answer is meant."""
    text = alert(site, environment=None, timestamp="2024-01-01T00:00:00Z", position_size_usd=100)
    first, second = (post(site.sender, text).json() for _ in range(2))
    assert first["signal_id"] != second["signal_id"]
    assert second["position"]["quantity"] > first["position"]["quantity"]


def test_half_an_exit_is_not_made_twice(live: Site) -> None:
    live.sender.post(environment="production")
    close = alert(live, action="CLOSE", sell_percentage=50, timestamp=None)
    live.account.mood = "lost"
    assert post(live.sender, close).status_code == 503
    live.account.mood = "fill"
    assert live.server.recovery.run() == 1
    assert post(live.sender, close).json()["action"] == "closed"
    assert len(live.account.orders) == 2


def test_an_alert_that_is_repeated_while_it_is_executed_enters_once(site: Site) -> None:
    text = alert(site, environment=None, timestamp=None)
    site.market.gate = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(post, site.sender, text)
        until(site.market.asked.is_set)
        aged(site, 2)
        assert post(site.sender, text).status_code == 503  # the first is being executed
        site.market.gate.set()
        assert first.result().json()["action"] == "opened"
    assert site.sql("select count(*) from fills") == [(1,)]


def test_equal_alerts_that_come_together_are_signals_of_their_own(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal_ids, "MIN_RETRY_S", 600.0)  # together, however slow this machine is
    text = alert(site, environment=None, timestamp=None, position_size_usd=100)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: post(site.sender, text), range(4)))
    assert {each.status_code for each in answers} == {200}
    assert len({each.json()["signal_id"] for each in answers}) == 4


def test_two_people_with_one_signal_id_have_orders_of_their_own(site: Site) -> None:
    mine = site.sender.post(signal_id="a").json()["order_id"]
    theirs = site.user().post(signal_id="a").json()["order_id"]
    assert mine != theirs


def test_an_order_that_an_older_release_sent_is_found_under_its_old_name(live: Site) -> None:
    live.account.mood = "away"
    live.sender.post(environment="production", signal_id="a", stop_loss_percent=2)
    live.sql("update webhook_requests set status = 'submitted', answer = null, answer_status = null")
    live.account.mood = "fill"
    live.account.place_market_order(
        OrderRequest(client_order_id=build_client_order_id("a", "o"), symbol="BTCUSDT", is_buy=True, quantity="0.02")
    )
    body = live.sender.post(environment="production", signal_id="a", stop_loss_percent=2).json()
    assert (body["action"], body["order_id"], len(live.account.orders)) == ("opened", "1000", 1)
    assert set(live.account.protections) == {build_client_order_id("a", "l")}


def test_svix_headers_are_the_standard_ones_under_another_name(site: Site) -> None:
    body = json.dumps(site.sender.body(secret=None))
    signed = site.sender.signed(body, "msg_1")
    named = {name.replace("webhook-", "svix-"): text for name, text in signed.items()}

    def send(headers: dict[str, str]) -> requests.Response:
        return requests.post(f"{site.url}/webhook", data=body, headers=headers, timeout=60)

    first = send(named)
    assert (first.status_code, first.json().get("signal_id")) == (200, "msg_1"), first.text
    assert send(signed | named).json() == first.json()
    assert send(named | {"svix-signature": "v1,AAAA"}).status_code == 401
    differing = send(signed | {"svix-id": "msg_2"})
    assert (differing.status_code, differing.json()["field"]) == (400, "svix-id")
    mixed = {"svix-id": "msg_1", "webhook-timestamp": signed["webhook-timestamp"]}
    assert send(mixed | {"svix-signature": signed["webhook-signature"]}).json() == first.json()
    until(lambda: site.sql("select count(*) from fills") == [(1,)])
