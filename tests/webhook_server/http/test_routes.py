"""What can be looked at: health that can fail, positions behind a secret, metrics, and the documented API."""

import requests
from pydantic import SecretStr

from engine.platform.http.service import HttpService
from engine.platform.settings.settings import Settings
from engine.store.store import Store
from engine.store.transport.postgres import PostgresRpc
from tests.webhook_server.conftest import Site
from tests.webhook_server.market import LiveAccount, Market, Venues
from webhook_server.app import build
from webhook_server.clock import SystemClock
from webhook_server.http.routes import LIVE_PATH


def test_without_its_database_the_server_is_unhealthy_and_asks_senders_to_come_again() -> None:
    with Store(PostgresRpc(SecretStr("postgresql://nobody@/none?host=/nowhere"), keep=True, timeout_s=1)) as gone:
        market = Market()
        server = build(Settings(), gone, Venues(market, LiveAccount(market)), SystemClock())
        http = HttpService(server.app, "127.0.0.1", 0, "SPARKY_WEBHOOK_PORT", "/health")
        http.start()
        try:
            health = requests.get(f"{http.url}/health", timeout=60)
            assert (health.status_code, health.json()["openPositions"]) == (503, None)
            worker = requests.get(f"{http.url}/health/ai-worker", timeout=60)
            unknown = {"activeStrategies": None, "lastCycle": None, "metrics": {"signalsPending": None}}
            assert (worker.status_code, unknown.items() <= worker.json().items()) == (503, True)
            assert not http.is_healthy()
            assert requests.get(f"{http.url}{LIVE_PATH}", timeout=60).status_code == 200  # what its supervisor asks
            signal = requests.post(f"{http.url}/webhook", json={"secret": "x"}, timeout=60)
            assert (signal.status_code, signal.json()["success"]) == (503, False)
            assert int(signal.headers["retry-after"]) > 0
            positions = requests.get(f"{http.url}/positions", headers={"x-webhook-secret": "x"}, timeout=60)
            assert positions.status_code == 503
        finally:
            http.stop(5)
            server.workers.shutdown()


def test_positions_are_shown_to_their_owner_only(site: Site) -> None:
    site.sender.post()
    stranger = site.user()
    for headers in ({}, {"x-webhook-secret": "wrong"}):
        refused = requests.get(f"{site.url}/positions", headers=headers, timeout=60)
        assert (refused.status_code, refused.json()["success"]) == (401, False)
    mine = {"x-webhook-secret": site.sender.secret.get_secret_value()}
    found = requests.get(f"{site.url}/positions", headers=mine, timeout=60).json()
    assert found["count"] == 1
    assert (found["positions"][0]["symbol"], found["positions"][0]["quantity"]) == ("BTCUSDT", 0.039)
    theirs = {"x-webhook-secret": stranger.secret.get_secret_value()}
    assert requests.get(f"{site.url}/positions", headers=theirs, timeout=60).json()["count"] == 0


def test_metrics_count_answers_fills_and_refusals(site: Site) -> None:
    site.sender.post(signal_id="a")
    site.sender.post(signal_id="a")
    site.limits(kill_switch=True)
    site.sender.post()
    text = requests.get(f"{site.url}/metrics", timeout=60).text
    for line in (
        'sparky_webhook_requests_total{route="/webhook",status="200"} 2.0',
        'sparky_webhook_requests_total{route="/webhook",status="429"} 1.0',
        'sparky_webhook_fills_total{book="paper",kind="open"} 1.0',
        'sparky_webhook_risk_refusals_total{limit_type="kill_switch"} 1.0',
        "sparky_webhook_repeats_total 1.0",
        'sparky_webhook_request_duration_seconds_count{route="/webhook"} 3.0',
    ):
        assert line in text


def test_the_api_describes_itself(site: Site) -> None:
    described = requests.get(f"{site.url}/openapi.json", timeout=60).json()
    signal = described["paths"]["/webhook/ai-signal"]["post"]
    schema = signal["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["required"]) == {"exchange", "symbol", "action", "user_id"}
    assert schema["properties"]["size"]["anyOf"][0] == {"type": "number", "minimum": 0, "maximum": 1_000_000_000}
    assert set(signal["responses"]) == {"200", "400", "401", "408", "409", "413", "429", "500", "503"}
    assert "$ref" not in str(schema)
