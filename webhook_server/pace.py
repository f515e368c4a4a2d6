"""How many signals of one person are taken, entries per second and all at once: one's flood must not starve others."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

MOST_REMEMBERED: Final = 10_000


class Crowd:
    """At most `most` of a kind are under way at once; the other workers are for the others. Safe for threads.

    Most of the time they wait: for a venue that hangs, or for each other.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._under_way: Counter[Hashable] = Counter()

    @contextmanager
    def joined(self, kind: Hashable) -> Iterator[bool]:
        """Whether there is room for one more of `kind`, until the end of the block."""
        with self._lock:
            has_room = self._under_way[kind] < self._most
            self._under_way[kind] += has_room
        try:
            yield has_room
        finally:
            with self._lock:
                self._under_way[kind] -= has_room
                self._under_way += Counter()  # forgets kinds of which there is none


class Pace:
    """A token bucket per user: `per_s` entries a second, up to two seconds' worth at once. Safe for threads."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._burst = max(1.0, 2 * per_s)
        self._lock = threading.Lock()
        self._buckets: OrderedDict[UUID, tuple[float, float]] = OrderedDict()

    def wait_s(self, user_id: UUID, now: float) -> float:
        """Seconds until an entry of this user is welcome; 0 takes one. `now` is monotonic, in seconds."""
        with self._lock:
            tokens, at = self._buckets.pop(user_id, (self._burst, now))
            tokens = min(self._burst, tokens + max(0.0, now - at) * self._per_s)
            wait_s = 0.0 if tokens >= 1 else (1 - tokens) / self._per_s
            self._buckets[user_id] = (tokens - 1 if wait_s == 0 else tokens, max(at, now))
            if len(self._buckets) > MOST_REMEMBERED:
                self._buckets.popitem(last=False)
        return wait_s
