"""What an actor tells, kept for a test to wait for."""

import threading
import time
from collections.abc import Callable

from actors.runtime.actor import M
from actors.runtime.messages import Ask, Message
from engine.platform.errors import CycleSkipped, SkipKind

PATIENCE_S = 120.0


class Ear:
    """Peers of an actor under test: keeps what it tells and lets no ask be answered."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Message]] = []
        self._changed = threading.Condition()

    def ask(self, name: str, message: Ask, reply: type[M]) -> M:
        raise CycleSkipped(
            SkipKind.for_absent_peer(name),
            f"{name} is not there for {type(message).__name__}, which wants {reply.__name__}",
        )

    def tell(self, name: str, message: Message) -> None:
        with self._changed:
            self.told.append((name, message))
            self._changed.notify_all()

    def of(self, kind: type[M]) -> list[M]:
        return [message for _, message in self.told if isinstance(message, kind)]

    def wait_for(self, kind: type[M], wanted: Callable[[M], bool] = lambda _: True, count: int = 1) -> list[M]:
        """The messages of `kind` that are `wanted`, once there are `count` of them."""
        deadline = time.monotonic() + PATIENCE_S
        with self._changed:
            while len(found := [message for message in self.of(kind) if wanted(message)]) < count:
                if not self._changed.wait(deadline - time.monotonic()):
                    raise AssertionError(f"{len(found)} of {count} {kind.__name__} came; told: {self.told[-20:]}")
            return found
