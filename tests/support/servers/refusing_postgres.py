"""A server that speaks PostgreSQL's protocol up to a refusal: any words, any SQLSTATE, as an older or a foreign server,
or one in another language, would say them."""

import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import BinaryIO

SSL_REQUEST = 80877103
GSS_REQUEST = 80877104


@contextmanager
def refusing_postgres(state: str, words: str, severity: str = "FATAL") -> Iterator[str]:
    """Refuses every login with `state` and `words`; its address, with a password in it."""
    fields = {"S": severity, "V": "FATAL", "C": state, "M": words}
    body = b"".join(f"{name}{value}\0".encode() for name, value in fields.items()) + b"\0"
    with _serving(_message(b"E", body)) as address:
        yield address


@contextmanager
def welcoming_postgres(parameters: Mapping[str, str]) -> Iterator[str]:
    """Lets everybody in and tells `parameters` of itself; answers nothing afterwards."""
    told = b"".join(_message(b"S", f"{name}\0{value}\0".encode()) for name, value in parameters.items())
    key = _message(b"K", struct.pack("!ii", 1, 1))
    with _serving(_message(b"R", struct.pack("!i", 0)) + told + key + _message(b"Z", b"I")) as address:
        yield address


@contextmanager
def _serving(answer: bytes) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=_serve, args=(listener, answer))
        serving.start()
        try:
            yield f"postgresql://jemand:hunter2@127.0.0.1:{listener.getsockname()[1]}/handel"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            serving.join()


def _serve(listener: socket.socket, answer: bytes) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.settimeout(60)
                with connection.makefile("rb") as received:
                    while (code := _read_request_code(received)) in {SSL_REQUEST, GSS_REQUEST}:
                        connection.sendall(b"N")
                    if code is not None:
                        connection.sendall(answer)
                        received.read()  # until the client hangs up: what is left unread would make a reset of it


def _read_request_code(received: BinaryIO) -> int | None:
    """Of one whole message before the login, wherever the network cut it; None when the client has hung up."""
    head = received.read(8)
    if len(head) < 8:
        return None
    length, code = struct.unpack("!ii", head)
    received.read(length - 8)
    return int(code)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body
