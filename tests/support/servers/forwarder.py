"""A TCP door to a Unix socket, for programs that know no Unix sockets, and a cable that a test can pull."""

import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self


class Forwarder:
    """Listens on `port` (0: a free one) of 127.0.0.1 and passes every connection on to the socket at `path`."""

    def __init__(self, path: Path, port: int = 0) -> None:
        self._path = str(path)
        self._listener = socket.create_server(("127.0.0.1", port))
        self._ends: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, name="forwarder", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Ends every connection of the moment; new ones may come."""
        with self._lock:
            ends = list(self._ends)
        for end in ends:
            _end(end)

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                outer, _ = self._listener.accept()
                inner = socket.socket(socket.AF_UNIX)
                try:
                    inner.connect(self._path)
                except OSError:
                    outer.close()
                    inner.close()
                    continue
                for one, other in ((outer, inner), (inner, outer)):
                    threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        with self._lock:
            self._ends.add(one)
        with suppress(OSError):
            while data := one.recv(65_536):
                other.sendall(data)
        _end(one)
        _end(other)
        with self._lock:
            self._ends.discard(one)
        one.close()


def _end(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
