"""How many entries of one person are taken per second: one's flood must not starve others."""

import threading
from collections import OrderedDict
from typing import Final
from uuid import UUID

MAX_USERS: Final = 10_000


class UserRateLimiter:
    """A token bucket per user: `per_s` entries a second, up to two seconds' worth at once. Safe for threads."""

    def __init__(self, rate_per_s: float) -> None:
        self._per_s = rate_per_s
        self._burst = max(1.0, 2 * rate_per_s)
        self._lock = threading.Lock()
        self._buckets: OrderedDict[UUID, tuple[float, float]] = OrderedDict()

    def acquire(self, user_id: UUID, now: float) -> float:
        """Seconds until an entry of this user is welcome; 0 takes one. `now` is monotonic, in seconds."""
        with self._lock:
            tokens, at = self._buckets.pop(user_id, (self._burst, now))
            tokens = min(self._burst, tokens + max(0.0, now - at) * self._per_s)
            wait_s = 0.0 if tokens >= 1 else (1 - tokens) / self._per_s
            self._buckets[user_id] = (tokens - 1 if wait_s == 0 else tokens, max(at, now))
            if len(self._buckets) > MAX_USERS:
                self._buckets.popitem(last=False)
        return wait_s
