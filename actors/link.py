"""pykka's ask and tell across processes: JSON messages over ZeroMQ sockets in one private directory.

A name is an address: `limiter` is ``<run_dir>/limiter.sock``, so a restarted limiter is found again by the same name.
A request is the frames [id, type, JSON] (the id is empty when nothing is to come back); a reply has the same three.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog
import zmq
from pydantic import ValidationError

from actors import messages
from actors.actor import M
from actors.messages import Ask, Failed, Message
from engine.errors import Skip

logger = structlog.get_logger()

_HIGH_WATER = 1_000
_MOST_SOCKETS = 64
_CONNECT_MS = 50
_LARGEST_MESSAGE = 4 * 1024 * 1024
_TYPES = {
    name: value for name, value in vars(messages).items() if isinstance(value, type) and issubclass(value, Message)
}


def address(run_dir: Path, name: str) -> str:
    return f"ipc://{run_dir}/{name}.sock"


def pack(message: Message) -> tuple[bytes, bytes]:
    return type(message).__name__.encode(), message.model_dump_json().encode()


def unpack(kind: bytes, body: bytes) -> Message:
    """The message in two frames. Raises ValueError when the type is unknown or the fields do not fit it."""
    found = _TYPES.get(kind.decode(errors="replace"))
    if found is None:
        raise ValueError(f"no message is called {kind[:40]!r}")
    return found.model_validate_json(body)


class Link:
    """Reaches actors in other processes. May be used from any thread; each keeps its own sockets.

    Made after the fork, never before: a ZeroMQ context does not survive one.
    """

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", run_dir: Path) -> None:
        self._context = context
        self._run_dir = run_dir
        self._local = threading.local()
        self._serials = itertools.count(1)
        self.dropped = 0

    def ask(self, name: str, message: Ask, reply: type[M]) -> M:
        """The peer's reply. Raises Skip when none came by `message.deadline`, or the peer could not serve."""
        socket = self._socket(name)
        serial = next(self._serials).to_bytes(8, "big")
        if not socket.poll(_ms_until(message.deadline), zmq.POLLOUT):
            raise Skip(f"no_{name}", f"{name} is not there")
        socket.send_multipart([serial, *pack(message)])
        while socket.poll(_ms_until(message.deadline), zmq.POLLIN):
            answered, kind, body = socket.recv_multipart()
            if answered == serial:  # anything else answers an ask that was given up
                return _expect(name, unpack(kind, body), reply)
        raise Skip(f"no_{name}", f"{name} did not answer in time")

    def tell(self, name: str, message: Message) -> None:
        """Sends and forgets; a message to a peer that is away or choking is dropped and counted in `dropped`.

        Only the first one to a peer waits, some milliseconds at most, for the connection.
        """
        try:
            self._socket(name).send_multipart([b"", *pack(message)], zmq.NOBLOCK)
        except zmq.Again:
            self.dropped += 1

    def _socket(self, name: str) -> "zmq.Socket[bytes]":
        """The thread's socket to `name`, the most recently used last; the one unused for longest makes room."""
        sockets: dict[str, zmq.Socket[bytes]] = self._local.__dict__.setdefault("sockets", {})
        if name in sockets:
            sockets[name] = sockets.pop(name)
            return sockets[name]
        if len(sockets) >= _MOST_SOCKETS:
            sockets.pop(next(iter(sockets))).close()
        sockets[name] = _dealer(self._context, address(self._run_dir, name))
        sockets[name].poll(_CONNECT_MS, zmq.POLLOUT)  # so that the first tell finds a peer that is there connected
        return sockets[name]


class Door:
    """An actor's own address: where asks and tells come in and replies go out. Belongs to one thread."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", run_dir: Path, name: str) -> None:
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 200)
        self.socket.setsockopt(zmq.RCVHWM, _HIGH_WATER)
        self.socket.setsockopt(zmq.MAXMSGSIZE, _LARGEST_MESSAGE)
        self.socket.bind(address(run_dir, name))

    def arrivals(self) -> Iterator[tuple[Message, Callable[[Message], None] | None]]:
        """All that has arrived, each with the function that replies to it (None for a tell). Never blocks."""
        for _ in range(_HIGH_WATER):
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            arrival = self._opened(frames)
            if arrival is not None:
                yield arrival

    def _opened(self, frames: list[bytes]) -> tuple[Message, Callable[[Message], None] | None] | None:
        try:
            peer, serial, kind, body = frames
            message = unpack(kind, body)
        except (ValueError, ValidationError) as error:
            logger.warning("message_refused", reason=str(error).splitlines()[0])
            return None
        if serial == b"":
            return message, None

        def answer(reply: Message) -> None:
            self.socket.send_multipart([peer, serial, *pack(reply)], zmq.NOBLOCK)

        return message, answer


def _dealer(context: "zmq.Context[zmq.Socket[bytes]]", where: str) -> "zmq.Socket[bytes]":
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 200)
    socket.setsockopt(zmq.SNDHWM, _HIGH_WATER)
    socket.setsockopt(zmq.MAXMSGSIZE, _LARGEST_MESSAGE)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1_000)
    # Queue only towards a peer that is there: what was meant for a dead one must not reach its successor late.
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.connect(where)
    return socket


def _expect(name: str, message: Message, reply: type[M]) -> M:
    if isinstance(message, Failed):
        raise Skip(message.kind, message.reason)
    if not isinstance(message, reply):
        raise TypeError(f"{name} answered {type(message).__name__}, not {reply.__name__}")
    return message


def _ms_until(deadline: float) -> int:
    return max(0, round((deadline - time.monotonic()) * 1000))
