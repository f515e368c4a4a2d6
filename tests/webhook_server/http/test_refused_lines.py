"""A refused alert leaves one line in the log, which says why and never repeats what was sent."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import requests
from structlog.testing import capture_logs
from structlog.typing import EventDict

from engine.domain.errors import VenueUnavailable
from engine.platform.http.service import HttpService
from engine.platform.settings.settings import Settings
from engine.store.store import Store
from tests.webhook_server.conftest import Front, Site, until
from tests.webhook_server.market import Venues
from webhook_server.app import build
from webhook_server.clock import SystemClock
from webhook_server.http.refusal_log import (
    SOURCE_BURST,
    SOURCE_REFILL_S,
    SUPPRESSED_REASON,
    RefusalDetails,
    RefusalLog,
)
from webhook_server.http.routes import LIVE_PATH
from webhook_server.intake.request_body import BODY_LIMIT_BYTES

Lines = list[EventDict]


@pytest.fixture
def lines() -> Iterator[Lines]:
    with capture_logs() as captured:
        yield captured


def refused(lines: Lines) -> Lines:
    """The lines of single refusals: what others have left to be told may come at any time."""
    return [line for line in lines if line["event"] == "signal_refused" and line["reason"] != SUPPRESSED_REASON]


def only(lines: Lines) -> EventDict:
    found = refused(lines)
    assert len(found) == 1, found
    return found[0]


def test_a_wrong_secret_leaves_a_line_without_it(site: Site, lines: Lines) -> None:
    assert site.sender.post(secret="whsec_wrong", signal_id="claimed").status_code == 401
    line = only(lines)
    assert (line["log_level"], line["status"], line["route"]) == ("warning", 401, "/webhook")
    assert (line["reason"], line["address"]) == ("Invalid webhook secret", "127.0.0.1")
    assert not line.keys() & {"user", "signal"}, "nothing of it is proven"
    assert "whsec_wrong" not in str(lines)


@pytest.mark.parametrize(
    "body",
    ['{"secret": "hush-hush", ', '{"secret": “hush-hush”}', "hush-hush", '{"secret":"hush-hush","hush-hush":}', ""],
)
def test_a_body_that_is_no_json_leaves_a_line_without_a_piece_of_it(site: Site, lines: Lines, body: str) -> None:
    answer = requests.post(f"{site.url}/webhook", data=body.encode(), timeout=60)
    line = only(lines)
    assert (answer.status_code, line["status"], line["field"]) == (400, 400, "body")
    assert "JSON" in line["reason"]
    assert "hush" not in str(lines)


def test_a_wrong_field_is_named_with_the_proven_sender(site: Site, lines: Lines) -> None:
    assert site.sender.post(leverage=1000).status_code == 400
    line = only(lines)
    assert (line["field"], line["status"], line["user"]) == ("leverage", 400, str(site.sender.user_id))


@pytest.mark.parametrize("name", ["hush_hush", "\x1b[31mhush", "hush\nhush"])
def test_a_field_of_the_senders_own_naming_is_not_repeated(site: Site, lines: Lines, name: str) -> None:
    body = json.dumps(site.sender.body())[:-1] + f", {json.dumps(name)}: 1, {json.dumps(name)}: 2}}"
    assert requests.post(f"{site.url}/webhook", data=body, timeout=60).status_code == 400
    assert only(lines)["status"] == 400
    assert "hush" not in str(lines)


def test_what_pydantic_repeats_of_a_value_is_left_out(site: Site, lines: Lines) -> None:
    assert site.sender.post(strategy_id="\u2603hush").status_code == 400
    line = only(lines)
    assert line["field"] == "strategy_id"
    assert "\u2603" not in str(lines)


def test_a_reason_stays_whole_whatever_other_fields_say(site: Site, lines: Lines) -> None:
    assert site.sender.post(leverage=1000, comment="must be at most", note="leverage").status_code == 400
    assert only(lines)["reason"] == "leverage: must be at most 125"


def test_an_id_that_was_used_before_is_the_reason(site: Site, lines: Lines) -> None:
    assert [site.sender.post(signal_id="a", size=size).status_code for size in (None, 1000)] == [200, 409]
    assert only(lines)["reason"] == "its id was used before for another body"


def test_a_body_that_is_too_large_leaves_a_line(site: Site, lines: Lines) -> None:
    assert requests.post(f"{site.url}/webhook", data=b" " * (BODY_LIMIT_BYTES + 1), timeout=60).status_code == 413
    assert only(lines)["status"] == 413


@pytest.mark.parametrize(
    ("method", "path", "status", "route"),
    [
        ("POST", "/webhooks", 404, "/webhooks"),
        ("POST", "/", 404, "/"),
        ("POST", "/webhook/", 404, "/webhook/"),
        ("GET", "/webhook", 405, "/webhook"),
        ("POST", "/webhook/hush-hush?secret=hush", 404, "/webhook/\u2026"),
        ("POST", "/%1b%5b31m", 404, "/\u2026"),
    ],
)
def test_a_wrong_address_leaves_a_line_that_shows_only_known_words_of_it(
    site: Site, lines: Lines, method: str, path: str, status: int, route: str
) -> None:
    assert requests.request(method, site.url + path, json={"secret": "hush"}, timeout=60).status_code == status
    line = only(lines)
    assert (line["status"], line["route"], line["method"]) == (status, route, method)
    assert "hush" not in str(lines)


def test_a_wrong_secret_for_positions_and_a_wrong_token_for_figures_leave_a_line(
    site: Site, store: Store, front: tuple[Front, str], lines: Lines
) -> None:
    settings = Settings.model_validate({"sparky_admin_token": "a-token-of-more-than-24-characters"})
    server = build(settings, store, Venues(site.market, site.account), SystemClock())
    front[0].app = server.app
    assert requests.get(f"{site.url}/positions", headers={"x-webhook-secret": "hush"}, timeout=60).status_code == 401
    wrong = {"authorization": "Bearer hush"}
    assert requests.get(f"{site.url}/metrics", headers=wrong, timeout=60).status_code == 401
    assert [(line["route"], line["status"]) for line in refused(lines)] == [("/positions", 401), ("/metrics", 401)]
    assert "hush" not in str(lines)
    server.workers.shutdown()


def test_an_entry_beyond_the_pace_leaves_a_line_with_its_sender_and_id(
    site: Site, store: Store, front: tuple[Front, str], lines: Lines
) -> None:
    slow = build(Settings(sparky_webhook_rate_per_s=0.001), store, Venues(site.market, site.account), SystemClock())
    front[0].app = slow.app
    assert [site.sender.post(signal_id=name).status_code for name in "ab"] == [200, 429]
    line = only(lines)
    assert (line["status"], line["signal"], line["user"]) == (429, "b", str(site.sender.user_id))
    slow.workers.shutdown()


def test_what_was_done_leaves_no_line_of_a_refusal(site: Site, lines: Lines) -> None:
    site.sender.post()
    site.sender.post(action="CLOSE")
    site.limits(kill_switch=True)
    assert site.sender.post().status_code == 429
    site.market.away = VenueUnavailable("no connection")
    for path in ("/health", "/health/ai-worker", "/positions"):
        headers = {"x-webhook-secret": site.sender.secret.get_secret_value()}
        assert requests.get(site.url + path, headers=headers, timeout=60).status_code == 200
    assert refused(lines) == []


def test_a_flood_leaves_a_few_lines(site: Site, lines: Lines) -> None:
    began = time.monotonic()
    for _ in range(50):
        assert site.sender.post(secret="whsec_wrong").status_code == 401
    refilled = int((time.monotonic() - began) / SOURCE_REFILL_S) + 1
    assert 1 <= len(refused(lines)) <= SOURCE_BURST + refilled


def test_the_flood_of_a_stranger_leaves_the_lines_of_a_known_sender(site: Site, lines: Lines) -> None:
    for _ in range(20):
        site.sender.post(secret="whsec_wrong")
    assert site.sender.post(leverage=1000).status_code == 400
    assert refused(lines)[-1]["user"] == str(site.sender.user_id)


def test_the_flood_of_many_addresses_leaves_the_lines_of_a_known_sender(lines: Lines) -> None:
    user = uuid4()

    async def flood() -> None:
        log = RefusalLog(SystemClock())
        for number in range(10):
            for _ in range(5):
                log.log_connection((f"192.0.2.{number}", 1), 400, "this is no request")
        state = {"refused": RefusalDetails("leverage: is too large", user=user)}
        log.log_request({"method": "POST", "path": "/webhook", "client": ("192.0.2.77", 1), "state": state}, 400)
        log.close()

    asyncio.run(flood())
    assert [line["address"] for line in refused(lines) if line.get("user") == str(user)] == ["192.0.2.77"]


def test_what_a_flood_left_out_is_told_when_it_is_over(lines: Lines) -> None:
    async def flood() -> None:
        log = RefusalLog(SystemClock(), quiet_s=0.01)
        for _ in range(50):
            log.log_connection(("192.0.2.1", 1), 400, "this is no request")
        await asyncio.to_thread(until, lambda: any("suppressed" in line for line in lines))
        log.close()

    asyncio.run(flood())
    *shown, last = lines
    assert {(line["status"], line["address"]) for line in shown} == {(400, "192.0.2.1")}
    assert (last["event"], last["source"]) == ("signal_refused", "192.0.2.1")
    assert len(shown) + last["suppressed"] == 50


def test_what_is_not_told_yet_when_the_server_ends_is_told_then(lines: Lines) -> None:
    async def flood() -> RefusalLog:
        log = RefusalLog(SystemClock())
        for _ in range(50):
            log.log_connection(None, None, "this is no request")
        return log

    asyncio.run(flood()).close()
    assert len(lines) - 1 + lines[-1]["suppressed"] == 50


@pytest.fixture
def listening(site: Site, request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """Where the site's server listens as it does in production, but with other seconds for headers."""
    connection, headers_s = site.server.refusal_log.log_connection, getattr(request, "param", 120.0)
    http = HttpService(site.server.app, "127.0.0.1", 0, "NONE", LIVE_PATH, headers_s=headers_s, on_refused=connection)
    http.start()
    yield "127.0.0.1", http.port
    http.stop(5)


