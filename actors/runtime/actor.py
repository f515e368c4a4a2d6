"""The base of all actors, and the only file that extends pykka: replies that come later, ticks, asks that are late."""

import threading
import time
from collections.abc import Callable
from queue import Queue
from typing import Any, Protocol, Self, TypeVar

import pykka

from actors.runtime.messages import Ask, Message, Tick

M = TypeVar("M", bound=Message)


class Peers(Protocol):
    """How an actor reaches the others by name; across processes it is `actors.runtime.messaging.MessageClient`."""

    def ask(self, name: str, message: Ask, reply: type[M]) -> M:
        """The peer's reply. Raises CycleSkipped when none came by `message.deadline` or the peer could not serve."""
        ...

    def tell(self, name: str, message: Message) -> None:
        """Never raises: a message that cannot be sent now is dropped and counted."""
        ...


class ReplyFuture(pykka.ThreadingFuture[Any]):
    """A pykka future that calls back, and that waits for another one when it is set to it.

    pykka's own can only be waited for, which would cost a thread for each ask under way. Overrides the public `set`
    and `set_exception`; lock and flag are its own, since those of pykka are private.
    """

    def __init__(self) -> None:
        super().__init__()
        self._callback_lock = threading.Lock()
        self._callback: Callable[[ReplyFuture], None] | None = None
        self._is_set = False

    def set(self, value: Any = None) -> None:
        if isinstance(value, ReplyFuture):
            value.add_done_callback(self._chain)
            return
        super().set(value)
        self._finish()

    def set_exception(self, exc_info: Any = None) -> None:
        super().set_exception(exc_info)
        self._finish()

    def add_done_callback(self, callback: "Callable[[ReplyFuture], None]") -> None:
        """Calls `callback(self)` once, as soon as there is a result, on the thread that sets it (or now).

        There is one callback: another one takes its place.
        """
        with self._callback_lock:
            if not self._is_set:
                self._callback = callback
                return
        callback(self)

    def _chain(self, other: "ReplyFuture") -> None:
        try:
            self.set(other.get(timeout=0))
        except Exception:  # noqa: BLE001 - the exception that `other` was set to becomes this one's
            self.set_exception()

    def _finish(self) -> None:
        with self._callback_lock:
            self._is_set = True
            callback, self._callback = self._callback, None
        if callback is not None:
            callback(self)


class Actor(pykka.ThreadingActor):
    """Base actor. A subclass overrides `open`, `tick` and `receive`; all run on the actor's own thread.

    `receive` returns the reply, or a `ReplyFuture` that is set later, or None for a message that was told.

    In pykka's terms this is an actor type. Its three hooks "for implementors of new actor types" begin with an
    underscore, and pykka documents no other way: `_create_future` and `_create_actor_inbox` are overridden here, and
    `_start_actor_loop` is called, since the public `start` constructs the actor itself and returns no instance.
    Everything else goes through pykka's public interface.
    """

    use_daemon_thread = True  # an actor that hangs must not keep its process from ending
    tick_every_s = 1.0
    is_done = False  # set by an actor whose work is over; its process then ends well

    def __init__(self) -> None:
        super().__init__()
        self._is_open = False

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        return ReplyFuture()

    @staticmethod
    def _create_actor_inbox() -> "Queue[Any]":
        return Queue()

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, Tick):
            return self._tick()
        if isinstance(message, Ask) and message.is_late():
            return None
        return self.receive(message)

    def _tick(self) -> float:
        if not self._is_open:
            self.open()
            self._is_open = True
        return self.tick(time.monotonic())

    @property
    def inbox_size(self) -> int:
        """How many messages wait to be received."""
        inbox: Queue[Any] = self.actor_inbox  # type: ignore[assignment] # made in `_create_actor_inbox`
        return inbox.qsize()

    def start_instance(self) -> pykka.ActorRef[Self]:
        """Starts this actor's thread: what pykka's `start` does once it has constructed an actor."""
        pykka.ActorRegistry.register(self.actor_ref)
        self._start_actor_loop()
        return self.actor_ref

    def open(self) -> None:
        """Opens what the actor needs; called once, before its first tick. May raise ConfigurationError."""

    def tick(self, now: float) -> float:
        """Does what is due at monotonic `now`; returns the monotonic time of the next tick."""
        return now + self.tick_every_s

    def should_tick_now(self, message: Message) -> bool:  # noqa: ARG002 - for subclasses to decide
        """Whether a told `message` brings the next tick forward to now."""
        return False

    def close(self, grace_s: float) -> None:
        """Ends the work within `grace_s`, leaving nothing half-done; called once, from the child's main thread."""

    def receive(self, message: Message) -> Message | ReplyFuture | None:
        raise TypeError(f"{type(self).__name__} does not know {type(message).__name__}")
