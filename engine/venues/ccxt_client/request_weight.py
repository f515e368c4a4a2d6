"""Keeps one process within the request weight limits of one venue address, as the venue's answers report them.

Protocol (Binance-shaped venues, Aster among them): every answer's `X-MBX-USED-WEIGHT-1M` counts this IP's requests of
the minute against `rateLimits` of exchangeInfo. Beyond it the venue answers 429, and to further requests 418: a ban of
two minutes to three days. Elsewhere only 429, 418 and Retry-After apply.
"""

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Final

from engine.domain.errors import VenueUnavailable

DEFAULT_WEIGHT_PER_MINUTE: Final = 2_400  # until exchangeInfo is read
NON_URGENT_SHARE: Final = 0.85  # of the limit; the rest is kept for orders and for other programs on this host
PROBE_INTERVAL_S: Final = 5.0  # beyond that share, how often a request finds out whether the minute is over
WINDOW_S: Final = 60.0
DEFAULT_PAUSE_S: Final = {429: 10.0, 418: 120.0}  # without a Retry-After


@dataclass(frozen=True)
class WeightState:
    """The known state of the limit. All times are monotonic seconds; every method is pure."""

    limit: int = DEFAULT_WEIGHT_PER_MINUTE
    used: int = 0
    reported_at: float = -WINDOW_S
    requested_at: float = -WINDOW_S
    blocked_until: float = 0.0

    def calculate_wait_s(self, now: float, *, is_urgent: bool) -> float:
        """How long the next request has to wait; 0 when it may go now.

        After a 429 or 418 everything waits, exits too, because further requests would turn seconds into a ban of days.
        The used weight delays only requests that are not urgent.
        """
        if now < self.blocked_until:
            return self.blocked_until - now
        if is_urgent or now - self.reported_at >= WINDOW_S or self.used < self.limit * NON_URGENT_SHARE:
            return 0.0
        return max(0.0, self.requested_at + PROBE_INTERVAL_S - now)

    def describe_wait(self, now: float) -> str:
        """Why a request has to wait now."""
        if now < self.blocked_until:
            return "not asked, since it wants no requests for now"
        return f"not asked, since {self.used} of its limit of {self.limit} a minute are used"

    def with_request(self, now: float) -> "WeightState":
        return replace(self, requested_at=now)

    def with_response(self, now: float, status: int, used: int | None, retry_after_s: float | None) -> "WeightState":
        """The state after an answer with this HTTP `status` and these header values."""
        updated = self if used is None else replace(self, used=used, reported_at=now)
        if status not in DEFAULT_PAUSE_S:
            return updated
        pause_s = DEFAULT_PAUSE_S[status] if retry_after_s is None else retry_after_s
        # Never earlier: a late answer to an earlier request may carry a shorter wait.
        return replace(updated, blocked_until=max(updated.blocked_until, now + pause_s))


class RequestWeightLimiter:
    """The load of one address, shared between threads and clients."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.monotonic = monotonic  # also the clock for other waits on this address
        self._lock = threading.Lock()
        self._state = WeightState()

    @property
    def state(self) -> WeightState:
        return self._state

    def acquire(self, *, is_urgent: bool) -> None:
        """Call it before a request. Raises UpstreamUnavailable, with the wait, when it must not be sent now."""
        with self._lock:
            now = self.monotonic()
            wait_s = self._state.calculate_wait_s(now, is_urgent=is_urgent)
            if wait_s > 0:
                raise VenueUnavailable(self._state.describe_wait(now), wait_s)
            self._state = self._state.with_request(now)

    def record_response(self, status: int, used: int | None, retry_after_s: float | None) -> None:
        with self._lock:
            self._state = self._state.with_response(self.monotonic(), status, used, retry_after_s)

    def set_limit(self, limit: int) -> None:
        """The weight per minute that the venue publishes."""
        with self._lock:
            self._state = replace(self._state, limit=limit)


_is_low_priority: ContextVar[bool] = ContextVar("is_low_priority", default=False)


def may_be_urgent() -> bool:
    """Whether requests of this thread may use the share of the limit that is reserved for orders."""
    return not _is_low_priority.get()


@contextmanager
def low_priority(*, is_low: bool = True) -> Iterator[None]:
    """Requests inside the block leave the reserved share of the limit to orders, also on an urgent client. With
    `is_low` False, the block is urgent again."""
    before = _is_low_priority.set(is_low)
    try:
        yield
    finally:
        _is_low_priority.reset(before)


@functools.cache
def get_shared_limiter(address: str) -> RequestWeightLimiter:
    """The one limiter of this process for `address` (a venue's name or base URL)."""
    del address
    return RequestWeightLimiter()
