"""Finds the SQLSTATE of a refused login, which the driver does not tell: its words may be in any language.

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

_LISTS: Final = ("host", "hostaddr", "port")
_LARGEST_TRACE: Final = 64 * 1024
# Severity, the same untranslated (since 9.6), and the state; the words of people come only after them.
_REFUSAL: Final = re.compile(rb'\tErrorResponse\t S "[^"]*"(?: V "[^"]*")? C "([0-9A-Z]{5})"')


def sqlstate_of_refusal(dsn: str, deadline: float) -> str | None:
    """The state with which the server refuses this login now; None if it does not, or none answers.

    `deadline` is monotonic. Of several hosts each is asked: only when all refuse for good is that the answer, for one
    that is away may come back.
    """
    states: list[str] = []
    with suppress(psycopg.Error, OSError):
        for conninfo in _of_each_host(dsn):
            if time.monotonic() >= deadline:  # looking up a name takes time of its own
                return None
            state = _refusal_by_one(conninfo, deadline)
            if state is None or sqlstates.to_mend(state, "") is None:
                return state
            states.append(state)
    return states[-1] if states else None


def _of_each_host(dsn: str) -> Iterator[str]:
    params = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    lists = {name: params.pop(name).split(",") for name in _LISTS if name in params}
    for number in range(max((len(values) for values in lists.values()), default=1)):
        yield make_conninfo(**params, **{name: values[min(number, len(values) - 1)] for name, values in lists.items()})


def _refusal_by_one(conninfo: str, deadline: float) -> str | None:
    memory = os.memfd_create("refused-login")
    try:
        _log_in(conninfo, memory, deadline)
        refusals = _REFUSAL.findall(os.pread(memory, _LARGEST_TRACE, 0))
    finally:
        os.close(memory)
    return refusals[-1].decode() if refusals else None


def _log_in(conninfo: str, memory: int, deadline: float) -> None:
    """Tries until the server has let us in or refused, and leaves."""
    connection = pq.PGconn.connect_start(conninfo.encode())
    try:
        is_traced = False
        while connection.status != pq.ConnStatus.BAD and time.monotonic() < deadline:
            polled = connection.connect_poll()
            if polled not in {pq.PollingStatus.READING, pq.PollingStatus.WRITING}:
                break
            is_reading = polled == pq.PollingStatus.READING
            if is_reading and not is_traced:  # only now: tracing costs memory, and an outage must not
                connection.trace(memory)
                is_traced = True
            _await(connection.socket, select.POLLIN if is_reading else select.POLLOUT, deadline)
        if is_traced:
            connection.untrace()
    finally:
        connection.finish()


def _await(socket: int, event: int, deadline: float) -> None:
    waiting = select.poll()
    waiting.register(socket, event)
    waiting.poll(max(0.0, deadline - time.monotonic()) * 1_000)
