"""Calls the database's functions over a PostgreSQL connection, directly or through a pooler of transactions.

Behind such a pooler every transaction may run on another server connection, which other clients use before and after
it. So settings are made for one transaction only, and nothing is prepared or locked beyond it.
"""

import json
import queue
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeVar

import psycopg
from psycopg import pq, sql
from psycopg.abc import PQGen
from psycopg.types.json import set_json_loads
from pydantic import SecretStr

from engine.platform.errors import ConfigurationError, DatabaseUnavailable, SparkyError
from engine.platform.plain_text import sanitize_for_storage
from engine.platform.settings.database_address import fault_of
from engine.store.transport import sqlstates
from engine.store.transport.json_numbers import read_json
from engine.store.transport.refused_login import fetch_login_sqlstate

POOL_SIZE: Final = 8

MIN_SERVER_VERSION: Final = 14
SERVER_TIMEOUT_GRACE_S: Final = 1.0  # waits for the server's own statement timeout, which has the better message

_ENCODING: Final = "UTF8"
_LOGIN_REFUSED: Final = "28P01"
_PROTOCOL_VIOLATION: Final = "08P01"

Connection = psycopg.Connection[tuple[Any, ...]]
_Result = TypeVar("_Result")


class _DeadlineConnection(psycopg.Connection[tuple[Any, ...]]):
    """Raises OperationalError after `answer_timeout_s` without an answer, as from a pooler without a free connection
    or a stopped server."""

    answer_timeout_s: float = 10.0

    def wait(self, gen: PQGen[_Result], interval: float = 0.1, timeout: float | None = None) -> _Result:
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.answer_timeout_s)
        except psycopg.errors._WaitTimeout:  # noqa: SLF001 - the driver's only name for it
            self.pgconn.finish()  # because a late answer would be taken for that of the next query
            raise psycopg.OperationalError(f"no answer within {self.answer_timeout_s:g} s") from None


class PostgresRpc:
    """An `Rpc` over psycopg; every call is one message with one transaction in it.

    With `keep`, up to 8 connections are kept open and shared by all threads; without, each call connects and
    disconnects, so that a thousand idle strategies hold none. A call ends within about `timeout_s`, whatever the server
    does.
    """

    def __init__(self, dsn: SecretStr | str, *, timeout_s: float = 10.0, keep: bool = False) -> None:
        self._dsn = dsn.get_secret_value() if isinstance(dsn, SecretStr) else dsn
        self._timeout_s = timeout_s
        self._keep = keep
        self._idle: queue.LifoQueue[Connection] = queue.LifoQueue()
        self._slots = threading.BoundedSemaphore(POOL_SIZE)
        self._closed = False

    def call(self, function: str, /, **arguments: object) -> Any:
        try:
            with self._connection() as connection:
                cursor = connection.execute(_build_query(connection, function, arguments, self._timeout_s))
                while cursor.nextset():
                    pass
                row = cursor.fetchone()
        except psycopg.Error as error:
            raise translate_error(error) from None
        return row[0] if row else None

    def close(self) -> None:
        self._closed = True
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        if not self._keep:
            with self._connect() as connection:
                yield connection
            return
        if not self._slots.acquire(timeout=self._timeout_s):
            raise DatabaseUnavailable(f"all {POOL_SIZE} connections were busy for {self._timeout_s:g} s")
        try:
            with self._borrow_connection() as connection:
                yield connection
        finally:
            self._slots.release()

    @contextmanager
    def _borrow_connection(self) -> Iterator[Connection]:
        connection = self._take_idle() or self._connect()
        try:
            yield connection
        except BaseException:
            connection.close()  # its state is unknown: results may be unread, or a transaction open
            raise
        if self._closed:
            connection.close()
        else:
            self._idle.put(connection)

    def _take_idle(self) -> Connection | None:
        """An idle connection that the server has not closed, or None. The last one used first: it is the freshest."""
        with suppress(queue.Empty):
            while True:
                connection = self._idle.get_nowait()
                if not connection.closed and not _has_unread_data(connection):
                    return connection
                connection.close()
        return None

    def _connect(self) -> Connection:
        return connect(self._dsn, timeout_s=self._timeout_s)


def connect(dsn: str, *, timeout_s: float = 10.0) -> Connection:
    """An autocommit connection whose every statement is given up soon after `timeout_s`.

    Raises UpstreamUnavailable, or ConfigurationError if the address or login is wrong, or the database cannot hold what
    Sparky keeps.
    """
    deadline = time.monotonic() + timeout_s
    try:
        connection = _DeadlineConnection.connect(
            dsn,
            autocommit=True,
            prepare_threshold=None,  # a transaction pooler in between would lose prepared statements
            connect_timeout=max(2, int(timeout_s)),
            client_encoding="utf8",  # a role, a database or the environment may say another
            application_name="sparky",
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
            tcp_user_timeout=int(timeout_s * 1000),
        )
    except psycopg.Error as error:
        raise _build_connect_error(dsn, error, deadline) from None
    try:
        _check_server(connection.info)
    except BaseException:
        connection.close()
        raise
    connection.answer_timeout_s = timeout_s + SERVER_TIMEOUT_GRACE_S
    set_json_loads(read_json, connection)  # psycopg keeps a class for every function that it is given, for ever
    return connection


