"""Who may call the model, and when: the provider's limits kept in every window, used in full, and shared fairly.

Pure policy for one model, time passed in (monotonic seconds). Order among waiting strategies is start-time fair
queueing (Goyal, Vin and Cheng, 1996) with every permit of equal weight: who has had fewer goes first; among equals a
holder of a position, then who asked first. A strategy that was away keeps a little of what it missed, never a hoard.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID, uuid4

from engine.domain.completion import LimitName
from engine.platform.values import Frozen
from engine.ratelimit.sliding_window import Entry, SlidingWindow

# The provider sees a request a moment after its permit, sooner or later than the next one; a window that is a little
# longer than its own absorbs that, at 0.7 % of the limit.
MARGIN_S: Final = 0.4
MINUTE_S: Final = 60.0
DAY_S: Final = 86_400.0
MAX_REFUSAL_S: Final = 3_600.0
MIN_BACK_OFF_S: Final = 1.0
MAX_UNTOLD_BACK_OFF_S: Final = 60.0  # where the provider does not say how long
MUCH_LONGER_S: Final = 30.0
_DAY_GRAIN_S: Final = 60.0
_CREDIT: Final = 3.0
_REMEMBERED: Final = 8_192


class PermitLimits(Frozen):
    """Requests and tokens per minute and day, and requests at once; None where nothing is known to limit."""

    rpm: int | None = None
    tpm: int | None = None
    rpd: int | None = None
    tpd: int | None = None
    concurrency: int


@dataclass(frozen=True, slots=True)
class PermitRequest:
    """A strategy waiting for a permit. `tokens` is the most that its request may use."""

    strategy_id: UUID
    tokens: int
    holds_position: bool
    asked_at: float
    deadline: float


@dataclass(frozen=True, slots=True)
class Grant:
    permit_id: UUID
    asker: PermitRequest
    waited_s: float


class HoldAfterRefusal(NamedTuple):
    """Until when (monotonic seconds) nobody asks, how long that was from the refusal on, and what refused, in words."""

    until: float
    seconds: float
    reason: str


class Correction(NamedTuple):
    """What a request used beside what its permit, granted at `at` (monotonic seconds), had counted."""

    at: float
    tokens: int
    requests: int


@dataclass(frozen=True, slots=True)
class _ActivePermit:
    strategy_id: UUID
    granted_at: float
    until: float
    tokens: int
    entries: tuple[Entry, ...]


class PermitScheduler:
    """The permits of one model. `hold_s` is how long a permit may be out before its holder counts as dead."""

    def __init__(self, limits: PermitLimits, hold_s: float, new_id: Callable[[], UUID] = uuid4) -> None:
        self._configured = self._limits = limits
        self._hold_s = hold_s
        self._new_id = new_id
        self._windows = {
            "rpm": SlidingWindow(MINUTE_S + MARGIN_S),
            "tpm": SlidingWindow(MINUTE_S + MARGIN_S),
            "rpd": SlidingWindow(DAY_S + MARGIN_S, _DAY_GRAIN_S),
            "tpd": SlidingWindow(DAY_S + MARGIN_S, _DAY_GRAIN_S),
        }
        self._waiting: dict[UUID, tuple[float, PermitRequest]] = {}
        self._held: dict[UUID, _ActivePermit] = {}
        self._finish: dict[UUID, float] = {}
        self._virtual = 0.0
        self._held_until = 0.0
        self._refusals = 0
        self.refusal: HoldAfterRefusal | None = None  # the latest that was news

    @property
    def limits(self) -> PermitLimits:
        return self._limits

    def find_impossible_reason(self, tokens: int) -> str | None:
        """Why a request of so many tokens can never be granted, or None.

        By the settings' limits: what the provider has announced may change with its next answer.
        """
        for name in ("tpm", "tpd"):
            limit = getattr(self._configured, name)
            if limit is not None and tokens > limit:
                return f"one request of up to {tokens} tokens is more than the limit of {limit} ({name})"
        return None

    def enqueue(self, asker: PermitRequest) -> None:
        """Puts the asker into the queue; a newer ask of the same strategy takes the older one's place."""
        finish = self._finish.get(asker.strategy_id, self._virtual)
        self._waiting[asker.strategy_id] = (max(self._virtual - _CREDIT, finish), asker)

    def expire(self, now: float) -> list[PermitRequest]:
        """Drops askers whose deadline has passed, and returns them; frees the places of permits held too long."""
        late = [asker for _, asker in self._waiting.values() if now > asker.deadline]
        for asker in late:
            del self._waiting[asker.strategy_id]
        for permit_id in [permit_id for permit_id, held in self._held.items() if now > held.until]:
            del self._held[permit_id]
        return late

    def release_strategy(self, strategy_id: UUID, at: float) -> bool:
        """The strategy's process ended at `at`: what it had asked for before, and held, is free again.

        What was granted stays counted. Returns whether it was waiting.
        """
        for permit_id, held in list(self._held.items()):
            if held.strategy_id == strategy_id and held.granted_at <= at:
                del self._held[permit_id]
        is_waiting = strategy_id in self._waiting and self._waiting[strategy_id][1].asked_at <= at
        if is_waiting:
            del self._waiting[strategy_id]
        return is_waiting

    def grant_waiting(self, now: float) -> list[Grant]:
        """Grants all that can be granted now, in the queue's order; who does not fit yet holds up those behind."""
        granted = []
        while self._waiting and len(self._held) < self._limits.concurrency:
            start, asker = self._next_request()
            if self._fits_at(now, asker.tokens) > now:
                break
            granted.append(self._grant(start, asker, now))
        return granted

    def find_next_grant_at(self, now: float) -> float | None:
        """When the first in the queue will fit, as far as is known; None if nobody waits or only a release helps."""
        if not self._waiting or len(self._held) >= self._limits.concurrency:
            return None
        return self._fits_at(now, self._next_request()[1].tokens)

    def release(self, permit_id: UUID, tokens: int | None) -> Correction | None:
        """The request has ended with `tokens` actually counted; None when it was never sent, which gives all back.

        Returns how much that is beside what was counted when the permit was granted, None for an unknown permit.
        """
        held = self._held.pop(permit_id, None)
        if held is None:
            return None
        for name, entry in zip(self._windows, held.entries, strict=True):
            counts_requests = name.startswith("r")
            if tokens is None:
                self._windows[name].adjust(entry, -1 if counts_requests else -held.tokens)
            elif not counts_requests:
                self._windows[name].adjust(entry, tokens - held.tokens)
        return Correction(held.granted_at, (tokens or 0) - held.tokens, -1 if tokens is None else 0)

    def restore(self, at: float, tokens: int, requests: int = 1) -> None:
        """Counts requests of the past, known from elsewhere (a former process): oldest first."""
        for name, window in self._windows.items():
            window.add(at, requests if name.startswith("r") else tokens)

    def apply_provider_limits(self, stated: Mapping[LimitName, int | None]) -> None:
        """All limits that the provider states by now: they tighten the configured ones and never loosen them."""
        self._limits = self._configured.model_copy(
            update={
                n: _tighter_limit(getattr(self._configured, n), v) for n, v in stated.items() if v is not None and v > 0
            }
        )

    def back_off(self, now: float, retry_after_s: float | None, reason: str) -> bool:
        """Holds all requests for `retry_after_s` (1 s to an hour) after a 429; without it for 1 s, doubled up to 60 s.

        True when that is news: no hold was in force, or one that is much shorter. Requests that were under way when
        another was refused tell nothing.
        """
        before = self.refusal
        is_held = before is not None and now < before.until
        if not retry_after_s or retry_after_s < 0:  # none, or a time that has passed
            if is_held:
                return False
            self._refusals += 1
            retry_after_s = min(MIN_BACK_OFF_S * 2 ** (self._refusals - 1), MAX_UNTOLD_BACK_OFF_S)
        hold_s = min(max(retry_after_s, MIN_BACK_OFF_S), MAX_REFUSAL_S)
        is_longer = before is None or now + hold_s > before.until + MUCH_LONGER_S
        if not is_held or is_longer:
            self.refusal = HoldAfterRefusal(now + hold_s, hold_s, reason)
        self.hold_until(now + hold_s)
        return not is_held or is_longer

    def hold_until(self, at: float) -> None:
        """No request before monotonic `at`."""
        self._held_until = max(self._held_until, at)

    def on_success(self) -> None:
        """The provider has answered: the next refusal is a first one."""
        self._refusals = 0

    def used(self, now: float) -> dict[str, float]:
        return {**{name: window.total(now) for name, window in self._windows.items()}, "concurrency": len(self._held)}

    def queue(self, now: float) -> tuple[int, float]:
        """How many wait, and the longest wait so far in seconds."""
        return len(self._waiting), max((now - asker.asked_at for _, asker in self._waiting.values()), default=0.0)

    def _next_request(self) -> tuple[float, PermitRequest]:
        return min(self._waiting.values(), key=lambda w: (w[0], not w[1].holds_position, w[1].asked_at))

    def _fits_at(self, now: float, tokens: int) -> float:
        at = max(now, self._held_until)
        for name, window in self._windows.items():
            limit = getattr(self._limits, name)
            if limit is not None:
                amount = 1 if name.startswith("r") else tokens
                # Larger than all that the provider allows a minute: alone in its window it may ask, and be told so.
                at = max(at, window.earliest_fit(now, amount, max(amount, limit)))
        return at

    def _grant(self, start: float, asker: PermitRequest, now: float) -> Grant:
        del self._waiting[asker.strategy_id]
        self._virtual = max(self._virtual, start)
        self._finish[asker.strategy_id] = start + 1
        if len(self._finish) > _REMEMBERED:
            self._finish = {known: finish for known, finish in self._finish.items() if finish > self._virtual - _CREDIT}
        entries = tuple(w.add(now, 1 if name.startswith("r") else asker.tokens) for name, w in self._windows.items())
        permit_id = self._new_id()
        self._held[permit_id] = _ActivePermit(asker.strategy_id, now, now + self._hold_s, asker.tokens, entries)
        return Grant(permit_id, asker, now - asker.asked_at)


def _tighter_limit(configured: int | None, announced: int) -> int:
    return announced if configured is None else min(configured, announced)
