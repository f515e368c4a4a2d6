"""Grants permits for one model: within the provider's limits in every window, using them in full, and fairly.

Pure policy, time passed in (monotonic seconds). The order among waiting strategies is start-time fair queueing (Goyal,
Vin and Cheng, 1996) with every permit of equal weight: the strategy with fewer permits goes first; among equals one
that holds a position, then the one that asked first. A strategy that did not ask for a while keeps `_MAX_CREDIT`
permits of its share, so that it cannot crowd out the others when it comes back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID, uuid4

from engine.domain.completion import LimitName
from engine.platform.values import Frozen
from engine.ratelimit.sliding_window import Entry, SlidingWindow

# Requests reach the provider some time after their permits, not all equally late. Windows that are longer than the
# provider's own absorb that, at a cost of 0.7 % of the limit.
MARGIN_S: Final = 0.4
MINUTE_S: Final = 60.0
DAY_S: Final = 86_400.0
MAX_REFUSAL_S: Final = 3_600.0
MIN_BACK_OFF_S: Final = 1.0
MAX_DEFAULT_BACK_OFF_S: Final = 60.0  # where the provider states no wait
NEWS_AFTER_S: Final = 30.0  # a hold that is longer by this much than the one in force is reported again
_DAY_GRAIN_S: Final = 60.0
_MAX_CREDIT: Final = 3.0
_MAX_REMEMBERED: Final = 8_192


class PermitLimits(Frozen):
    """Requests and tokens per minute and day, and concurrent requests; None where no limit is known."""

    rpm: int | None = None
    tpm: int | None = None
    rpd: int | None = None
    tpd: int | None = None
    concurrency: int


@dataclass(frozen=True, slots=True)
class PermitRequest:
    """A strategy that waits for a permit, in monotonic seconds. `tokens` is the most that its request may use."""

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
    """No request is granted before monotonic `until`, which was `seconds` after the refusal; `reason` is its text."""

    until: float
    seconds: float
    reason: str


class Correction(NamedTuple):
    """The difference between what a request used and what its permit of monotonic `at` had reserved."""

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
    """The permits of one model. A permit that is not released within `hold_s` seconds is freed: its holder is dead."""

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
        self._active_permits: dict[UUID, _ActivePermit] = {}
        self._finish_tags: dict[UUID, float] = {}
        self._virtual_time = 0.0
        self._hold_until = 0.0
        self._refusals = 0
        self.refusal: HoldAfterRefusal | None = None  # the latest one that `back_off` reported as news

    @property
    def limits(self) -> PermitLimits:
        return self._limits

    def find_impossible_reason(self, tokens: int) -> str | None:
        """Why a request of so many tokens can never be granted; None if it can.

        Only by the limits of the settings: those of the provider may change with its next answer.
        """
        for name in ("tpm", "tpd"):
            limit = getattr(self._configured, name)
            if limit is not None and tokens > limit:
                return f"one request of up to {tokens} tokens is more than the limit of {limit} ({name})"
        return None

    def enqueue(self, asker: PermitRequest) -> None:
        """Adds a request to the queue; it replaces an older one of the same strategy."""
        finish = self._finish_tags.get(asker.strategy_id, self._virtual_time)
        self._waiting[asker.strategy_id] = (max(self._virtual_time - _MAX_CREDIT, finish), asker)

    def expire(self, now: float) -> list[PermitRequest]:
        """Drops and returns requests whose deadline has passed; frees permits that are older than `hold_s`."""
        late = [asker for _, asker in self._waiting.values() if now > asker.deadline]
        for asker in late:
            del self._waiting[asker.strategy_id]
        for permit_id in [permit_id for permit_id, permit in self._active_permits.items() if now > permit.until]:
            del self._active_permits[permit_id]
        return late

    def release_strategy(self, strategy_id: UUID, at: float) -> bool:
        """Drops the request and frees the permits of a strategy whose process ended at monotonic `at`.

        Its grants stay counted, since the provider may have counted them. Returns whether it was waiting. Requests of
        its next process, made after `at`, stay.
        """
        for permit_id, permit in list(self._active_permits.items()):
            if permit.strategy_id == strategy_id and permit.granted_at <= at:
                del self._active_permits[permit_id]
        is_waiting = strategy_id in self._waiting and self._waiting[strategy_id][1].asked_at <= at
        if is_waiting:
            del self._waiting[strategy_id]
        return is_waiting

    def grant_waiting(self, now: float) -> list[Grant]:
        """Grants in queue order until the first request does not fit, and returns the grants.

        A request that does not fit blocks those behind it: otherwise small requests would keep a large one waiting for
        ever.
        """
        granted = []
        while self._waiting and len(self._active_permits) < self._limits.concurrency:
            start, asker = self._select_next()
            if self._find_fit_time(now, asker.tokens) > now:
                break
            granted.append(self._grant(start, asker, now))
        return granted

    def find_next_grant_at(self, now: float) -> float | None:
        """Monotonic time at which the first request of the queue will fit; None if none waits or only a release
        helps."""
        if not self._waiting or len(self._active_permits) >= self._limits.concurrency:
            return None
        return self._find_fit_time(now, self._select_next()[1].tokens)

    def release(self, permit_id: UUID, tokens: int | None) -> Correction | None:
        """Frees a permit whose request has used `tokens`; None when it was never sent, so that nothing is counted.

        Returns the correction of what the permit had reserved, None for an unknown permit.
        """
        permit = self._active_permits.pop(permit_id, None)
        if permit is None:
            return None
        for name, entry in zip(self._windows, permit.entries, strict=True):
            counts_requests = name.startswith("r")
            if tokens is None:
                self._windows[name].adjust(entry, -1 if counts_requests else -permit.tokens)
            elif not counts_requests:
                self._windows[name].adjust(entry, tokens - permit.tokens)
        return Correction(permit.granted_at, (tokens or 0) - permit.tokens, -1 if tokens is None else 0)

    def restore(self, at: float, tokens: int, requests: int = 1) -> None:
        """Counts requests that an earlier process granted at monotonic `at`; call it with the oldest first."""
        for name, window in self._windows.items():
            window.add(at, requests if name.startswith("r") else tokens)

    def apply_provider_limits(self, stated: Mapping[LimitName, int | None]) -> None:
        """Applies all limits that the provider has stated: they tighten the configured ones and never loosen them."""
        tighter: dict[str, int] = {
            name: _choose_tighter(getattr(self._configured, name), size)
            for name, size in stated.items()
            if size and size > 0
        }
        self._limits = self._configured.model_copy(update=tighter)

    def back_off(self, now: float, retry_after_s: float | None, reason: str) -> bool:
        """Holds all requests for `retry_after_s` (1 s to an hour) after a 429; without it for 1 s, doubled up to 60 s.

        True when that is news: no hold was in force, or one that ends NEWS_AFTER_S earlier. A refusal without a wait
        during a hold changes nothing: its request was under way when another one was refused.
        """
        before = self.refusal
        is_held = before is not None and now < before.until
        if not retry_after_s or retry_after_s < 0:  # none, or a time that has passed
            if is_held:
                return False
            self._refusals += 1
            retry_after_s = min(MIN_BACK_OFF_S * 2 ** (self._refusals - 1), MAX_DEFAULT_BACK_OFF_S)
        hold_s = min(max(retry_after_s, MIN_BACK_OFF_S), MAX_REFUSAL_S)
        is_longer = before is None or now + hold_s > before.until + NEWS_AFTER_S
        if not is_held or is_longer:
            self.refusal = HoldAfterRefusal(now + hold_s, hold_s, reason)
        self.hold_until(now + hold_s)
        return not is_held or is_longer

    def hold_until(self, at: float) -> None:
        """Grants nothing before monotonic `at`."""
        self._hold_until = max(self._hold_until, at)

    def on_success(self) -> None:
        """The provider has answered, so that the next back-off begins with the shortest wait."""
        self._refusals = 0

    def get_usage(self, now: float) -> dict[str, float]:
        """Use of each limit in its window, by name."""
        return {
            **{name: window.get_total(now) for name, window in self._windows.items()},
            "concurrency": len(self._active_permits),
        }

    def measure_queue(self, now: float) -> tuple[int, float]:
        """The number of waiting requests, and the longest wait so far in seconds."""
        return len(self._waiting), max((now - asker.asked_at for _, asker in self._waiting.values()), default=0.0)

    def _select_next(self) -> tuple[float, PermitRequest]:
        return min(
            self._waiting.values(), key=lambda waiting: (waiting[0], not waiting[1].holds_position, waiting[1].asked_at)
        )

    def _find_fit_time(self, now: float, tokens: int) -> float:
        at = max(now, self._hold_until)
        for name, window in self._windows.items():
            limit = getattr(self._limits, name)
            if limit is not None:
                amount = 1 if name.startswith("r") else tokens
                # A request larger than the provider's whole limit is sent alone in its window: the provider's refusal
                # then says so, or its limit has changed.
                at = max(at, window.find_earliest_fit(now, amount, max(amount, limit)))
        return at

    def _grant(self, start: float, asker: PermitRequest, now: float) -> Grant:
        del self._waiting[asker.strategy_id]
        self._virtual_time = max(self._virtual_time, start)
        self._finish_tags[asker.strategy_id] = start + 1
        if len(self._finish_tags) > _MAX_REMEMBERED:
            # A tag that is older than the credit has no effect any more.
            oldest = self._virtual_time - _MAX_CREDIT
            self._finish_tags = {key: finish for key, finish in self._finish_tags.items() if finish > oldest}
        entries = tuple(
            window.add(now, 1 if name.startswith("r") else asker.tokens) for name, window in self._windows.items()
        )
        permit_id = self._new_id()
        self._active_permits[permit_id] = _ActivePermit(
            asker.strategy_id, now, now + self._hold_s, asker.tokens, entries
        )
        return Grant(permit_id, asker, now - asker.asked_at)


def _choose_tighter(configured: int | None, stated: int) -> int:
    return stated if configured is None else min(configured, stated)
