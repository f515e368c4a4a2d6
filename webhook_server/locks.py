"""Fair locks by key, urgent requests first: requests of one account wait for each other, others do not."""

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from engine.platform.errors import SparkyError


class LockTimeout(SparkyError):
    """Another thread holds the key for longer than the caller can wait."""


@dataclass(eq=False)
class _Waiter:
    is_urgent: bool
    is_granted: threading.Event = field(default_factory=threading.Event)


class KeyedLocks:
    """A queue per key, created on demand and deleted when empty; its first waiter holds the lock.

    Not `threading.Lock`, which guarantees no order: a thread that releases and acquires it again may pass all waiters.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._queues: dict[Hashable, list[_Waiter]] = {}

    @contextmanager
    def hold(self, key: Hashable, timeout_s: float, *, is_urgent: bool = False) -> Iterator[None]:
        """Holds the lock of `key`; an urgent waiter goes before all others that are not. Raises LockTimeout when it is
        not free within `timeout_s` seconds."""
        waiter = _Waiter(is_urgent)
        self._enqueue(key, waiter)
        try:
            if not waiter.is_granted.wait(timeout_s):
                raise LockTimeout(str(key))
            yield
        finally:
            self._release(key, waiter)

    def __len__(self) -> int:
        """The number of keys that are held."""
        return len(self._queues)

    def count_waiting(self, key: Hashable) -> int:
        """The number of waiters for `key`, without its holder."""
        with self._guard:
            return max(0, len(self._queues.get(key, ())) - 1)

    def _enqueue(self, key: Hashable, waiter: "_Waiter") -> None:
        with self._guard:
            queue = self._queues.setdefault(key, [])
            # Behind the holder and the urgent waiters that came before.
            index = 1 + sum(other.is_urgent for other in queue[1:]) if waiter.is_urgent else len(queue)
            queue.insert(index, waiter)
            queue[0].is_granted.set()

    def _release(self, key: Hashable, waiter: "_Waiter") -> None:
        with self._guard:
            # Also for a waiter that timed out: it may have been granted the lock since, which the next one gets then.
            queue = self._queues[key]
            queue.remove(waiter)
            if queue:
                queue[0].is_granted.set()
            else:
                del self._queues[key]
