"""Models, or the whole account, that the provider refuses to serve: learned once for all strategies of the host.

Pure, time passed in (monotonic seconds).
"""

from typing import Final

PROBE_INTERVAL_S: Final = 60.0
ACCOUNT: Final = "account"


class Availability:
    """Refuses without a request what the provider is known to refuse; one request a minute probes whether it still
    does."""

    def __init__(self) -> None:
        self._refused: dict[str, tuple[str, float]] = {}

    def mark_unavailable(self, name: str, reason: str, now: float) -> bool:
        """Records that the provider refused `name`. True when it was not refused before."""
        is_news = name not in self._refused
        self._refused[name] = (reason, now + PROBE_INTERVAL_S)
        return is_news

    def mark_available(self, name: str) -> bool:
        """Records that the provider answered for `name`. True when it was refused before."""
        return self._refused.pop(name, None) is not None

    def find_unavailable_reason(self, name: str, now: float) -> str | None:
        """Why `name` is refused now; None where it is not. None also for the first call after PROBE_INTERVAL_S, whose
        request is the probe."""
        if name not in self._refused:
            return None
        reason, again_at = self._refused[name]
        if now < again_at:
            return reason
        self._refused[name] = (reason, now + PROBE_INTERVAL_S)
        return None

    def get_last_reason(self, name: str) -> str | None:
        """Why `name` is refused, without admitting a probe; None when it is not."""
        return self._refused.get(name, (None, 0.0))[0]