@pytest.mark.parametrize(
    ("listening", "sent", "status", "reason"),
    [
        (120.0, b"\x16\x03\x01\x02\x00\x01\x00\x01hush", 400, "https"),
        (120.0, b"POST /webhook hush\r\n\r\n", 400, "HTTP/1.1"),
        (120.0, b"POST /webhook HTTP/1.1\r\nhost: x\r\nhush: " + b"x" * 20_000, 400, "16 KiB"),
        (5.0, b"POST /webhook HTTP/1.1\r\nhush: x", None, "in time"),
    ],
    indirect=["listening"],
)
def test_what_is_no_request_leaves_a_line_of_its_connection(
    listening: tuple[str, int],
    lines: Lines,
    caplog: pytest.LogCaptureFixture,
    sent: bytes,
    status: int | None,
    reason: str,
) -> None:
    with socket.create_connection(listening, timeout=60) as connection:
        connection.sendall(sent)
        while connection.recv(1000):
            pass
    line = only(lines)
    assert (line.get("status"), line["address"]) == (status, "127.0.0.1")
    assert reason in line["reason"]
    assert "hush" not in str(lines)
    assert caplog.records == [], "uvicorn's own lines have no limit"


def test_a_sender_that_hangs_up_in_mid_body_leaves_one_line_and_no_traceback(
    listening: tuple[str, int], lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(listening, timeout=30) as connection:
        connection.sendall(b'POST /webhook HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"hush')
    until(lambda: lines)
    assert only(lines)["reason"] == "the sender hung up before its body was whole"
    assert caplog.records == []


@pytest.mark.parametrize(
    ("is_fronted", "told", "address"),
    [
        (False, "203.0.113.9", "127.0.0.1"),
        (True, "203.0.113.9", "203.0.113.9"),
        (True, "10.0.0.1, 203.0.113.9", "203.0.113.9"),
        (True, "hush;hush", "unknown"),
        (True, "fe80::1%hush", "fe80::1"),
    ],
)
def test_a_proxy_is_believed_where_one_is_set_up_and_only_an_address(
    site: Site, lines: Lines, told: str, address: str, *, is_fronted: bool
) -> None:
    http = HttpService(site.server.app, "127.0.0.1", 0, "NONE", LIVE_PATH, is_fronted=is_fronted)
    http.start()
    try:
        with socket.create_connection(("127.0.0.1", http.port), timeout=30) as connection:
            head = f"POST /webhook HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {told}\r\ncontent-length: 0\r\n\r\n"
            connection.sendall(head.encode())
            assert b" 400 " in connection.recv(1000)
    finally:
        http.stop(5)
    assert only(lines)["address"] == address


def test_an_address_that_a_sender_makes_up_is_not_believed(site: Site, lines: Lines) -> None:
    forged: dict[str, Any] = {"x-forwarded-for": "203.0.113.9", "forwarded": "for=203.0.113.9"}
    requests.post(f"{site.url}/webhook", json={}, headers=forged, timeout=60)
    assert only(lines)["address"] == "127.0.0.1"
