"""The monitor's face: /metrics for Prometheus, /healthz for probes, /status for people; loopback unless told."""

import errno
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from actors.monitor_facts import Facts
from engine.errors import BadConfiguration

Answer = tuple[HTTPStatus, str, bytes]


class MonitorServer:
    """Serves from threads of its own until `close`. Raises BadConfiguration when the address cannot be had."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, facts: Facts) -> None:
        routes = {
            "/metrics": lambda accept: _metrics(registry, accept),
            "/healthz": lambda _: _healthz(facts),
            "/status": lambda _: _json(HTTPStatus.OK, facts.status(time.monotonic(), time.time())),
        }
        handler = type("Handler", (_Handler,), {"routes": routes})
        try:
            self._server = _Server((host, port), handler)
        except OSError as error:
            raise BadConfiguration(_refusal(host, port, error)) from error
        self._host = host
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="monitor-http", daemon=True
        )
        self._thread.start()

    def answers(self) -> bool:
        """True when the server answered a real request of ours within 2 s."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104 - asked about, not bound
        connection = http.client.HTTPConnection(host, self.port, timeout=2.0)
        try:
            connection.request("GET", "/healthz", headers={"Connection": "close"})
            return connection.getresponse().status in (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE)
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10.0  # of silence; a stuck client must not keep a thread
    routes: ClassVar[dict[str, Callable[[str], Answer]]] = {}

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        route = self.routes.get(path)
        if route is None:
            known = ", ".join(self.routes)
            return self._send(_json(HTTPStatus.NOT_FOUND, {"error": f"there is no {path} here; there is {known}"}))
        return self._send(route(self.headers.get("Accept", "")))

    def _send(self, answer: Answer) -> None:
        status, content_type, body = answer
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """A scrape every few seconds is no news."""


def _metrics(registry: CollectorRegistry, accept: str) -> Answer:
    encode, content_type = choose_encoder(accept)
    return HTTPStatus.OK, content_type, encode(registry)


def _healthz(facts: Facts) -> Answer:
    problems = facts.problems(time.monotonic())
    status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
    return _json(status, {"status": "degraded" if problems else "ok", "problems": problems})


def _json(status: HTTPStatus, data: object) -> Answer:
    return status, "application/json", json.dumps(data).encode()


def _refusal(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is already in use; stop the program that holds it "
            f"or set SPARKY_MONITOR_PORT to another port."
        )
    return f"Cannot listen on {host}:{port} (SPARKY_MONITOR_HOST, SPARKY_MONITOR_PORT): {error.strerror or error}."
