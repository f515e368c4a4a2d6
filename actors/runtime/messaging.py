"""pykka's ask and tell across processes: JSON messages over ZeroMQ sockets in one private directory.

A name is an address: `monitor` is ``<run_dir>/monitor.sock``, so a restarted monitor is found again by the same name.
A request is the frames [id, type, JSON] (the id is empty when nothing is to come back); a reply has the same three.
"""

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog
import zmq
from pydantic import ValidationError
from zmq.utils.monitor import parse_monitor_message

from actors.runtime.actor import M
from actors.runtime.messages import Ask, ErrorReply, Message
from engine.platform.errors import CycleSkipped, SkipKind

logger = structlog.get_logger()

_HIGH_WATER_MARK = 1_000  # messages queued for one peer; more are dropped by the sender
_MAX_CONNECTIONS = 64  # of one thread; each takes several descriptors
_CONNECT_TIMEOUT_MS = 250
_MAX_MESSAGE_BYTES = 4 * 1024 * 1024
_LINGER_MS = 200  # how long a closing socket goes on to send what is queued


def address(run_dir: Path, name: str) -> str:
    return f"ipc://{_path(run_dir, name)}"


def _path(run_dir: Path, name: str) -> str:
    return f"{run_dir}/{name}.sock"


def encode(message: Message) -> tuple[bytes, bytes]:
    return type(message).__name__.encode(), message.model_dump_json().encode()


def decode(kind: bytes, body: bytes) -> Message:
    """The message of a type's name and JSON. Raises ValueError when the type is unknown or the fields do not fit it."""
    found = Message.find_class(kind.decode(errors="replace"))
    if found is None:
        raise ValueError(f"no message is called {kind[:40]!r}")
    return found.model_validate_json(body)


class MessageClient:
    """Reaches actors in other processes. May be used from any thread: each has its own sockets.

    A peer that is away is connected to again after `retry_ms` milliseconds: the first and the longest wait.

    Construct it after the fork: ZeroMQ's threads and descriptors do not survive one.
    """

    def __init__(
        self, context: "zmq.Context[zmq.Socket[bytes]]", run_dir: Path, retry_ms: tuple[int, int] = (50, 1_000)
    ) -> None:
        self._context = context
        self._run_dir = run_dir
        self._retry_ms = retry_ms
        self._local = threading.local()
        self._serials = itertools.count(1)
        self.dropped = 0

    def ask(self, name: str, message: Ask, reply: type[M]) -> M:
        """The peer's reply. Raises CycleSkipped when none came by `message.deadline`, or the peer could not serve.

        An ask whose peer ended before it replied is sent again to its successor: an ask must be safe to repeat.
        """
        connection, encoded, answer = self._get_connection(name), encode(message), None
        while answer is None:
            connection.wait_for_peer(message.deadline)
            serial = next(self._serials).to_bytes(8, "big")
            if connection.send_now([serial, *encoded]):
                answer = connection.wait_for_reply(serial, message.deadline)
        return _check_reply(name, decode(*answer), reply)

    def tell(self, name: str, message: Message) -> None:
        """Sends without waiting; a message to a peer that is away or does not keep up is dropped, and counted.

        Only the first message to a peer waits until the connection stands: about a millisecond, at most 250.
        """
        connection = self._get_connection(name)
        connection.drain_connection_events()
        try:
            is_sent = connection.send_now([b"", *encode(message)])
        except zmq.ZMQError:
            is_sent = False
        self.dropped += not is_sent

    def _get_connection(self, name: str) -> "_Connection":
        """This thread's connection to `name`. The least recently used one is closed when there are too many."""
        connections: dict[str, _Connection] = self._local.__dict__.setdefault("connections", {})
        if name in connections:
            connections[name] = connections.pop(name)  # a dict keeps the order of insertion: last used, last
            return connections[name]
        if len(connections) >= _MAX_CONNECTIONS:
            connections.pop(next(iter(connections))).close()
        connections[name] = _Connection(_create_dealer(self._context, self._retry_ms), self._run_dir, name)
        return connections[name]


