"""Locks by key, granted in order of arrival, exits first: requests of one account wait for each other."""

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from engine.platform.errors import SparkyError


class LockTimeout(SparkyError):
    """The key is held by another thread for longer than the caller wants to wait."""


@dataclass(eq=False)
class _Waiter:
    is_urgent: bool
    is_granted: threading.Event = field(default_factory=threading.Event)


class KeyedLocks:
    """A queue per key, created on first use and deleted when empty; the first in it holds the key."""

    # Not `threading.Lock`: it promises no order, so that a thread which releases it and takes it again may pass all
    # that wait.

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._queues: dict[Hashable, list[_Waiter]] = {}

    @contextmanager
    def hold(self, key: Hashable, timeout_s: float, *, is_urgent: bool = False) -> Iterator[None]:
        """Holds `key`; an urgent caller is served before waiting ones that are not. Raises LockTimeout when the key is
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
        return len(self._queues)

    def count_waiting(self, key: Hashable) -> int:
        """How many wait for `key`."""
        with self._guard:
            return max(0, len(self._queues.get(key, ())) - 1)

    def _enqueue(self, key: Hashable, waiter: "_Waiter") -> None:
        with self._guard:
            queue = self._queues.setdefault(key, [])
            index = 1 + sum(each.is_urgent for each in queue[1:]) if waiter.is_urgent else len(queue)
            queue.insert(index, waiter)
            queue[0].is_granted.set()

    def _release(self, key: Hashable, waiter: "_Waiter") -> None:
        """Also of a grant that came while its thread gave up: the next waiter gets it then."""
        with self._guard:
            queue = self._queues[key]
            queue.remove(waiter)
            if queue:
                queue[0].is_granted.set()
            else:
                del self._queues[key]
