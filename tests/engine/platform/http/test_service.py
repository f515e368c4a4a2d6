"""An HTTP service inside our own process: found, drained, and honest about a port it cannot have."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest
from fastapi import FastAPI, Response

from engine.platform.errors import ConfigurationError
from engine.platform.http.service import HttpService
from tests.support.servers.ports import free_port

entered = threading.Event()
release = threading.Event()


def application() -> FastAPI:
    app = FastAPI()
    app.state.well = True

    @app.get("/health")
    def health() -> Response:
        return Response(status_code=200 if app.state.well else 503)

    @app.get("/slow")
    def slow() -> str:
        entered.set()
        release.wait(120)
        return "done"

    return app


@pytest.fixture
def service() -> Iterator[HttpService]:
    entered.clear()
    release.clear()
    service = HttpService(application(), "127.0.0.1", free_port(), "SPARKY_TEST_PORT", "/health")
    service.start()
    yield service
    release.set()
    service.stop(5)


def answers_in_time(service: HttpService) -> bool:
    """Whether it is healthy: a busy machine may keep it from an answer within the limit of one look, not of all."""
    return any(service.is_healthy() for _ in range(30))


def test_a_started_service_answers_and_is_healthy(service: HttpService) -> None:
    assert httpx.get(f"{service.url}/health", timeout=120).status_code == 200
    assert answers_in_time(service)


def test_health_tells_what_the_application_says(service: HttpService) -> None:
    service._app.state.well = False
    assert not service.is_healthy()


def test_a_taken_port_is_one_sentence_naming_port_and_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        service = HttpService(application(), "127.0.0.1", port, "SPARKY_TEST_PORT", "/health")
        with pytest.raises(ConfigurationError, match=rf"Port {port} .*set SPARKY_TEST_PORT"):
            service.start()


def test_stop_lets_a_running_request_finish_and_frees_the_port(service: HttpService) -> None:
    answers: list[str] = []
    caller = threading.Thread(target=lambda: answers.append(httpx.get(f"{service.url}/slow", timeout=240).text))
    caller.start()
    assert entered.wait(120)
    threading.Timer(0.2, release.set).start()
    service.stop(120)
    caller.join(120)
    assert answers == ['"done"']
    assert not service.is_healthy()
    with socket.create_server(("127.0.0.1", service.port)):
        pass


def test_a_service_that_never_started_stops_quietly() -> None:
    HttpService(application(), "127.0.0.1", 0, "SPARKY_TEST_PORT", "/health").stop(1)


def test_who_never_finishes_its_headers_is_hung_up_on() -> None:
    service = HttpService(application(), "127.0.0.1", 0, "SPARKY_TEST_PORT", "/health", headers_s=0.2)
    service.start()
    try:
        with (
            socket.create_connection(("127.0.0.1", service.port), timeout=120) as slow,
            suppress(ConnectionResetError),  # on a busy machine it is hung up on before it has sent anything
        ):
            slow.sendall(b"POST /webhook HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            assert slow.recv(100) == b""
        with socket.create_connection(("127.0.0.1", service.port), timeout=120) as silent:
            assert silent.recv(100) == b""
    finally:
        service.stop(1)


def test_headers_that_are_too_large_are_refused(service: HttpService) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=120) as huge:
        huge.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Huge: " + b"x" * 20_000)
        assert huge.recv(100).startswith(b"HTTP/1.1 400")
    with socket.create_connection(("127.0.0.1", service.port), timeout=120) as whole:
        whole.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X-Many: 12\r\n" * 2_000 + b"\r\n")
        assert whole.recv(100).startswith(b"HTTP/1.1 400")


def drip_for_ever(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def test_who_goes_on_sending_a_body_after_the_answer_is_hung_up_on() -> None:
    service = HttpService(application(), "127.0.0.1", 0, "SPARKY_TEST_PORT", "/health")
    service.start()
    try:
        with socket.create_connection(("127.0.0.1", service.port), timeout=120) as drip:
            drip.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\nx")
            assert drip.recv(1000).startswith(b"HTTP/1.1 200")
            with pytest.raises(OSError, match=r"reset|pipe|abort"):
                drip_for_ever(drip)
    finally:
        service.stop(1)


def test_requests_in_a_row_on_one_connection_are_all_answered_in_order(service: HttpService) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=120) as connection:
        one = b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2_000
        connection.sendall(one * 20 + b"GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        with connection.makefile("rb") as answers:
            told = answers.read()
    assert told.count(b"HTTP/1.1 200") == 20
    assert told.count(b"HTTP/1.1 404") == 1


def test_importing_the_protocol_leaves_every_logger_as_it_was() -> None:
    program = (
        "import logging; import uvicorn; before = logging.getLogger('uvicorn.error.request').level; "
        "import engine.platform.http.header_timeout_protocol; "
        "assert logging.getLogger('uvicorn.error.request').level == before"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
