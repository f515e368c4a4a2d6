"""The circuit breaker of one strategy: five failures in a row open it, and open it runs no cycles.

A strategy's own faults, five with no success between them, pause its row. An upstream's failures never do: the breaker
stays open for a cool-down, then admits one cycle as a probe. Cool-downs double for each upstream on its own: a database
that fails between two refusals of the provider does not change the provider's cool-down. Pure: frozen state, functions,
time passed in.
"""

import re
from typing import Final, Literal, NamedTuple

from pydantic import Field

from engine.platform.errors import DatabaseUnavailable
from engine.platform.values import Frozen

FAILURES_TO_OPEN: Final = 5
FIRST_COOL_DOWN_S: Final = 60.0
MAX_COOL_DOWN_S: Final = 900.0
OWN: Final = "strategy"  # the cool-down after the strategy's own faults, while its row cannot be paused
MAX_REASON: Final = 160
_FIGURES: Final = re.compile(r"[0-9][0-9.:,]*")

State = Literal["closed", "open", "half_open"]


class CoolDown(NamedTuple):
    """How long a breaker stays open for one upstream: at first and at most, in seconds."""

    first_s: float
    longest_s: float


def get_cool_down(service: str) -> CoolDown:
    """The cool-down for `service`. That of the database is short: it neither bills requests nor bans clients."""
    return (
        CoolDown(5.0, 60.0) if service == DatabaseUnavailable.service else CoolDown(FIRST_COOL_DOWN_S, MAX_COOL_DOWN_S)
    )


class Breaker(Frozen):
    """State of one strategy's breaker. It travels as JSON, so that it survives the process whose failures it counts.

    `failures` are consecutive ones of any kind; `faults` are those of the strategy itself since its last success (an
    upstream's failure in between says nothing about the strategy), and `fault_reasons` how often each of them came.
    `until` is the monotonic end of the cool-down, `opened_at` the monotonic moment at which the breaker was last
    closed, `reason` that of the failure that opened it. `cool_downs` are the last ones of each upstream, in seconds.
    """

    state: State = "closed"
    failures: int = Field(default=0, ge=0)
    faults: int = Field(default=0, ge=0)
    fault_reasons: dict[str, int] = Field(default_factory=dict)
    cool_down_s: float = Field(default=0.0, ge=0, le=MAX_COOL_DOWN_S)
    cool_downs: dict[str, float] = Field(default_factory=dict)
    until: float = 0.0
    opened_at: float = 0.0
    reason: str | None = None

    @property
    def must_pause(self) -> bool:
        """The verdict: the row is to be paused. It stands until a success, so a pause that failed is tried again."""
        return self.faults >= FAILURES_TO_OPEN

    @property
    def pause_reason(self) -> str:
        """How often what failed, the most frequent first."""
        ordered = sorted(self.fault_reasons.items(), key=lambda item: -item[1])
        counts = "; ".join(f"{count} \u00d7 {reason}" for reason, count in ordered)
        return f"{self.faults} failures without a success: {counts or self.reason or 'no reason is known'}"


def try_admit(breaker: Breaker, now: float) -> tuple[Breaker, bool]:
    """The breaker at monotonic `now`, half-open once its cool-down is over, and whether a cycle may run."""
    if breaker.state != "open":
        return breaker, True
    until = _find_cool_down_end(breaker, now)
    if now < until:
        return breaker.model_copy(update={"until": until}), False
    return breaker.model_copy(update={"state": "half_open"}), True


def on_success(breaker: Breaker) -> Breaker:
    """After a cycle that went through. (After a skipped one the breaker stays as it is.)"""
    return breaker if breaker == Breaker() else Breaker()


def on_restart(breaker: Breaker) -> Breaker:
    """The breaker after a person's restart: closed, with the strategy's own faults still counted.

    Only a success, or a person who resumes the row, clears those.
    """
    return Breaker(faults=breaker.faults, fault_reasons=breaker.fault_reasons)


def on_strategy_fault(breaker: Breaker, now: float, reason: str) -> Breaker:
    """After a failure of the strategy's own doing."""
    kind = _FIGURES.sub("\u2026", reason)[:MAX_REASON]  # the same fault with other figures is the same fault
    reasons = {**breaker.fault_reasons, kind: breaker.fault_reasons.get(kind, 0) + 1}
    kept = dict(list(reasons.items())[:FAILURES_TO_OPEN])  # more only while a pause cannot be written
    counted = breaker.model_copy(update={"faults": breaker.faults + 1, "fault_reasons": kept})
    return _count_failure(counted, now, reason, OWN, retry_after_s=None)


def on_upstream_failure(
    breaker: Breaker, now: float, reason: str, retry_after_s: float | None = None, *, service: str = "groq"
) -> Breaker:
    """After a failure of the shared `service`; `retry_after_s` lengthens the cool-down, up to the longest one."""
    return _count_failure(breaker, now, reason, service, retry_after_s)


def _count_failure(breaker: Breaker, now: float, reason: str, service: str, retry_after_s: float | None) -> Breaker:
    failed = breaker.model_copy(update={"failures": breaker.failures + 1})
    if breaker.state == "open" and now < _find_cool_down_end(breaker, now):
        return failed  # reading the changed row failed: that was no probe, so the cool-down is not doubled
    if breaker.state == "closed" and failed.failures < FAILURES_TO_OPEN:
        return failed.model_copy(update={"reason": reason})
    first_s, longest_s = get_cool_down(service)
    cool_down_s = min(longest_s, max(first_s, breaker.cool_downs.get(service, 0.0) * 2, retry_after_s or 0.0))
    opened = {
        "state": "open",
        "cool_down_s": cool_down_s,
        "cool_downs": {**breaker.cool_downs, service: cool_down_s},
        "until": now + cool_down_s,
        "opened_at": now if breaker.state == "closed" else breaker.opened_at,
        "reason": reason,
    }
    return failed.model_copy(update=opened)


def _find_cool_down_end(breaker: Breaker, now: float) -> float:
    """A reboot sets the monotonic clock back; no cool-down may grow by that."""
    return min(breaker.until, now + breaker.cool_down_s)
