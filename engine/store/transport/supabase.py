"""Calls the database's functions over Supabase's REST API, with a project's key in place of a database password."""

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

from engine.platform.errors import ConfigurationError, DatabaseUnavailable, SparkyError
from engine.platform.http.deadline_transport import DeadlineTransport
from engine.platform.http.retry_after import retry_after_s
from engine.platform.plain_text import sanitize_for_storage
from engine.store.transport import sqlstates
from engine.store.transport.json_numbers import read_json

POOL_SIZE: Final = 8
MAX_RESPONSE_BYTES: Final = 64 * 1024 * 1024

_SQLSTATE_LENGTH: Final = 5
_MISSING_OBJECT_CODES: Final = {
    "PGRST106",
    "PGRST202",
    "PGRST203",
    "PGRST204",
    "PGRST205",
}  # schema, function, column, table
_UNDEFINED_FUNCTION: Final = "42883"  # the SQLSTATE that says the same
_INVALID_KEY_CODES: Final = {"PGRST301", "PGRST302", "PGRST303"}
_MIGRATE_HINT: Final = (
    "apply the migrations, by `supabase db push` or by `sparky migrate` with the project's DATABASE_URL."
)
_WRONG_URL: Final = "SUPABASE_URL does not name a Supabase project's API"


class SupabaseRpc:
    """An `Rpc` over PostgREST; every call is one request, hence one transaction, and is never repeated here.

    With `keep`, up to 8 connections are shared by all threads; without, there is one. The server may close an idle one.
    A call ends within about `timeout_s`, whatever the server does. Nothing is connected before the first call, so that
    an instance can be created before a fork. Protocol: https://docs.postgrest.org/en/stable/references/api/functions.html
    """

    def __init__(self, url: str, key: SecretStr, *, timeout_s: float = 10.0, keep: bool = False) -> None:
        self._url = url
        self._key = key
        self._timeout_s = timeout_s
        # The connection used last is taken first: of the idle ones its server has least likely closed it.
        self._idle: queue.LifoQueue[_Connection] = queue.LifoQueue()
        self._slots = threading.BoundedSemaphore(POOL_SIZE if keep else 1)
        self._closed = False

    def call(self, function: str, /, **arguments: object) -> Any:
        body = {f"p_{name}": _to_json(value) for name, value in arguments.items()}
        with self._connection() as connection:
            response = connection.send(function, body, self._timeout_s)
        if not response.is_success:
            raise build_response_error(response)
        return _parse_body(response)

    def close(self) -> None:
        self._closed = True
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    @contextmanager
    def _connection(self) -> Iterator["_Connection"]:
        if not self._slots.acquire(timeout=self._timeout_s):
            raise DatabaseUnavailable(f"all connections were busy for {self._timeout_s:g} s")
        try:
            with self._borrow_connection() as connection:
                yield connection
        finally:
            self._slots.release()

    @contextmanager
    def _borrow_connection(self) -> Iterator["_Connection"]:
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = _Connection(self._url, self._key)
        try:
            yield connection
        except BaseException:
            connection.close()  # an answer may still be under way, and would be read as that of the next request
            raise
        if self._closed:
            connection.close()
        else:
            self._idle.put(connection)


class _Connection:
    """One connection and its clients."""

    def __init__(self, url: str, key: SecretStr) -> None:
        secret = key.get_secret_value()
        if not (secret.isascii() and secret.isprintable()):  # or an exception would quote the header that holds it
            raise ConfigurationError("SUPABASE_SERVICE_ROLE_KEY holds characters that no key has.")
        self._transport = DeadlineTransport()
        # Redirects are refused: the key is for this address alone.
        self._http = httpx.Client(transport=self._transport, trust_env=False, follow_redirects=False)
        headers = {"apikey": secret, "Authorization": f"Bearer {secret}"}
        self._client = SyncPostgrestClient(
            f"{url}/rest/v1", headers=headers, http_client=self._http, retry_enabled=False
        )

    def send(self, function: str, body: dict[str, Any], timeout_s: float) -> httpx.Response:
        """Raises UpstreamUnavailable without an answer, ConfigurationError if the request could not even be made."""
        request = self._client.rpc(function, body).request
        self._transport.allowance.reset(time.monotonic() + timeout_s, MAX_RESPONSE_BYTES)
        try:
            return request.send(httpx.Headers())  # not execute(), which reads numbers as floats
        except httpx.TimeoutException:
            raise DatabaseUnavailable(f"Supabase did not answer within {timeout_s:g} s") from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise ConfigurationError(f"{_WRONG_URL}: it is no address.") from None
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise DatabaseUnavailable(f"Supabase cannot be reached: {reason}") from None

    def close(self) -> None:
        self._http.close()


def build_response_error(response: httpx.Response) -> SparkyError:
    """The failure named by what the caller does next. The message never carries the key or an argument's value."""
    error = _parse_error(response)
    code, reason = str(error.get("code") or ""), str(error.get("message") or response.reason_phrase).rstrip(".")
    remedy = _find_remedy(response.status_code, code, reason, is_json=bool(error))
    if remedy is not None:
        return sqlstates.build_error(_UNDEFINED_FUNCTION if code in _MISSING_OBJECT_CODES else code, remedy)
    delay_s = retry_after_s(response.headers.get("Retry-After"), datetime.now(UTC))
    return DatabaseUnavailable(reason if code else f"{response.status_code} {reason}", delay_s)


def _find_remedy(status: int, code: str, reason: str, *, is_json: bool) -> str | None:
    if code in _MISSING_OBJECT_CODES or code in sqlstates.MISSING_OBJECT:
        return f"The database has not the schema this version needs ({reason}): {_MIGRATE_HINT}"
    if code == "42501" or code in _INVALID_KEY_CODES or status == HTTPStatus.UNAUTHORIZED:
        return f"Supabase refuses SUPABASE_SERVICE_ROLE_KEY, which must be the project's service-role key: {reason}."
    if len(code) == _SQLSTATE_LENGTH:
        return sqlstates.find_remedy(code, reason)
    if status == HTTPStatus.NOT_FOUND and not is_json:
        return f"{_WRONG_URL}: it answers {status} {reason}."
    return None


def _parse_error(response: httpx.Response) -> dict[str, Any]:
    """PostgREST's error object; empty for an answer of something else, such as a gateway."""
    try:
        error = response.json()
    except ValueError:
        return {}
    return error if isinstance(error, dict) else {}


def _parse_body(response: httpx.Response) -> Any:
    try:
        return read_json(response.content) if response.content else None
    except ValueError:
        raise DatabaseUnavailable("what answers at SUPABASE_URL does not speak JSON") from None


def _to_json(value: object) -> object:
    """`value` as JSON; types that JSON lacks become text, which PostgreSQL converts to the parameter's type."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (str, dict, list, tuple)):
        return json.loads(json.dumps(sanitize_for_storage(value), default=str, allow_nan=False))
    return str(value)
