"""Peers of actors that live in one process: the same ask and tell, on plain pykka refs."""

import threading
import time
from collections.abc import Callable
from typing import Any, cast

import pykka

from actors.runtime.actor import Actor, M
from actors.runtime.messages import Ask, ErrorReply, Message, Tick
from engine.platform.errors import CycleSkipped, SkipKind
from tests.support.clients.events import PATIENCE_S, Ear


class LocalPeers(Ear):
    """Reaches the actors that were started under a name; keeps what is told to anybody else, and to them."""

    def __init__(self) -> None:
        super().__init__()
        self.refs: dict[str, pykka.ActorRef[Any]] = {}
        self._drivers: dict[str, Driver] = {}

    def start(self, name: str, make: Callable[[], Actor], *, ticking: bool = True) -> pykka.ActorRef[Any]:
        """Starts an actor; `ticking` ones are asked to tick when they wish, as a child's loop would."""
        actor = make()
        ref = actor.start_instance()
        self.refs[name] = ref
        if ticking:
            self._drivers[name] = Driver(actor, ref)
        return ref

    def ask(self, name: str, message: Ask, reply: type[M]) -> M:
        if name not in self.refs:
            return super().ask(name, message, reply)
        future = self.refs[name].ask(message, block=False)
        try:
            answer = future.get(timeout=max(0.0, message.deadline - time.monotonic()))
        except pykka.Timeout:
            raise CycleSkipped(SkipKind.for_absent_peer(name), f"{name} did not answer in time") from None
        if isinstance(answer, ErrorReply):
            raise answer.to_exception()
        assert isinstance(answer, reply)
        return answer

    def tell(self, name: str, message: Message) -> None:
        super().tell(name, message)
        if name in self.refs:
            self.refs[name].tell(message)

    def wait_for_end(self, name: str) -> None:
        """Until the actor that was started under `name` has finished by itself."""
        assert self._drivers[name].has_ended(PATIENCE_S), f"{name} never finished"

    def stop(self) -> None:
        """Those that ask first, as a supervisor does: what they ask of others is answered to the end."""
        for name in reversed(list(self.refs)):
            self.stop_one(name)

    def stop_one(self, name: str) -> None:
        if name in self._drivers:
            self._drivers.pop(name).stop()
        self.refs.pop(name).stop()


class Driver:
    """Ticks one actor until it is stopped or finished."""

    def __init__(self, actor: Actor, ref: "pykka.ActorRef[Any]") -> None:
        self._actor = actor
        self._ref = ref
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set() and not self._actor.is_done:
            due = cast("float", self._ref.ask(Tick()))
            self._stopping.wait(max(0.0, due - time.monotonic()))

    def has_ended(self, patience_s: float) -> bool:
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    def stop(self) -> None:
        self._stopping.set()
        self._actor.close(1.0)
        self._thread.join()
