"""An HTTP service inside our own process: found, drained, and honest about a port it cannot have."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI, Response

from engine.platform.errors import ConfigurationError
from engine.platform.http.service import HttpService

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
        release.wait(30)
        return "done"

    return app


@pytest.fixture
def service() -> Iterator[HttpService]:
    entered.clear()
    release.clear()
    service = HttpService(application(), "127.0.0.1", 0, "SPARKY_TEST_PORT", "/health")
    service.start()
    yield service
    release.set()
    service.stop(5)


def test_a_started_service_answers_and_is_healthy(service: HttpService) -> None:
    assert httpx.get(f"{service.url}/health", timeout=30).status_code == 200
    assert service.is_healthy()


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
    caller = threading.Thread(target=lambda: answers.append(httpx.get(f"{service.url}/slow", timeout=60).text))
    caller.start()
    assert entered.wait(30)
    threading.Timer(0.2, release.set).start()
    service.stop(20)
    caller.join(30)
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
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as slow:
            slow.sendall(b"POST /webhook HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            assert slow.recv(100) == b""
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as silent:
            assert silent.recv(100) == b""
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as huge:
            huge.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Huge: " + b"x" * 20_000)
            assert huge.recv(100).startswith(b"HTTP/1.1 400")
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as whole:
            whole.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X-Many: 12\r\n" * 2_000 + b"\r\n")
            assert whole.recv(100).startswith(b"HTTP/1.1 400")
    finally:
        service.stop(1)


def drip_for_ever(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"x")


def test_who_goes_on_sending_a_body_after_the_answer_is_hung_up_on() -> None:
    service = HttpService(application(), "127.0.0.1", 0, "SPARKY_TEST_PORT", "/health", headers_s=0.2)
    service.start()
    try:
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as drip:
            drip.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\nx")
            assert drip.recv(1000).startswith(b"HTTP/1.1 200")
            with pytest.raises(OSError, match=r"reset|pipe|abort"):
                drip_for_ever(drip)
    finally:
        service.stop(1)


def test_requests_in_a_row_on_one_connection_are_all_answered_in_order(service: HttpService) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
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
