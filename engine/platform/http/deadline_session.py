"""`requests` with a total deadline and a maximum size of the response, which neither it nor urllib3 has.

`DeadlineSession` closes overdue sockets from a thread. `read_body` is for sessions that a library makes itself.
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
from urllib3.exceptions import HTTPError

from engine.platform.http.request_budget import RequestBudget

MAX_RESPONSE_BYTES: Final = 64 * 1024
CHUNK_BYTES: Final = 65_536
CHECK_EVERY_S: Final = 0.1

# `.watched` is the thread's present exchange: urllib3 passes nothing of ours down to its connections.
_exchange = threading.local()


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
    """One request under way, and the socket on which it waits for its response."""

    def __init__(self, budget: RequestBudget) -> None:
        self.budget = budget
        self.socket: socket.socket | None = None


def read_body(response: requests.Response, budget: RequestBudget) -> bytes:
    """The whole body of a response that was sent with `stream=True`, decoded; its size is counted as decoded.

    A read waits for as long as the session's own timeout allows, and the deadline is checked after each. Raises
    requests.ReadTimeout at the deadline, requests.ConnectionError on a body that is too large or breaks off.
    """
    body = bytearray()
    try:
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=True):
            body += chunk
            budget.remaining_s(requests.ReadTimeout)
            budget.count_received(len(chunk), OSError)
    except requests.ReadTimeout:
        raise
    except TimeoutError as error:
        raise requests.ReadTimeout(str(error)) from error
    except (OSError, HTTPError) as error:
        raise requests.ConnectionError(f"Connection broken: {error}") from error
    finally:
        response.close()
    return bytes(body)


class DeadlineSession:
    """One session for all threads, with up to `connections` kept open. Follows no redirect, reads no proxy settings.

    The thread `http-deadline` shuts down the sockets of overdue requests: the timeouts of `requests` are for each read,
    and a server that sends a byte a second would never run into one.
    """

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
        self._deadline_thread = threading.Thread(target=self._close_overdue, name="http-deadline", daemon=True)
        self._deadline_thread.start()

    def send(
        self, url: str, body: bytes, headers: dict[str, str], connect_s: float, total_s: float
    ) -> tuple[int, dict[str, str], bytes]:
        """POSTs once: status, headers (lower-case names) and the beginning of the answer.

        Raises requests.RequestException, urllib3's HTTPError or OSError, within about `total_s`.
        """
        watched = _Exchange(RequestBudget(time.monotonic() + total_s))
        _exchange.watched = watched
        with self._lock:
            self._exchanges.add(watched)
        try:
            with self._session.post(
                url, data=body, headers=headers, timeout=(connect_s, total_s), allow_redirects=False, stream=True
            ) as response:
                answer = response.raw.read(MAX_RESPONSE_BYTES, decode_content=True)
                if watched.budget.is_overdue():
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
            with self._lock:
                late = [each.socket for each in self._exchanges if each.budget.is_overdue() and each.socket is not None]
                for each in late:
                    with suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)
