"""Calls the database's functions over a PostgreSQL connection."""

import json
import queue
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.types.json import set_json_loads
from pydantic import SecretStr

from engine.errors import SparkyError, UpstreamUnavailable
from engine.plain_text import storable
from engine.store import sqlstates

KEPT_CONNECTIONS: Final = 8

_WRONG_LOGIN: Final = ("authentication failed", "does not exist", "no pg_hba.conf entry", "no password supplied")

Connection = psycopg.Connection[tuple[Any, ...]]


class PostgresRpc:
    """An `Rpc` over psycopg; every call is one statement, hence one transaction.

    With `keep`, up to 8 connections live on and are shared by all threads; without, each call connects and disconnects,
    so that a thousand idle strategies hold none. A call ends within about `timeout_s`, whatever the server does.
    """

    def __init__(self, dsn: SecretStr | str, *, timeout_s: float = 10.0, keep: bool = False) -> None:
        self._dsn = dsn.get_secret_value() if isinstance(dsn, SecretStr) else dsn
        self._timeout_s = timeout_s
        self._keep = keep
        self._idle: queue.LifoQueue[Connection] = queue.LifoQueue()
        self._free = threading.BoundedSemaphore(KEPT_CONNECTIONS)
        self._closed = False

    def call(self, function: str, /, **arguments: object) -> Any:
        statement = _statement(function, tuple(arguments))
        values = [_text(value) for value in arguments.values()]
        try:
            with self._connection() as connection:
                row = connection.execute(statement, values).fetchone()
        except psycopg.Error as error:
            raise translated(error) from None
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
        if not self._free.acquire(timeout=self._timeout_s):
            raise UpstreamUnavailable(
                "database", f"all {KEPT_CONNECTIONS} connections were busy for {self._timeout_s:g} s"
            )
        try:
            with self._kept() as connection:
                yield connection
        finally:
            self._free.release()

    @contextmanager
    def _kept(self) -> Iterator[Connection]:
        connection = self._live() or self._connect()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        if self._closed:
            connection.close()
        else:
            self._idle.put(connection)

    def _live(self) -> Connection | None:
        """An idle connection on which the server has not hung up meanwhile."""
        with suppress(queue.Empty):
            while True:
                connection = self._idle.get_nowait()
                if not connection.closed and not _has_word(connection):
                    return connection
                connection.close()
        return None

    def _connect(self) -> Connection:
        return connect(self._dsn, timeout_s=self._timeout_s)


def connect(dsn: str, *, timeout_s: float = 10.0) -> Connection:
    """An autocommit connection whose every statement is bounded by `timeout_s`.

    Raises UpstreamUnavailable, or BadConfiguration if the address or login is wrong.
    """
    try:
        connection = psycopg.connect(
            dsn,
            autocommit=True,
            prepare_threshold=None,  # a transaction pooler in between would lose prepared statements
            connect_timeout=max(2, int(timeout_s)),
            application_name="sparky",
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
            tcp_user_timeout=int(timeout_s * 1000),
        )
        # It bounds the waiting for locks as well. Not in the startup packet, which poolers in between refuse.
        connection.execute(f"set statement_timeout = {int(timeout_s * 1000)}".encode())
    except psycopg.Error as error:
        raise translated(error) from None
    set_json_loads(_read_json, connection)
    return connection


def _read_json(text: str | bytes) -> Any:
    """psycopg keeps a class for every function that it is given, for ever: this is always the same one."""
    return json.loads(text, parse_float=Decimal)


def translated(error: psycopg.Error) -> SparkyError:
    """The failure named by what the caller does next. The message never carries the DSN or an argument's value."""
    state = error.sqlstate or ""
    reason = (error.diag.message_primary or _first_line(error)).rstrip(".")
    mend = _to_mend(error, state, reason)
    return sqlstates.failure(state, mend) if mend else UpstreamUnavailable("database", reason)


def _to_mend(error: psycopg.Error, state: str, reason: str) -> str | None:
    """What a person must mend, in one sentence; None if it may pass by itself."""
    if state:
        return sqlstates.to_mend(state, reason)
    if isinstance(error, psycopg.DataError):
        return f"The database refuses the value: {reason}."
    if isinstance(error, psycopg.ProgrammingError) or "connection option" in reason:
        return "DATABASE_URL is not a PostgreSQL connection string."
    if any(phrase in reason for phrase in _WRONG_LOGIN):
        return f"The database refuses this login: {reason}."
    return None


def _first_line(error: psycopg.Error) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _has_word(connection: Connection) -> bool:
    """Something to read while idle is the server's farewell (or its broken pipe)."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


@lru_cache(maxsize=256)
def _statement(function: str, names: tuple[str, ...]) -> bytes:
    arguments = sql.SQL(", ").join([sql.SQL("{} => %s").format(sql.Identifier(f"p_{name}")) for name in names])
    return sql.SQL("select public.{}({})").format(sql.Identifier(function), arguments).as_bytes(None)


def _text(value: object) -> str | None:
    """Everything travels as text of unknown type: the function's signature says what it is."""
    if value is None:
        return None
    if isinstance(value, str):
        return str(storable(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(storable(value), default=str, allow_nan=False)
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
