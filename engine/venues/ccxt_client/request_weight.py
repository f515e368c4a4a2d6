"""How much one process may ask of one venue address: what the venue says of its limits is believed and kept.

Protocol (Binance-shaped venues, Aster among them): every answer's `X-MBX-USED-WEIGHT-1M` counts this IP's requests of
the minute against `rateLimits` of exchangeInfo. Beyond it comes 429, and who goes on after that gets 418, a ban of two
minutes to three days. Elsewhere only 429, 418 and Retry-After apply.
"""

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Final

from engine.platform.errors import UpstreamUnavailable

WEIGHT_PER_MINUTE: Final = 2_400  # until exchangeInfo has told
PATIENT_SHARE: Final = 0.85  # of the limit; the rest is kept for orders and for other programs on this host
PROBE_S: Final = 5.0  # beyond that share, one question now and then finds out that the minute is over
WINDOW_S: Final = 60.0
PAUSE_S: Final = {429: 10.0, 418: 120.0}  # when the venue does not say how long


@dataclass(frozen=True)
class Load:
    """What is known of the limit at some moment. All times are monotonic seconds; every method is pure."""

    limit: int = WEIGHT_PER_MINUTE
    used: int = 0
    told_at: float = -WINDOW_S
    asked_at: float = -WINDOW_S
    closed_until: float = 0.0

    def wait_s(self, now: float, *, is_urgent: bool) -> float:
        """How long the next request has to wait; 0 when it may go now.

        After a 429 or 418 everything waits, exits too: to go on would turn seconds into a ban of days. The weight used
        keeps only the patient back.
        """
        if now < self.closed_until:
            return self.closed_until - now
        if is_urgent or now - self.told_at >= WINDOW_S or self.used < self.limit * PATIENT_SHARE:
            return 0.0
        return max(0.0, self.asked_at + PROBE_S - now)

    def reason(self, now: float) -> str:
        """Why a request has to wait now."""
        if now < self.closed_until:
            return "not asked, since it wants no requests for now"
        return f"not asked, since {self.used} of its limit of {self.limit} a minute are used"

    def asked(self, now: float) -> "Load":
        return replace(self, asked_at=now)

    def told(self, now: float, status: int, used: int | None, retry_after_s: float | None) -> "Load":
        """After an answer with `status` and what its headers said."""
        known = self if used is None else replace(self, used=used, told_at=now)
        if status not in PAUSE_S:
            return known
        pause_s = PAUSE_S[status] if retry_after_s is None else retry_after_s
        return replace(known, closed_until=max(known.closed_until, now + pause_s))


class Backoff:
    """The load of one address, shared between threads and clients."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.monotonic = monotonic  # the clock by which this process waits for the address
        self._lock = threading.Lock()
        self._load = Load()

    @property
    def load(self) -> Load:
        return self._load

    def ask(self, *, is_urgent: bool) -> None:
        """Before a request. Raises UpstreamUnavailable, with how long, when it must not be sent now."""
        with self._lock:
            now = self.monotonic()
            wait_s = self._load.wait_s(now, is_urgent=is_urgent)
            if wait_s > 0:
                raise UpstreamUnavailable("venue", self._load.reason(now), wait_s)
            self._load = self._load.asked(now)

    def hear(self, status: int, used: int | None, retry_after_s: float | None) -> None:
        with self._lock:
            self._load = self._load.told(self.monotonic(), status, used, retry_after_s)

    def learn(self, limit: int) -> None:
        """The weight per minute that the venue publishes."""
        with self._lock:
            self._load = replace(self._load, limit=limit)


_waits_for_room: ContextVar[bool] = ContextVar("waits_for_room", default=False)


def may_be_urgent() -> bool:
    """Whether what this thread asks now may use the share of the limit that is kept for orders."""
    return not _waits_for_room.get()


@contextmanager
def leaving_room(*, leaves: bool = True) -> Iterator[None]:
    """Questions within are asked again another time, so near the limit they wait, whoever's client asks them: the room
    is for orders. With `leaves` False, what is within is an order after all."""
    before = _waits_for_room.set(leaves)
    try:
        yield
    finally:
        _waits_for_room.reset(before)


@functools.cache
def backoff_of(address: str) -> Backoff:
    """The one Backoff of this process for `address` (a venue's name or base URL)."""
    del address
    return Backoff()
