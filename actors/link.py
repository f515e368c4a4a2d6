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
from zmq.utils.monitor import parse_monitor_message

from actors import messages
from actors.actor import M
from actors.messages import Ask, Failed, Message
from engine.errors import Skip

logger = structlog.get_logger()

_HIGH_WATER = 1_000
_MOST_LINES = 64
_CONNECT_S = 1.0
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
        """The peer's reply. Raises Skip when none came by `message.deadline`, or the peer could not serve.

        What was asked of a peer that died is asked again of its successor: an ask must be safe to repeat.
        """
        line, packed, answer = self._line(name), pack(message), None
        while answer is None:
            line.wait_for_peer(message.deadline)
            serial = next(self._serials).to_bytes(8, "big")
            line.socket.send_multipart([serial, *packed])
            answer = line.answer(serial, message.deadline)
        return _expect(name, unpack(*answer), reply)

    def tell(self, name: str, message: Message) -> None:
        """Sends and forgets; a message to a peer that is away or choking is dropped and counted in `dropped`.

        Only the first one to a peer waits for the connection, until it is there or was refused: mostly a millisecond.
        """
        try:
            self._line(name).socket.send_multipart([b"", *pack(message)], zmq.NOBLOCK)
        except zmq.ZMQError:
            self.dropped += 1

    def _line(self, name: str) -> "_Line":
        """The thread's line to `name`, the most recently used last; the one unused for longest makes room."""
        lines: dict[str, _Line] = self._local.__dict__.setdefault("lines", {})
        if name in lines:
            lines[name] = lines.pop(name)
            return lines[name]
        if len(lines) >= _MOST_LINES:
            lines.pop(next(iter(lines))).close()
        lines[name] = _Line(self._context, self._run_dir, name)
        return lines[name]


class _Line:
    """A socket to one peer, and whether the connection is still the one on which something was asked."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", run_dir: Path, name: str) -> None:
        self._name = name
        self.socket = _dealer(context)
        self._events = self.socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED
        )
        self._inward, self._outward = zmq.Poller(), zmq.Poller()
        self._inward.register(self.socket, zmq.POLLIN)
        self._outward.register(self.socket, zmq.POLLOUT)
        for poller in (self._inward, self._outward):
            poller.register(self._events, zmq.POLLIN)
        self._is_up = self._is_refused = False
        self._connections = 0
        self.socket.connect(address(run_dir, name))
        self._wait_for_first_connection()

    def wait_for_peer(self, deadline: float) -> None:
        """Returns when a message would go to a living peer. Raises Skip when there is none by `deadline`."""
        while True:
            self._hear_events()
            if self._is_up and self.socket.poll(0, zmq.POLLOUT):
                return
            if not self._outward.poll(_ms_until(deadline)):
                raise Skip(f"no_{self._name}", f"{self._name} is not there")

    def answer(self, serial: bytes, deadline: float) -> tuple[bytes, bytes] | None:
        """Type and body of the reply to `serial`; None when there is another connection, on which it was not asked.

        Raises Skip when there is neither by `deadline`.
        """
        asked_on = self._connections
        while self._connections == asked_on:
            ready = dict(self._inward.poll(_ms_until(deadline)))
            if self.socket in ready:
                answered, kind, body = self.socket.recv_multipart()
                if answered == serial:  # anything else answers an ask that was given up
                    return kind, body
            elif self._events in ready:
                self._hear_events()
            else:
                raise Skip(f"no_{self._name}", f"{self._name} did not answer in time")
        return None

    def _wait_for_first_connection(self) -> None:
        """So that the first tell reaches a peer that is there, and one that is not costs no time."""
        deadline = time.monotonic() + _CONNECT_S
        while not self._is_refused and not self.socket.poll(0, zmq.POLLOUT):
            if not self._outward.poll(_ms_until(deadline)):
                return
            self._hear_events()

    def close(self) -> None:
        self.socket.disable_monitor()
        self._events.close()
        self.socket.close()

    def _hear_events(self) -> None:
        while self._events.poll(0):
            event = parse_monitor_message(self._events.recv_multipart())["event"]
            self._is_up = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            self._is_refused = event == zmq.EVENT_CONNECT_RETRIED
            self._connections += self._is_up


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


def _dealer(context: "zmq.Context[zmq.Socket[bytes]]") -> "zmq.Socket[bytes]":
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 200)
    socket.setsockopt(zmq.SNDHWM, _HIGH_WATER)
    socket.setsockopt(zmq.MAXMSGSIZE, _LARGEST_MESSAGE)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1_000)
    # Queue only towards a peer that is there: what was meant for a dead one must not reach its successor late.
    socket.setsockopt(zmq.IMMEDIATE, 1)
    return socket


def _expect(name: str, message: Message, reply: type[M]) -> M:
    if isinstance(message, Failed):
        raise Skip(message.kind, message.reason)
    if not isinstance(message, reply):
        raise TypeError(f"{name} answered {type(message).__name__}, not {reply.__name__}")
    return message


def _ms_until(deadline: float) -> int:
    return max(0, round((deadline - time.monotonic()) * 1000))
