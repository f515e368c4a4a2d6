"""POSTs over kept connections with one deadline for the whole exchange, which neither `requests` nor urllib3 has.

Their timeouts are per read: a receiver that sends a byte now and then holds them for ever. Here a watchman hangs up.
"""

import socket
import threading
import time
from contextlib import suppress
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

MAX_RESPONSE_BYTES: Final = 64 * 1024
CHECK_EVERY_S: Final = 0.1

_exchange = threading.local()  # `.socket` is what the thread's exchange waits on


class _Connection(HTTPConnection):
    def getresponse(self) -> Any:
        _exchange.watched.socket = self.sock
        return super().getresponse()


class _SecureConnection(HTTPSConnection):
    def getresponse(self) -> Any:
        _exchange.watched.socket = self.sock
        return super().getresponse()


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Exchange:
    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.socket: socket.socket | None = None


class DeadlineSession:
    """One session for all threads, with up to `connections` kept. Follows no redirect, believes no proxy settings."""

    def __init__(self, connections: int) -> None:
        self._session = requests.Session()
        self._session.trust_env = False
        for scheme in ("http://", "https://"):
            adapter = HTTPAdapter(pool_connections=4, pool_maxsize=connections)
            adapter.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
            self._session.mount(scheme, adapter)
        self._exchanges: set[_Exchange] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._deadline_thread = threading.Thread(target=self._close_overdue, name="watchman", daemon=True)
        self._deadline_thread.start()

    def send(
        self, url: str, body: bytes, headers: dict[str, str], connect_s: float, total_s: float
    ) -> tuple[int, dict[str, str], bytes]:
        """POSTs once: status, headers (lower-case names) and the beginning of the answer.

        Raises requests.RequestException, urllib3's HTTPError or OSError, within about `total_s`.
        """
        watched = _Exchange(time.monotonic() + total_s)
        _exchange.watched = watched
        with self._lock:
            self._exchanges.add(watched)
        try:
            with self._session.post(
                url, data=body, headers=headers, timeout=(connect_s, total_s), allow_redirects=False, stream=True
            ) as response:
                answer = response.raw.read(MAX_RESPONSE_BYTES, decode_content=True)
                if time.monotonic() >= watched.deadline:
                    raise requests.ReadTimeout("the answer was cut at the deadline")
                return response.status_code, {k.lower(): v for k, v in response.headers.items()}, answer
        finally:
            with self._lock:
                self._exchanges.discard(watched)

    def close(self) -> None:
        self._closed.set()
        self._deadline_thread.join()
        self._session.close()

    def _close_overdue(self) -> None:
        while not self._closed.wait(CHECK_EVERY_S):
            now = time.monotonic()
            with self._lock:
                late = [each.socket for each in self._exchanges if each.deadline <= now and each.socket is not None]
                for each in late:
                    with suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)
