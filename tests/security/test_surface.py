"""What of Sparky the network sees: loopback alone unless told, a token before figures, nothing for browsers to run."""

import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from actors.monitor.http import MonitorServer
from actors.monitor.monitor_state import MonitorState
from actors.runtime.forkserver_client import filter_environment
from actors.runtime.state_dir import StateDirLock, prepare_run_dir
from cli.run import process_plan
from engine.platform.errors import ConfigurationError
from engine.platform.metrics import Metrics
from engine.platform.settings.component_settings import (
    AsterSimulatorSettings,
    EmbeddedDatabaseSettings,
    GroqSimulatorSettings,
    MarketDataSettings,
    RateLimiterSettings,
)
from engine.platform.settings.process_settings import ProcessSettings
from engine.platform.settings.settings import Settings, is_loopback, read_environment
from engine.store.store import Store
from tests.support.processes.directories import short_directory
from tests.support.servers.ports import free_port
from webhook_server.service import make

EVERYWHERE = "0.0.0.0"  # noqa: S104 - named in order to be refused
FIELDS = ("user_id", "secret", "exchange", "symbol", "action", "strategy_id", "source", "signal_id", "ai_reasoning")
TOKEN = SecretStr("a-token-of-more-than-24-characters")


@contextmanager
def monitor(token: SecretStr | None = None, *, is_fronted: bool = False) -> Iterator[str]:
    registry = CollectorRegistry()
    server = MonitorServer("127.0.0.1", 0, lambda: registry, MonitorState(Metrics(registry)), token, is_fronted)
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.close()


