"""Which models the provider does not serve any more, known once for the whole host: pure, time passed in (seconds)."""

from typing import Final

ASKED_AGAIN_S: Final = 60.0


class GoneModels:
    """Who wants a model that is gone hears so without asking for it; one a minute asks, in case it has come back."""

    def __init__(self) -> None:
        self._gone: dict[str, tuple[str, float]] = {}

    def gone(self, model: str, reason: str, now: float) -> bool:
        """The provider refused `model`. True when that is news."""
        is_news = model not in self._gone
        self._gone[model] = (reason, now + ASKED_AGAIN_S)
        return is_news

    def served(self, model: str) -> bool:
        """The provider answered for `model`. True when it was gone before."""
        return self._gone.pop(model, None) is not None

    def reason_not_to_ask(self, model: str, now: float) -> str | None:
        """Why `model` is not to be asked now; None also for the one who is to find out whether it is back."""
        if model not in self._gone:
            return None
        reason, again_at = self._gone[model]
        if now < again_at:
            return reason
        self._gone[model] = (reason, now + ASKED_AGAIN_S)
        return None

    def known(self, model: str) -> str | None:
        return self._gone.get(model, (None, 0.0))[0]
