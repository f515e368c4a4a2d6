"""How many signals of one person are taken, entries per second and all at once: one's flood must not starve others."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

MOST_REMEMBERED: Final = 10_000


class Crowd:
    """Signals under way at once: at most `of_one` entries, and as many exits, of one person, and `entries` in all.

    Most of the time they wait: for a venue that hangs, or for each other. The other workers are for the others, and
    for exits. Safe for threads.
    """

    def __init__(self, of_one: int, entries: int) -> None:
        self._of_one = of_one
        self._entries = entries
        self._lock = threading.Lock()
        self._under_way: Counter[tuple[UUID | None, bool]] = Counter()

    @contextmanager
    def joined(self, user_id: UUID, *, is_entry: bool) -> Iterator[bool]:
        """Whether there is room for one more, until the end of the block."""
        kinds = ((user_id, is_entry), (None, is_entry))  # of the person, and of everybody
        with self._lock:
            mine, all_of_them = (self._under_way[kind] for kind in kinds)
            has_room = mine < self._of_one and not (is_entry and all_of_them >= self._entries)
            if has_room:
                self._under_way.update(kinds)
        try:
            yield has_room
        finally:
            with self._lock:
                if has_room:
                    self._under_way.subtract(kinds)
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
