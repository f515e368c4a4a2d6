"""Calls the database's functions over Supabase's REST API, for those who have a project's key and no password."""

import json
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

import httpx
from postgrest import SyncPostgrestClient
from pydantic import SecretStr

from engine.platform.errors import BadConfiguration, SparkyError, UpstreamUnavailable
from engine.platform.http.deadline_transport import DeadlineTransport
from engine.platform.http.retry_after import retry_after_s
from engine.platform.plain_text import storable
from engine.store.transport import sqlstates
from engine.store.transport.json_numbers import read_json

KEPT_CONNECTIONS: Final = 8
LARGEST_ANSWER_BYTES: Final = 64 * 1024 * 1024

_SQLSTATE_LENGTH: Final = 5
_ABSENT: Final = {"PGRST106", "PGRST202", "PGRST203", "PGRST204", "PGRST205"}  # schema, function, column, table
_ABSENT_FUNCTION: Final = "42883"  # the SQLSTATE that says the same
_WRONG_KEY: Final = {"PGRST301", "PGRST302", "PGRST303"}
_MIGRATE: Final = "apply the migrations, by `supabase db push` or by `sparky migrate` with the project's DATABASE_URL."
_NOT_OURS: Final = "SUPABASE_URL does not name a Supabase project's API"


class SupabaseRpc:
    """An `Rpc` over PostgREST; every call is one request, hence one transaction, and is never repeated here.

    With `keep`, up to 8 connections are shared by all threads; without, one, which its server may close when it likes.
    A call ends within about `timeout_s`, whatever the server does. Nothing is connected before the first call, so that
    it can be made before a fork. Protocol: https://docs.postgrest.org/en/stable/references/api/functions.html
    """

    def __init__(self, url: str, key: SecretStr, *, timeout_s: float = 10.0, keep: bool = False) -> None:
        self._url = url
        self._key = key
        self._timeout_s = timeout_s
        self._idle: queue.LifoQueue[_Line] = queue.LifoQueue()
        self._free = threading.BoundedSemaphore(KEPT_CONNECTIONS if keep else 1)
        self._closed = False

    def call(self, function: str, /, **arguments: object) -> Any:
        body = {f"p_{name}": _json(value) for name, value in arguments.items()}
        with self._line() as line:
            response = line.send(function, body, self._timeout_s)
        if not response.is_success:
            raise refused(response)
        return _parsed(response)

    def close(self) -> None:
        self._closed = True
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    @contextmanager
    def _line(self) -> Iterator["_Line"]:
        if not self._free.acquire(timeout=self._timeout_s):
            raise UpstreamUnavailable("database", f"all connections were busy for {self._timeout_s:g} s")
        try:
            with self._taken() as line:
                yield line
        finally:
            self._free.release()

    @contextmanager
    def _taken(self) -> Iterator["_Line"]:
        try:
            line = self._idle.get_nowait()
        except queue.Empty:
            line = _Line(self._url, self._key)
        try:
            yield line
        except BaseException:
            line.close()
            raise
        if self._closed:
            line.close()
        else:
            self._idle.put(line)


class _Line:
    """One connection and its clients."""

    def __init__(self, url: str, key: SecretStr) -> None:
        secret = key.get_secret_value()
        if not (secret.isascii() and secret.isprintable()):  # or an exception would quote the header that holds it
            raise BadConfiguration("SUPABASE_SERVICE_ROLE_KEY holds characters that no key has.")
        self._transport = DeadlineTransport()
        # Redirects are refused: the key is for this address alone.
        self._http = httpx.Client(transport=self._transport, trust_env=False, follow_redirects=False)
        headers = {"apikey": secret, "Authorization": f"Bearer {secret}"}
        self._client = SyncPostgrestClient(
            f"{url}/rest/v1", headers=headers, http_client=self._http, retry_enabled=False
        )

    def send(self, function: str, body: dict[str, Any], timeout_s: float) -> httpx.Response:
        """Raises UpstreamUnavailable without an answer, BadConfiguration if the request could not even be made."""
        request = self._client.rpc(function, body).request
        self._transport.allowance.renew(time.monotonic() + timeout_s, LARGEST_ANSWER_BYTES)
        try:
            return request.send(httpx.Headers())  # not execute(), which reads numbers as floats
        except httpx.TimeoutException:
            raise UpstreamUnavailable("database", f"Supabase did not answer within {timeout_s:g} s") from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise BadConfiguration(f"{_NOT_OURS}: it is no address.") from None
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise UpstreamUnavailable("database", f"Supabase cannot be reached: {reason}") from None

    def close(self) -> None:
        self._http.close()


def refused(response: httpx.Response) -> SparkyError:
    """The failure named by what the caller does next. The message never carries the key or an argument's value."""
    said = _said(response)
    code, reason = str(said.get("code") or ""), str(said.get("message") or response.reason_phrase).rstrip(".")
    mend = _to_mend(response.status_code, code, reason, is_json=bool(said))
    if mend is not None:
        return sqlstates.failure(_ABSENT_FUNCTION if code in _ABSENT else code, mend)
    wish_s = retry_after_s(response.headers.get("Retry-After"), datetime.now(UTC))
    return UpstreamUnavailable("database", reason if code else f"{response.status_code} {reason}", wish_s)


def _to_mend(status: int, code: str, reason: str, *, is_json: bool) -> str | None:
    if code in _ABSENT or code in sqlstates.ABSENT:
        return f"The database has not the schema this version needs ({reason}): {_MIGRATE}"
    if code == "42501" or code in _WRONG_KEY or status == HTTPStatus.UNAUTHORIZED:
        return f"Supabase refuses SUPABASE_SERVICE_ROLE_KEY, which must be the project's service-role key: {reason}."
    if len(code) == _SQLSTATE_LENGTH:
        return sqlstates.to_mend(code, reason)
    if status == HTTPStatus.NOT_FOUND and not is_json:
        return f"{_NOT_OURS}: it answers {status} {reason}."
    return None


def _said(response: httpx.Response) -> dict[str, Any]:
    """PostgREST's error object; empty if somebody else answered, such as a gateway in between."""
    try:
        said = response.json()
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _parsed(response: httpx.Response) -> Any:
    try:
        return read_json(response.content) if response.content else None
    except ValueError:
        raise UpstreamUnavailable("database", "what answers at SUPABASE_URL does not speak JSON") from None


def _json(value: object) -> object:
    """Plain JSON; what JSON has no type for travels as text, which the function's signature gives its type."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (str, dict, list, tuple)):
        return json.loads(json.dumps(storable(value), default=str, allow_nan=False))
    return str(value)
