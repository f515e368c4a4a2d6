"""The request weight that a client may use per minute, and the ban of a client that goes on after refusals.

Source: Aster's API documentation (IP limits), the same as Binance's."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

WEIGHT_PER_MINUTE: Final = 2_400
WINDOW_S: Final = 60.0
MAX_REFUSED: Final = 50  # in one window; beyond it comes the ban
BAN_S: Final = 120.0


@dataclass(frozen=True)
class WeightExceeded:
    status: int
    code: int
    message: str
    retry_after_s: float


class WeightMeter:
    """The weight used in the current minute, which starts with its first request; `limit` 0 means no limit."""

    def __init__(self, limit: int = WEIGHT_PER_MINUTE, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.used = 0
        self._monotonic = monotonic
        self._refused = 0
        self._since = monotonic()
        self._banned_until = 0.0

    def admit(self, weight: int) -> WeightExceeded | None:
        """Counts a request, also one that it refuses; the refusal, or None."""
        now = self._monotonic()
        if now - self._since >= WINDOW_S:
            self._since, self.used, self._refused = now, 0, 0
        self.used += weight  # refused requests count too
        if now < self._banned_until:
            return WeightExceeded(418, -1003, "Way too many requests; IP banned.", self._banned_until - now)
        if not self.limit or self.used <= self.limit:
            return None
        self._refused += 1
        if self._refused > MAX_REFUSED:
            self._banned_until = now + BAN_S
        reason = f"Too many requests; current limit of IP is {self.limit} requests weight per minute."
        return WeightExceeded(429, -1003, reason, self._since + WINDOW_S - now)
