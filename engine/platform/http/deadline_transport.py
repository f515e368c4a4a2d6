"""httpx with a total deadline and a maximum size: every wait on the network ends at the budget's deadline."""

import functools
import ssl
import time
from collections.abc import Iterable
from typing import Any, Final

import httpcore
import httpx

from engine.platform.http.request_budget import RequestBudget

KEEP_ALIVE_S: Final = 60.0
_SocketOptions = Iterable[tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]]


class DeadlineTransport(httpx.HTTPTransport):
    """One request at a time, each within `allowance`, which the caller resets before the request.

    Only a DNS lookup cannot be cut short here; the resolver has a limit of its own. `sockets` makes the connections,
    by default on the network.
    """

    def __init__(self, sockets: httpcore.NetworkBackend | None = None) -> None:
        super().__init__(trust_env=False, verify=make_ssl_context())
        self.allowance = RequestBudget()
        self._pool.close()
        self._pool = httpcore.ConnectionPool(
            ssl_context=make_ssl_context(),
            max_connections=1,
            keepalive_expiry=KEEP_ALIVE_S,
            network_backend=_Backend(self.allowance, sockets or httpcore.SyncBackend()),
        )


@functools.cache
def make_ssl_context() -> ssl.SSLContext:
    """The trusted certificates, read once: several MB, which children share with the fork server."""
    return httpx.create_ssl_context(trust_env=False)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, allowance: RequestBudget, sockets: httpcore.NetworkBackend) -> None:
        self._allowance = allowance
        self._sockets = sockets

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline of the whole request takes its place
        local_address: str | None = None,
        socket_options: _SocketOptions | None = None,
    ) -> httpcore.NetworkStream:
        left_s, start = self._allowance.remaining_s(httpcore.ConnectTimeout), time.monotonic()
        try:
            return _Stream(
                self._sockets.connect_tcp(host, port, left_s, local_address, socket_options), self._allowance
            )
        finally:
            self._allowance.add_wait_since(start)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, allowance: RequestBudget) -> None:
        self._stream = stream
        self._allowance = allowance

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - see connect_tcp
        left_s, start = self._allowance.remaining_s(httpcore.ReadTimeout), time.monotonic()
        try:
            received = self._stream.read(max_bytes, left_s)
        finally:
            self._allowance.add_wait_since(start)
        self._allowance.count_received(len(received), httpcore.RemoteProtocolError)
        return received

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - see connect_tcp
        self._stream.write(buffer, self._allowance.remaining_s(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - see connect_tcp
    ) -> httpcore.NetworkStream:
        left_s, start = self._allowance.remaining_s(httpcore.ConnectTimeout), time.monotonic()
        try:
            return _Stream(self._stream.start_tls(ssl_context, server_hostname, left_s), self._allowance)
        finally:
            self._allowance.add_wait_since(start)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
