"""A rate limit of entries per user, so that one user's flood does not take the workers from the others."""

import threading
from collections import OrderedDict
from typing import Final
from uuid import UUID

MAX_USERS: Final = 10_000


class UserRateLimiter:
    """A token bucket per user: `rate_per_s` entries a second, bursts of two seconds' worth. Thread-safe."""

    def __init__(self, rate_per_s: float) -> None:
        self._per_s = rate_per_s
        self._burst = max(1.0, 2 * rate_per_s)
        self._lock = threading.Lock()
        self._buckets: OrderedDict[UUID, tuple[float, float]] = OrderedDict()

    def acquire(self, user_id: UUID, now: float) -> float:
        """Takes a token and returns 0, or returns the seconds until there is one. `now` is monotonic, in seconds."""
        with self._lock:
            tokens, at = self._buckets.pop(user_id, (self._burst, now))
            tokens = min(self._burst, tokens + max(0.0, now - at) * self._per_s)
            wait_s = 0.0 if tokens >= 1 else (1 - tokens) / self._per_s
            self._buckets[user_id] = (tokens - 1 if wait_s == 0 else tokens, max(at, now))
            # The user seen longest ago is forgotten: its bucket is full again, unless more than MAX_USERS send at once.
            if len(self._buckets) > MAX_USERS:
                self._buckets.popitem(last=False)
        return wait_s