def get(url: str, **headers: str) -> requests.Response:
    return requests.get(url, headers=headers, timeout=60)


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "192.168.1.5", "sparky.example.org"])
@pytest.mark.parametrize("name", ["SPARKY_WEBHOOK_HOST", "SPARKY_MONITOR_HOST"])
def test_an_open_address_is_refused_unless_tls_stands_in_front(name: str, host: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is open to the network"):
        read_environment({name: host})

    assert read_environment({name: host, "SPARKY_BEHIND_TLS": "true"}).sparky_behind_tls


def test_a_token_opens_the_monitor_and_never_the_webhook_server() -> None:
    token = TOKEN.get_secret_value()
    read_environment({"SPARKY_MONITOR_HOST": EVERYWHERE, "SPARKY_ADMIN_TOKEN": token})

    with pytest.raises(ConfigurationError, match="SPARKY_WEBHOOK_HOST"):
        read_environment({"SPARKY_WEBHOOK_HOST": EVERYWHERE, "SPARKY_ADMIN_TOKEN": token})
    with pytest.raises(ConfigurationError, match="SPARKY_ADMIN_TOKEN: must have at least 24 characters") as caught:
        read_environment({"SPARKY_ADMIN_TOKEN": "guessable"})
    assert "guessable" not in str(caught.value)


def test_by_default_everything_listens_on_loopback() -> None:
    hosts = {host for host, _ in process_plan.list_listen_addresses(Settings()).values()}

    assert hosts
    assert all(is_loopback(host) for host in hosts)
    assert not any(is_loopback(host) for host in (EVERYWHERE, "::", "10.0.0.1", "localhost.example.org", ""))


def test_figures_are_for_the_bearer_of_the_token() -> None:
    with monitor(TOKEN) as url:
        for path in ("/metrics", "/status"):
            for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer ü"}, {"Authorization": "x"}):
                refused = get(url + path, **{k: v.encode().decode("latin-1") for k, v in wrong.items()})
                assert refused.status_code == 401
                assert refused.headers["WWW-Authenticate"] == "Bearer"
            assert get(url + path, Authorization=f"Bearer {TOKEN.get_secret_value()}").status_code == 200
        assert get(f"{url}/healthz").status_code in {200, 503}


def test_a_name_that_was_made_to_resolve_to_this_host_is_not_answered() -> None:
    with monitor() as url:
        for stranger in ("evil.example.org", "evil.example.org:9108", "127.0.0.1.evil.example.org", "[::1", ""):
            assert get(f"{url}/status", Host=stranger).status_code == 421
        for own in ("localhost", "127.0.0.1:9108", "[::1]:9108"):
            assert get(f"{url}/status", Host=own).status_code == 200
    with monitor(is_fronted=True) as url:
        assert get(f"{url}/status", Host="sparky.example.org").status_code == 200


def test_browsers_are_told_to_run_frame_and_share_nothing() -> None:
    with monitor() as url:
        for path in ("/metrics", "/status", "/healthz", "/nothing"):
            headers = get(url + path).headers
            assert headers["Content-Security-Policy"].startswith("default-src 'none'")
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cache-Control"] == "no-store"
            assert "Python" not in headers["Server"]
            assert "Access-Control-Allow-Origin" not in headers


@pytest.fixture
def webhook(database_url: str, store: Store) -> Iterator[str]:
    port = free_port()
    settings = Settings(database_url=SecretStr(database_url), sparky_webhook_port=port, sparky_admin_token=TOKEN)
    service = make(settings.model_copy(update={"sparky_market": "aster"}), "")
    service.start()
    yield f"http://127.0.0.1:{port}"
    service.stop(1)


def test_the_webhook_server_guards_its_figures_and_its_answers(webhook: str) -> None:
    assert get(f"{webhook}/metrics").status_code == 401
    assert get(f"{webhook}/metrics", Authorization=f"Bearer {TOKEN.get_secret_value()}").status_code == 200
    for path in ("/health", "/positions", "/nothing", "/docs", "/openapi.json"):
        headers = get(webhook + path).headers
        assert (headers["X-Content-Type-Options"], headers["X-Frame-Options"]) == ("nosniff", "DENY")
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("is_fronted", [False, True])
def test_the_webhook_servers_figures_are_not_for_a_name_that_was_made_to_resolve_to_this_host(
    database_url: str, store: Store, *, is_fronted: bool
) -> None:
    settings = Settings(
        database_url=SecretStr(database_url), sparky_webhook_port=free_port(), sparky_behind_tls=is_fronted
    )
    service = make(settings, "")
    service.start()
    try:
        for stranger in ("evil.example.org", "evil.example.org:3000", "127.0.0.1.evil.example.org", "[::1", ""):
            assert get(f"{service.url}/metrics", Host=stranger).status_code == (200 if is_fronted else 421)
        for own in ("localhost", "LOCALHOST:3000", "127.0.0.1:3000", "[::1]:3000"):
            assert get(f"{service.url}/metrics", Host=own).status_code == 200
        assert get(f"{service.url}/health", Host="sparky.example.org").status_code == 200  # as by a tunnel
    finally:
        service.stop(1)


def test_no_request_makes_the_server_fetch_an_address(webhook: str) -> None:
    """Every text of a request that could be taken for an address names a listener, on which nobody must ever knock."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.5)
        url = f"http://127.0.0.1:{trap.getsockname()[1]}/"
        body = dict.fromkeys(FIELDS, url)
        for path in ("/webhook", "/webhook/ai-signal", f"/docs?url={url}", f"/health?next={url}"):
            requests.post(webhook + path, json=body | {"url": url, "callback": url}, timeout=60)
            get(webhook + path, Referer=url, Origin=url, **{"X-Forwarded-Host": url, "X-Webhook-Secret": url})

        with pytest.raises(TimeoutError):
            trap.accept()


def test_directories_and_files_are_their_owners_alone() -> None:
    with short_directory() as root:
        run_dir = root / "home" / "run"
        prepare_run_dir(run_dir)
        with StateDirLock(run_dir):
            for path in (run_dir.parent, *run_dir.parent.rglob("*")):
                assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


@pytest.mark.parametrize(
    "model",
    [
        GroqSimulatorSettings,
        AsterSimulatorSettings,
        MarketDataSettings,
        RateLimiterSettings,
        EmbeddedDatabaseSettings,
    ],
)
def test_who_needs_no_secret_gets_none(model: type[ProcessSettings]) -> None:
    settings = Settings(
        groq_api_key=SecretStr("gsk_x"),
        database_url=SecretStr("postgresql://u:p@db/x"),
        sparky_admin_token=TOKEN,
        sparky_encryption_key=None,
    )

    sealed = settings.select(model).to_child_json()

    assert not [secret for secret in ("gsk_x", "u:p@db", TOKEN.get_secret_value()) if secret in sealed]


def test_children_inherit_a_place_and_no_secret() -> None:
    environ = {"PATH": "/bin", "LC_ALL": "C", "https_proxy": "http://proxy", "PYTHONPATH": "."}
    secrets = {"GROQ_API_KEY": "g", "DATABASE_URL": "d", "SPARKY_ENCRYPTION_KEY": "e", "AWS_SECRET_ACCESS_KEY": "a"}

    assert filter_environment(environ | secrets) == environ
