"""One at a time per key: requests of one account wait for each other, those of different accounts do not."""

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from engine.errors import SparkyError


class Busy(SparkyError):
    """The key is held by another thread for longer than the caller wants to wait."""


class KeyedLocks:
    """Locks by key, made when first wanted and forgotten when nobody holds or awaits them."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[Hashable, tuple[threading.Lock, int]] = {}

    @contextmanager
    def hold(self, key: Hashable, timeout_s: float) -> Iterator[None]:
        """Holds `key`. Raises Busy when it is not free within `timeout_s` seconds."""
        lock = self._join(key)
        try:
            if not lock.acquire(timeout=timeout_s):
                raise Busy(str(key))
            try:
                yield
            finally:
                lock.release()
        finally:
            self._leave(key)

    def __len__(self) -> int:
        return len(self._locks)

    def _join(self, key: Hashable) -> threading.Lock:
        with self._guard:
            lock, users = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = (lock, users + 1)
            return lock

    def _leave(self, key: Hashable) -> None:
        with self._guard:
            lock, users = self._locks.pop(key)
            if users > 1:
                self._locks[key] = (lock, users - 1)
