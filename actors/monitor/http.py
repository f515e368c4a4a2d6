"""HTTP server of the monitor: /metrics for Prometheus, /healthz for probes, /status for `sparky status`."""

import errno
import hmac
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar, Final

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from pydantic import SecretStr

from actors.monitor.monitor_state import MonitorState
from engine.platform.errors import ConfigurationError
from engine.platform.http.addresses import loopback_for_wildcard
from engine.platform.settings.settings import is_loopback, names_loopback

Response = tuple[HTTPStatus, str, bytes]


# Responses are data for programs: a browser must neither execute, frame, cache nor share them.
SECURITY_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class MonitorServer:
    """Serves from its own threads until `close`. Raises ConfigurationError when it cannot listen on the address.

    With a `token`, /metrics and /status require it as a bearer token. On a loopback address only requests whose Host
    header names a loopback host are answered, against DNS rebinding: a web page could reach the server by a name that
    resolves to this host. `is_fronted` says that a proxy is in front, which may pass on other names.
    """

    def __init__(
        self,
        host: str,
        port: int,
        scrape: Callable[[], Collector],
        state: MonitorState,
        token: SecretStr | None = None,
        is_fronted: bool = False,  # noqa: FBT001, FBT002 - one argument per edge
    ) -> None:
        routes = {
            "/metrics": lambda accept: _metrics_response(scrape(), accept),
            "/healthz": lambda _: _health_response(state),
            "/status": lambda _: _json_response(HTTPStatus.OK, state.build_status(time.monotonic(), time.time())),
        }
        guard = AccessGuard(token, is_loopback(host) and not is_fronted)
        handler = type("Handler", (_Handler,), {"routes": routes, "guard": guard})
        try:
            self._server = _Server((host, port), handler)
        except OSError as error:
            raise ConfigurationError(_describe_bind_error(host, port, error)) from error
        self._host = host
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="monitor-http", daemon=True
        )
        self._thread.start()

    def is_responding(self) -> bool:
        """True when the server answered a real request of ours within 2 s."""
        connection = http.client.HTTPConnection(loopback_for_wildcard(self._host), self.port, timeout=2.0)
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


@dataclass(frozen=True)
class AccessGuard:
    """Decides which requests are answered: by their Host header, and by their bearer token."""

    token: SecretStr | None = None
    only_loopback_names: bool = False

    def build_refusal(self, path: str, host: str | None, authorization: str) -> Response | None:
        """The response that refuses the request; None to answer it. /healthz needs no token."""
        if self.only_loopback_names and host is not None and not names_loopback(host):
            return _json_response(HTTPStatus.MISDIRECTED_REQUEST, {"error": "this is not the host you asked for"})
        if self.token is None or path == "/healthz":
            return None
        wanted = f"Bearer {self.token.get_secret_value()}".encode()
        if hmac.compare_digest(authorization.encode("utf-8", "replace"), wanted):
            return None
        return _json_response(HTTPStatus.UNAUTHORIZED, {"error": "send SPARKY_ADMIN_TOKEN as a bearer token"})


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10.0  # of silence; a stuck client must not keep a thread
    server_version = "sparky"
    sys_version = ""
    routes: ClassVar[dict[str, Callable[[str], Response]]] = {}
    guard: ClassVar[AccessGuard] = AccessGuard()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        refusal = self.guard.build_refusal(path, self.headers.get("Host"), self.headers.get("Authorization", ""))
        if refusal is not None:
            return self._send(refusal)
        route = self.routes.get(path)
        if route is None:
            known = ", ".join(self.routes)
            return self._send(
                _json_response(HTTPStatus.NOT_FOUND, {"error": f"there is no {path} here; there is {known}"})
            )
        return self._send(route(self.headers.get("Accept", "")))

    def _send(self, response: Response) -> None:
        status, content_type, body = response
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in SECURITY_HEADERS.items():
            self.send_header(name, value)
        if status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Logs nothing: a scrape comes every few seconds."""


def _metrics_response(collector: Collector, accept: str) -> Response:
    encode, content_type = choose_encoder(accept)
    return HTTPStatus.OK, content_type, encode(collector)


def _health_response(state: MonitorState) -> Response:
    problems = state.find_problems(time.monotonic(), time.time())
    status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
    return _json_response(status, {"status": "degraded" if problems else "ok", "problems": problems})


def _json_response(status: HTTPStatus, data: object) -> Response:
    return status, "application/json", json.dumps(data).encode()


def _describe_bind_error(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is already in use; stop the program that holds it "
            f"or set SPARKY_MONITOR_PORT to another port."
        )
    return f"Cannot listen on {host}:{port} (SPARKY_MONITOR_HOST, SPARKY_MONITOR_PORT): {error.strerror or error}."