def allows_transactions(dsn: str) -> bool:
    """False behind a pooler in statement mode, which refuses to begin one. Raises as `connect`."""
    try:
        with connect(dsn) as connection:
            for statement in (b"begin", b"select 1", b"rollback"):
                connection.execute(statement)
    except psycopg.Error as error:
        if error.sqlstate != _PROTOCOL_VIOLATION:
            raise translate_error(error) from None
        return False
    return True


def build_transaction_settings(connection: Connection, timeout_s: float) -> bytes:
    """Statements that begin a transaction of ours, whatever the server, the database or the role prefers.

    Read committed, because the functions lock rows and then read what other transactions have committed meanwhile;
    under a stricter default they would fail with serialisation errors. `timeout_s` bounds each statement including its
    waiting for locks. In the startup packet, poolers would refuse these settings.
    """
    statements = [b"set local transaction_isolation = 'read committed'"]
    statements.append(f"set local statement_timeout = {int(timeout_s * 1000)}".encode())
    parameter_status = connection.info.parameter_status
    if parameter_status("TimeZone") not in {"UTC", "Etc/UTC", None}:
        statements.append(b"set local timezone = 'UTC'")
    if parameter_status("standard_conforming_strings") == "off":
        statements.append(b"set local standard_conforming_strings = on")
    return b"; ".join(statements) + b"; "


def _check_server(info: psycopg.ConnectionInfo) -> None:
    """Raises ConfigurationError for a server that cannot be used. A value that a pooler does not report is accepted."""
    version, encoding = info.server_version, info.parameter_status("server_encoding")
    if 0 < version < MIN_SERVER_VERSION * 10_000:
        shown_version = info.parameter_status("server_version")
        raise ConfigurationError(
            f"The database is a PostgreSQL {shown_version}: Sparky needs {MIN_SERVER_VERSION} or newer."
        )
    if encoding not in {_ENCODING, None}:
        raise ConfigurationError(
            f"The database's encoding is {encoding}, which cannot hold every text: Sparky needs UTF-8. "
            "Make another: create database NAME encoding 'UTF8' template template0"
        )


def _build_connect_error(dsn: str, error: psycopg.Error, deadline: float) -> SparkyError:
    """The error for a failed connection. Its text does not decide, because it is in the server's language."""
    fault = fault_of(dsn)
    if fault is not None or isinstance(error, psycopg.ProgrammingError):
        return ConfigurationError(f"DATABASE_URL is not a PostgreSQL connection string: it {fault or 'has a fault'}.")
    if isinstance(error, psycopg.errors.ConnectionTimeout) or error.sqlstate:
        return translate_error(error)
    if error.pgconn is not None and error.pgconn.needs_password:
        return translate_error(error, _LOGIN_REFUSED)
    return translate_error(error, fetch_login_sqlstate(dsn, deadline))


def translate_error(error: psycopg.Error, state: str | None = None) -> SparkyError:
    """The failure named by what the caller does next. The message never carries the DSN or an argument's value.

    `state` is the SQLSTATE if the driver does not expose it.
    """
    state = error.sqlstate or state or ""
    reason = (error.diag.message_primary or _get_first_line(error)).rstrip(".")
    remedy = sqlstates.find_remedy(state, reason) if state else _find_driver_remedy(error, reason)
    return sqlstates.build_error(state, remedy) if remedy else DatabaseUnavailable(reason, state=state)


def _find_driver_remedy(error: psycopg.Error, reason: str) -> str | None:
    """A person must fix what the driver itself refused; any other error without an SQLSTATE counts as temporary."""
    return f"The database refuses the value: {reason}." if isinstance(error, psycopg.DataError) else None


def _get_first_line(error: psycopg.Error) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _has_unread_data(connection: Connection) -> bool:
    """Whether the server has sent something on an idle connection: it has closed it, or is about to."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


def _build_query(connection: Connection, function: str, arguments: dict[str, object], timeout_s: float) -> bytes:
    """One simple query with several statements, which the server runs as one transaction: one round trip."""
    storable = sanitize_for_storage(arguments)
    values = [_quote_literal(connection, _to_text(value)) for value in storable.values()]
    call = b"".join(
        part + value for part, value in zip(_build_call_parts(function, tuple(arguments)), [*values, b")"], strict=True)
    )
    return build_transaction_settings(connection, timeout_s) + call


def _quote_literal(connection: Connection, value: str | None) -> bytes:
    return b"null" if value is None else bytes(pq.Escaping(connection.pgconn).escape_literal(value.encode()))


@lru_cache(maxsize=256)
def _build_call_parts(function: str, names: tuple[str, ...]) -> tuple[bytes, ...]:
    """The text before each argument of the call, and before its closing parenthesis."""
    begin = sql.SQL("select public.{}(").format(sql.Identifier(function)).as_bytes(None)
    named = [sql.SQL("{} => ").format(sql.Identifier(f"p_{name}")).as_bytes(None) for name in names]
    parts = [b", " + name for name in named]
    if not named:
        return (begin,)
    return (begin + named[0], *parts[1:], b"")


def _to_text(value: object) -> str | None:
    """The value as text of unknown type, which PostgreSQL converts to the type of the function's parameter."""
    if value is None:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, default=str, allow_nan=False)
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
