"""Finds the SQLSTATE of a refused login, which the driver does not expose; its text may be in any language.

libpq keeps only the text of what a server says while a connection is made. Its trace of the protocol has all fields of
that message, behind TLS as well, so the login is tried once more with the trace in memory.
Format: https://www.postgresql.org/docs/current/libpq-control.html#LIBPQ-PQTRACE
"""

import os
import re
import select
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from engine.store.transport import sqlstates

_PER_HOST_PARAMS: Final = ("host", "hostaddr", "port")
_MAX_TRACE_BYTES: Final = 64 * 1024
# Severity, the same untranslated (since 9.6), and the state; the words of people come only after them.
_REFUSAL: Final = re.compile(rb'\tErrorResponse\t S "[^"]*"(?: V "[^"]*")? C "([0-9A-Z]{5})"')


def fetch_login_sqlstate(dsn: str, deadline: float) -> str | None:
    """The SQLSTATE with which the server refuses this login; None if it does not, or does not answer.

    `deadline` is in monotonic seconds. Every host of a `dsn` with several is tried: the refusal is returned only when
    all of them refuse permanently, because a host that is down may come back.
    """
    states: list[str] = []
    with suppress(psycopg.Error, OSError):
        for conninfo in _iter_conninfos(dsn):
            if time.monotonic() >= deadline:  # looking up a name takes time of its own
                return None
            state = _fetch_refusal(conninfo, deadline)
            if state is None or sqlstates.find_remedy(state, "") is None:
                return state
            states.append(state)
    return states[-1] if states else None


def _iter_conninfos(dsn: str) -> Iterator[str]:
    params = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    lists = {name: params.pop(name).split(",") for name in _PER_HOST_PARAMS if name in params}
    for number in range(max((len(values) for values in lists.values()), default=1)):
        yield make_conninfo(**params, **{name: values[min(number, len(values) - 1)] for name, values in lists.items()})


def _fetch_refusal(conninfo: str, deadline: float) -> str | None:
    trace_fd = os.memfd_create("refused-login")
    try:
        _log_in(conninfo, trace_fd, deadline)
        refusals = _REFUSAL.findall(os.pread(trace_fd, _MAX_TRACE_BYTES, 0))
    finally:
        os.close(trace_fd)
    return refusals[-1].decode() if refusals else None


def _log_in(conninfo: str, trace_fd: int, deadline: float) -> None:
    """Tries to log in until the server accepts or refuses, and disconnects; the trace goes to `trace_fd`."""
    connection = pq.PGconn.connect_start(conninfo.encode())
    try:
        is_traced = False
        while connection.status != pq.ConnStatus.BAD and time.monotonic() < deadline:
            poll_status = connection.connect_poll()
            if poll_status not in {pq.PollingStatus.READING, pq.PollingStatus.WRITING}:
                break
            is_reading = poll_status == pq.PollingStatus.READING
            if is_reading and not is_traced:  # only now: tracing costs memory, and an outage must not
                connection.trace(trace_fd)
                is_traced = True
            _wait_for_socket(connection.socket, select.POLLIN if is_reading else select.POLLOUT, deadline)
        if is_traced:
            connection.untrace()
    finally:
        connection.finish()


def _wait_for_socket(socket: int, event: int, deadline: float) -> None:
    poller = select.poll()
    poller.register(socket, event)
    poller.poll(max(0.0, deadline - time.monotonic()) * 1_000)
