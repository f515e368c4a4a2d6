"""What the provider refuses to serve at all, known once for the whole host: a model, or every request of this account.

Pure, time passed in (seconds).
"""

from typing import Final

PROBE_INTERVAL_S: Final = 60.0
ACCOUNT: Final = "account"


class Availability:
    """Refuses at once what the provider is known to refuse; one request a minute probes whether that has changed."""

    def __init__(self) -> None:
        self._refused: dict[str, tuple[str, float]] = {}

    def mark_unavailable(self, name: str, reason: str, now: float) -> bool:
        """The provider refused `name`. True when that is news."""
        is_news = name not in self._refused
        self._refused[name] = (reason, now + PROBE_INTERVAL_S)
        return is_news

    def mark_available(self, name: str) -> bool:
        """The provider answered for `name`. True when it was refused before."""
        return self._refused.pop(name, None) is not None

    def find_unavailable_reason(self, name: str, now: float) -> str | None:
        """Why `name` is not to be asked for now; None also for the one who is to find out whether it is back."""
        if name not in self._refused:
            return None
        reason, again_at = self._refused[name]
        if now < again_at:
            return reason
        self._refused[name] = (reason, now + PROBE_INTERVAL_S)
        return None

    def get_last_reason(self, name: str) -> str | None:
        """Why `name` is refused, whoever asks; None when it is not."""
        return self._refused.get(name, (None, 0.0))[0]
