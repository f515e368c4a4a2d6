"""A PostgreSQL server with canned answers, so that a warm-up cycle runs through all code of the database driver.

It listens at an abstract Unix socket, which needs no file: a full disk or a long path cannot stop a start.

Protocol: https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

import contextlib
import json
import socket
import struct
import threading
import uuid
from collections.abc import Iterator, Mapping
from typing import Final

_JSONB: Final = 3802
_SIMPLE_QUERY: Final = b"Q"
_TERMINATE: Final = b"X\0\0\0\x04"
_MAX_QUERY_BYTES: Final = 64 * 1024
_CLIENT_TIMEOUT_S: Final = 10.0  # with a client that sends nothing: its thread must end before the fork


@contextlib.contextmanager
def serve_fake_postgres(answers: Mapping[str, object]) -> Iterator[str]:
    """The connection string of a server that answers a query with one row of one jsonb: of the function it names."""
    rows = {name.encode(): _encode_result(json.dumps(answer).encode()) for name, answer in answers.items()}
    # For libpq an @ begins an abstract name. psycopg would look it up in the DNS without the colon behind it.
    place = f":sparky-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{place}/.s.PGSQL.5432")
        listener.listen()
        serving = threading.Thread(target=_serve, args=(listener, rows), name="warmup-postgres")
        serving.start()
        try:
            yield f"postgresql://warmup@/warmup?host=@{place}&sslmode=disable&gssencmode=disable"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            serving.join()


def _serve(listener: socket.socket, rows: Mapping[bytes, bytes]) -> None:
    with contextlib.suppress(OSError):  # the listener was shut down: there are no more clients
        while True:
            with listener.accept()[0] as connection:
                _handle_connection(connection, rows)


def _handle_connection(connection: socket.socket, rows: Mapping[bytes, bytes]) -> None:
    connection.settimeout(_CLIENT_TIMEOUT_S)
    connection.recv(_MAX_QUERY_BYTES)
    connection.sendall(_build_startup_response())
    while (query := connection.recv(_MAX_QUERY_BYTES)) and not query.endswith(_TERMINATE):
        if query.startswith(_SIMPLE_QUERY):
            connection.sendall(next(found for name, found in rows.items() if name in query))


def _build_startup_response() -> bytes:
    settings = {
        "server_version": "16.0",
        "server_encoding": "UTF8",
        "client_encoding": "UTF8",
        "standard_conforming_strings": "on",
        "TimeZone": "UTC",
    }
    parameters = b"".join(_encode_message(b"S", f"{name}\0{value}\0".encode()) for name, value in settings.items())
    return (
        _encode_message(b"R", struct.pack("!i", 0))
        + parameters
        + _encode_message(b"K", struct.pack("!ii", 1, 1))
        + _encode_ready()
    )


def _encode_result(answer: bytes) -> bytes:
    """The response to a query of several statements: two settings made, one column described, one row, done."""
    column = b"answer\0" + struct.pack("!ihihih", 0, 0, _JSONB, -1, -1, 0)
    row = struct.pack("!hi", 1, len(answer)) + answer
    return b"".join(
        [
            _encode_message(b"C", b"SET\0"),
            _encode_message(b"C", b"SET\0"),
            _encode_message(b"T", struct.pack("!h", 1) + column),
            _encode_message(b"D", row),
            _encode_message(b"C", b"SELECT 1\0"),
            _encode_ready(),
        ]
    )


def _encode_ready() -> bytes:
    return _encode_message(b"Z", b"I")


def _encode_message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body