class _Connection:
    """A socket to one peer, and whether its connection is still the one on which something was asked.

    ZeroMQ reconnects by itself and drops what was on its way; only the socket's monitor tells that it did.
    """

    def __init__(self, dealer: "zmq.Socket[bytes]", run_dir: Path, name: str) -> None:
        self._name = name
        self._reconnections = 0
        self._is_disconnected = False
        self._events: zmq.Socket[bytes] | None = None
        self.socket = dealer
        self.socket.connect(address(run_dir, name))
        if _is_listening(run_dir, name):  # else the first tell to a peer that is there would be dropped
            self.socket.poll(_CONNECT_TIMEOUT_MS, zmq.POLLOUT)

    def wait_for_peer(self, deadline: float) -> None:
        """Returns when a message would go to a living peer. Raises CycleSkipped when there is none by `deadline`."""
        events = self._get_event_socket()
        while True:
            # In this order: a disconnection is an event before the next connection takes messages.
            is_writable = self.socket.poll(0, zmq.POLLOUT)
            self._read_connection_events(events)
            if is_writable and not self._is_disconnected:
                return
            if not _poll_ready({events: zmq.POLLIN, self.socket: zmq.POLLOUT}, deadline):
                raise CycleSkipped(SkipKind.for_absent_peer(self._name), f"{self._name} is not there")

    def send_now(self, frames: list[bytes]) -> bool:
        """Whether the message was sent. Never waits: the peer may have ended since `wait_for_peer` returned, and a send
        that waits for its successor knows no deadline."""
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def wait_for_reply(self, serial: bytes, deadline: float) -> tuple[bytes, bytes] | None:
        """Type and body of the reply to `serial`; None when there is another connection, on which it was not asked.

        Raises CycleSkipped when there is neither by `deadline`.
        """
        events, reconnections = self._get_event_socket(), self._reconnections
        while self._reconnections == reconnections:
            ready = _poll_ready({events: zmq.POLLIN, self.socket: zmq.POLLIN}, deadline)
            if self.socket in ready:
                answered, kind, body = self.socket.recv_multipart()
                if answered == serial:  # else it answers an ask whose deadline has passed
                    return kind, body
            elif events in ready:
                self._read_connection_events(events)
            else:
                raise CycleSkipped(SkipKind.for_absent_peer(self._name), f"{self._name} did not answer in time")
        return None

    def drain_connection_events(self) -> None:
        """Reads the monitor's events: ZeroMQ's thread, which serves all sockets, blocks while that pipe is full."""
        if self._events is not None:
            self._read_connection_events(self._events)

    def close(self) -> None:
        if self._events is not None:
            self.socket.disable_monitor()
            self._events.close()
        self.socket.close()

    def _get_event_socket(self) -> "zmq.Socket[bytes]":
        """Events of the connection from the first ask on; a client that only tells needs none."""
        if self._events is None:
            self._events = self.socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        return self._events

    def _read_connection_events(self, events: "zmq.Socket[bytes]") -> None:
        while events.poll(0):
            was_disconnected = self._is_disconnected
            self._is_disconnected = parse_monitor_message(events.recv_multipart())["event"] == zmq.EVENT_DISCONNECTED
            # The event of a handshake comes after the connection takes messages. Without a disconnection before it,
            # an ask that was sent in between went over this very connection.
            self._reconnections += was_disconnected and not self._is_disconnected


class MessageServer:
    """The socket at an actor's address: receives asks and tells, sends replies. For one thread only."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", run_dir: Path, name: str) -> None:
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, _LINGER_MS)
        self.socket.setsockopt(zmq.RCVHWM, _HIGH_WATER_MARK)
        self.socket.setsockopt(zmq.MAXMSGSIZE, _MAX_MESSAGE_BYTES)
        self.socket.bind(address(run_dir, name))

    def receive_all(self) -> Iterator[tuple[Message, Callable[[Message], None] | None]]:
        """All that has arrived, each with the function that replies to it (None for a tell). Never blocks."""
        for _ in range(_HIGH_WATER_MARK):
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            arrival = self._decode_frames(frames)
            if arrival is not None:
                yield arrival

    def _decode_frames(self, frames: list[bytes]) -> tuple[Message, Callable[[Message], None] | None] | None:
        try:
            peer, serial, kind, body = frames
            message = decode(kind, body)
        except (ValueError, ValidationError) as error:
            logger.warning("message_refused", reason=str(error).splitlines()[0])
            return None
        if serial == b"":
            return message, None

        def send_reply(reply: Message) -> None:
            self.socket.send_multipart([peer, serial, *encode(reply)], zmq.NOBLOCK)

        return message, send_reply


def _create_dealer(context: "zmq.Context[zmq.Socket[bytes]]", retry_ms: tuple[int, int]) -> "zmq.Socket[bytes]":
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, _LINGER_MS)
    dealer.setsockopt(zmq.SNDHWM, _HIGH_WATER_MARK)
    dealer.setsockopt(zmq.MAXMSGSIZE, _MAX_MESSAGE_BYTES)
    dealer.setsockopt(zmq.RECONNECT_IVL, retry_ms[0])
    dealer.setsockopt(zmq.RECONNECT_IVL_MAX, retry_ms[1])
    # Queue only for a peer that is connected: what was meant for one that ended must not reach its successor late.
    dealer.setsockopt(zmq.IMMEDIATE, 1)
    return dealer


def _is_listening(run_dir: Path, name: str) -> bool:
    """Whether a process accepts connections at the address now; the file alone may be left by one that ended."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)
        return probe.connect_ex(_path(run_dir, name)) == 0


def _poll_ready(events: "dict[zmq.Socket[bytes], int]", deadline: float) -> "dict[zmq.Socket[bytes], int]":
    """The sockets that are ready for their events; none when `deadline` has passed."""
    poller = zmq.Poller()
    for each, event in events.items():
        poller.register(each, event)
    return dict(poller.poll(_remaining_ms(deadline)))


def _check_reply(name: str, message: Message, reply: type[M]) -> M:
    if isinstance(message, ErrorReply):
        raise message.to_exception()
    if not isinstance(message, reply):
        raise TypeError(f"{name} answered {type(message).__name__}, not {reply.__name__}")
    return message


def _remaining_ms(deadline: float) -> int:
    return max(0, round((deadline - time.monotonic()) * 1000))
