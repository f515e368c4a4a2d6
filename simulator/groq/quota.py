"""Groq's limits: sliding windows of requests and tokens per model. Pure, with time (monotonic seconds) passed in."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

MINUTE_S: Final = 60.0
DAY_S: Final = 86_400.0


@dataclass(frozen=True)
class Limits:
    """Requests per minute and day, tokens per minute and day.

    The defaults are large; Groq's free tier is 30, 1,000, 8,000 and 200,000.
    """

    rpm: int = 1_000
    rpd: int = 500_000
    tpm: int = 1_000_000
    tpd: int = 1_000_000_000


@dataclass(frozen=True)
class QuotaExceeded:
    """The limit that a request would exceed, and when there is room again."""

    kind: str  # "requests per minute (RPM)" and the like
    limit: int
    used: int
    wanted: int
    retry_after_s: float

    @property
    def exceeds_limit_alone(self) -> bool:
        """Whether the request alone is larger than the limit, so that waiting does not help."""
        return self.wanted > self.limit


@dataclass
class SlidingWindow:
    """A sum over the last `span_s` seconds: what was used comes back exactly `span_s` later."""

    span_s: float
    entries: deque[tuple[float, int]] = field(default_factory=deque)
    total: int = 0

    def get_usage(self, now: float) -> int:
        while self.entries and self.entries[0][0] <= now - self.span_s:
            self.total -= self.entries.popleft()[1]
        return self.total

    def add(self, now: float, amount: int) -> None:
        self.entries.append((now, amount))
        self.total += amount

    def calculate_wait_s(self, now: float, excess: int) -> float:
        """How long until `excess` of what is used has left the window."""
        for at, amount in self.entries:
            excess -= amount
            if excess <= 0:
                return max(0.0, at + self.span_s - now)
        return self.span_s


class Quota:
    """The usage of one model."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.minute = SlidingWindow(MINUTE_S)
        self.day = SlidingWindow(DAY_S)
        self.tokens = SlidingWindow(MINUTE_S)
        self.day_tokens = SlidingWindow(DAY_S)

    def admit(self, now: float, tokens: int) -> QuotaExceeded | None:
        """Counts a request of about `tokens`; or counts nothing and returns the limit that it exceeds."""
        checks = (
            ("requests per minute (RPM)", self.minute, self.limits.rpm, 1),
            ("requests per day (RPD)", self.day, self.limits.rpd, 1),
            ("tokens per minute (TPM)", self.tokens, self.limits.tpm, tokens),
            ("tokens per day (TPD)", self.day_tokens, self.limits.tpd, tokens),
        )
        for kind, window, limit, amount in checks:
            used = window.get_usage(now)
            if used + amount > limit:
                return QuotaExceeded(kind, limit, used, amount, window.calculate_wait_s(now, used + amount - limit))
        # Only now: a refused request uses none of the limits.
        for _, window, _, amount in checks:
            window.add(now, amount)
        return None

    def build_headers(self, now: float) -> dict[str, str]:
        """Headers as Groq sends them: requests are per day, tokens per minute, reset is a duration such as
        ``2m59.56s``."""
        requests, tokens = self.day.get_usage(now), self.tokens.get_usage(now)
        return {
            "x-ratelimit-limit-requests": str(self.limits.rpd),
            "x-ratelimit-remaining-requests": str(max(0, self.limits.rpd - requests)),
            "x-ratelimit-reset-requests": format_duration(DAY_S * requests / self.limits.rpd),
            "x-ratelimit-limit-tokens": str(self.limits.tpm),
            "x-ratelimit-remaining-tokens": str(max(0, self.limits.tpm - tokens)),
            "x-ratelimit-reset-tokens": format_duration(MINUTE_S * tokens / self.limits.tpm),
        }


def format_duration(seconds: float) -> str:
    """As Groq writes it: ``7.66s``, ``2m59.56s``, ``1h2m3s``."""
    minutes, rest = divmod(round(seconds, 2), 60)
    hours, minutes = divmod(int(minutes), 60)
    shown = f"{rest:.2f}".rstrip("0").rstrip(".") + "s"
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + shown
