"""One at a time per key, first come, first served: requests of one account wait for each other, others do not."""

import threading
from collections import deque
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from engine.errors import SparkyError


class Busy(SparkyError):
    """The key is held by another thread for longer than the caller wants to wait."""


class KeyedLocks:
    """A queue per key, made when first wanted and forgotten when it is empty; the first in it holds the key.

    `threading.Lock` promises no order: a thread that gives it back and takes it again may pass all that wait.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._queues: dict[Hashable, deque[threading.Event]] = {}

    @contextmanager
    def hold(self, key: Hashable, timeout_s: float) -> Iterator[None]:
        """Holds `key`. Raises Busy when it is not free within `timeout_s` seconds."""
        turn = self._join(key)
        try:
            if not turn.wait(timeout_s):
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

    def _join(self, key: Hashable) -> threading.Event:
        turn = threading.Event()
        with self._guard:
            queue = self._queues.setdefault(key, deque())
            queue.append(turn)
            if len(queue) == 1:
                turn.set()
        return turn

    def _leave(self, key: Hashable, turn: threading.Event) -> None:
        """Also of a turn that came while its thread gave up: the next one has it then."""
        with self._guard:
            queue = self._queues[key]
            queue.remove(turn)
            if queue:
                queue[0].set()
            else:
                del self._queues[key]
