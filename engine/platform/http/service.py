"""Runs an HTTP application in a process that has its own main loop: uvicorn on a thread, drained on stop."""

import asyncio
import contextlib
import errno
import http.client
import logging
import math
import socket
import threading
from functools import partial
from typing import Any, Final, cast

import uvicorn

from engine.platform.errors import ConfigurationError
from engine.platform.http.addresses import build_base_url, loopback_for_wildcard
from engine.platform.http.header_timeout_protocol import (
    HEADERS_S,
    REQUEST_LOGGER,
    HeaderTimeoutProtocol,
    OnRefused,
)

BACKLOG: Final = 512
# Longer than our own clients keep idle connections: else the server might close one just as a request is sent on it.
KEEP_ALIVE_S: Final = 75
HEALTH_TIMEOUT_S: Final = 4.0


class HttpService:
    """An ASGI `app` on `host:port`. Port 0 takes a free one; `port` says which.

    `port_setting` is the setting to change when the port is taken, and `health_path` answers 200 while the application
    is well. Connections without complete headers within `headers_s` seconds are closed. `on_refused` is called, on the
    event loop's thread, for connections on which no valid request came. Only with `is_fronted` the client addresses
    that a proxy sends (X-Forwarded-For) are trusted.
    """

    def __init__(
        self,
        app: Any,
        host: str,
        port: int,
        port_setting: str,
        health_path: str,
        headers_s: float = HEADERS_S,
        *,
        on_refused: OnRefused | None = None,
        is_fronted: bool = False,
    ) -> None:
        self._app = app
        self._host = host
        self._wanted_port = port
        self._port_setting = port_setting
        self._health_path = health_path
        self._headers_s = headers_s
        self._on_refused = on_refused
        self._is_fronted = is_fronted
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port in use once started, the wanted one before."""
        return self._wanted_port if self._socket is None else self._bound_port

    @property
    def url(self) -> str:
        return build_base_url(self._host, self.port)

    def start(self) -> None:
        """Listens at once and serves from a thread; connections made meanwhile wait in the backlog.

        Raises ConfigurationError when the address cannot be had.
        """
        self._socket = self._listen()
        self._bound_port = int(self._socket.getsockname()[1])
        logging.getLogger(REQUEST_LOGGER).setLevel(logging.ERROR)
        protocol = partial(HeaderTimeoutProtocol, headers_s=self._headers_s, on_refused=self._on_refused)
        config = uvicorn.Config(
            self._app,
            log_config=None,
            log_level="warning",
            access_log=False,
            ws="none",
            http=cast("type[asyncio.Protocol]", protocol),  # uvicorn only ever calls it
            proxy_headers=self._is_fronted,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        self._server = uvicorn.Server(config)
        # A process that ends without stop() must not hang on this thread.
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name=f"http-server-{self._bound_port}", daemon=True
        )
        self._thread.start()

    def is_healthy(self) -> bool:
        """True when the application itself answered 200 on its health path in time."""
        if self._thread is None or not self._thread.is_alive():
            return False
        connection = http.client.HTTPConnection(loopback_for_wildcard(self._host), self.port, timeout=HEALTH_TIMEOUT_S)
        try:
            connection.request("GET", self._health_path, headers={"connection": "close"})
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self, grace_s: float) -> None:
        """Takes no new connection, lets running requests finish for `grace_s`, then drops them. Safe to repeat."""
        if self._server is None or self._thread is None or self._socket is None:
            return
        # uvicorn's own limit rounds up, so that the cut below comes first only when a handler ignores its cancellation.
        self._server.config.timeout_graceful_shutdown = math.ceil(grace_s)
        self._server.should_exit = True
        self._thread.join(grace_s + 1)
        if self._thread.is_alive():
            self._server.force_exit = True
            self._thread.join(1)
        with contextlib.suppress(OSError):
            self._socket.close()

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._host, self._wanted_port))
            # With SO_REUSEADDR two sockets may bind one port, but only one may listen: so the clash is found here.
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            raise ConfigurationError(self._refusal(error)) from error
        listener.settimeout(0)
        return listener

    def _refusal(self, error: OSError) -> str:
        if error.errno == errno.EADDRINUSE:
            return (
                f"Port {self._wanted_port} on {self._host} is already in use; "
                f"stop the program that holds it or set {self._port_setting} to another port."
            )
        return f"Cannot listen on {self._host}:{self._wanted_port} ({self._port_setting}): {error.strerror or error}."
