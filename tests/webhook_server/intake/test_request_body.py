"""The limits that stand before anything is understood."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import pytest
import requests
from fastapi import FastAPI

from engine.platform.http.service import HttpService
from tests.webhook_server.conftest import Site
from webhook_server.clock import SystemClock
from webhook_server.http.health import Health
from webhook_server.http.routes import LIVE_PATH, RouteHandlers, build_router
from webhook_server.intake.request_body import BODY_LIMIT_BYTES, BodyTimeout, BodyTooLarge, parse_envelope, read_body


def test_the_secret_is_taken_out_of_the_body() -> None:
    envelope = parse_envelope(b'{"secret":"hidden","symbol":"X"}', {})
    assert envelope.body == {"symbol": "X"}
    assert envelope.secret is not None
    assert envelope.secret.get_secret_value() == "hidden"
    assert "hidden" not in repr(envelope.body) + repr(envelope.secret)


def test_the_fingerprint_sees_content_and_neither_order_nor_secret() -> None:
    one = parse_envelope(b'{"a":1,"b":2.50,"secret":"x"}', {})
    same = parse_envelope(b'{ "b": 2.50, "a": 1, "secret": "y" }', {})
    other = parse_envelope(b'{"a":1,"b":2.51,"secret":"x"}', {})
    assert one.fingerprint == same.fingerprint != other.fingerprint


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield b" " * 1_000


async def _stuck() -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.Event().wait()


def test_a_body_without_end_is_cut_at_the_limit() -> None:
    with pytest.raises(BodyTooLarge):
        asyncio.run(read_body(_endless(), None))


def test_an_announced_body_is_refused_before_it_is_read() -> None:
    with pytest.raises(BodyTooLarge):
        asyncio.run(read_body(_stuck(), str(BODY_LIMIT_BYTES + 1)))


def test_a_body_that_never_ends_is_given_up() -> None:
    with pytest.raises(BodyTimeout):
        asyncio.run(read_body(_stuck(), None, timeout_s=0.05))


def test_a_large_body_is_413_with_and_without_its_length(site: Site) -> None:
    large = b" " * (BODY_LIMIT_BYTES + 1)
    announced = requests.post(f"{site.url}/webhook", data=large, timeout=60)
    assert (announced.status_code, announced.json()["success"]) == (413, False)
    counted = requests.post(f"{site.url}/webhook/ai-signal", data=iter([large]), timeout=60)
    assert counted.status_code == 413
    assert requests.post(f"{site.url}/webhook", data=large[:-1], timeout=60).status_code == 400


@pytest.fixture
def impatient(site: Site) -> Iterator[HttpService]:
    """The site's doors, where a body has 0.2 s and headers 3 s."""
    server = site.server
    health = Health(site.store, SystemClock(), server.metrics, lambda: True)
    app = FastAPI()
    app.include_router(
        build_router(
            RouteHandlers(server.signal_receiver, site.store, health, server.metrics, server.workers, body_s=0.2)
        )
    )
    http = HttpService(app, "127.0.0.1", 0, "SPARKY_WEBHOOK_PORT", LIVE_PATH, headers_s=3.0)
    http.start()
    yield http
    http.stop(5)


def test_a_body_that_is_too_slow_is_408_and_then_the_line_is_cut(impatient: HttpService) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=60) as connection:
        connection.sendall(b'POST /webhook HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"sec')
        with connection.makefile("rb") as answer:
            told = answer.read()  # until the server hangs up, since nothing more comes
    assert told.startswith(b"HTTP/1.1 408 ")
    assert told.endswith(b'{"success":false,"error":"The body did not arrive within 0.2 s"}')


def test_a_sender_that_hangs_up_in_mid_body_leaves_nothing(site: Site) -> None:
    where = urlsplit(site.url)
    with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
        connection.sendall(b'POST /webhook HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"sec')
    assert requests.get(f"{site.url}/health", timeout=60).status_code == 200
    assert site.sql("select count(*) from webhook_requests") == [(0,)]
