"""One at a time per key, in order, exits first: requests of one account wait for each other, others do not."""

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from engine.platform.errors import SparkyError


class Busy(SparkyError):
    """The key is held by another thread for longer than the caller wants to wait."""


@dataclass(eq=False)
class _Turn:
    is_urgent: bool
    has_come: threading.Event = field(default_factory=threading.Event)


class KeyedLocks:
    """A queue per key, made when first wanted and forgotten when it is empty; the first in it holds the key.

    `threading.Lock` promises no order: a thread that gives it back and takes it again may pass all that wait.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._queues: dict[Hashable, list[_Turn]] = {}

    @contextmanager
    def hold(self, key: Hashable, timeout_s: float, *, is_urgent: bool = False) -> Iterator[None]:
        """Holds `key`, an urgent one before all that wait and are not. Raises Busy when it is not free within
        `timeout_s` seconds."""
        turn = _Turn(is_urgent)
        self._join(key, turn)
        try:
            if not turn.has_come.wait(timeout_s):
                raise Busy(str(key))
            yield
        finally:
            self._leave(key, turn)

    def __len__(self) -> int:
        return len(self._queues)

    def waiting(self, key: Hashable) -> int:
        """How many wait for `key`."""
        with self._guard:
            return max(0, len(self._queues.get(key, ())) - 1)

    def _join(self, key: Hashable, turn: "_Turn") -> None:
        with self._guard:
            queue = self._queues.setdefault(key, [])
            behind = 1 + sum(each.is_urgent for each in queue[1:]) if turn.is_urgent else len(queue)
            queue.insert(behind, turn)
            queue[0].has_come.set()

    def _leave(self, key: Hashable, turn: "_Turn") -> None:
        """Also of a turn that came while its thread gave up: the next one has it then."""
        with self._guard:
            queue = self._queues[key]
            queue.remove(turn)
            if queue:
                queue[0].has_come.set()
            else:
                del self._queues[key]
