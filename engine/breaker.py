"""What a strategy's failures lead to: nothing yet, a cool-down for a shared upstream's sake, or a paused row.

Five failures in a row open the breaker. A strategy's own faults, five with no success between them, pause its row;
an upstream's failures never do: the breaker stays open for a cool-down, then lets one cycle through as a probe.
Pure: frozen state, functions, time passed in.
"""

import re
from typing import Final, Literal

from pydantic import Field

from engine.types import Frozen

FAILURES_TO_OPEN: Final = 5
FIRST_COOL_DOWN_S: Final = 60.0
LONGEST_COOL_DOWN_S: Final = 900.0
LONGEST_REASON: Final = 160
_FIGURES: Final = re.compile(r"[0-9][0-9.:,]*")

State = Literal["closed", "open", "half_open"]


class Breaker(Frozen):
    """State of one strategy's breaker. It travels as JSON, so that it survives the process whose failures it counts.

    `failures` are consecutive ones of any kind; `faults` are those of the strategy itself since its last success (an
    upstream's failure in between says nothing about the strategy), and `fault_reasons` how often each of them came.
    `until` is the monotonic end of the cool-down.
    """

    state: State = "closed"
    failures: int = Field(default=0, ge=0)
    faults: int = Field(default=0, ge=0)
    fault_reasons: dict[str, int] = Field(default_factory=dict)
    cool_down_s: float = Field(default=0.0, ge=0, le=LONGEST_COOL_DOWN_S)
    until: float = 0.0
    reason: str | None = None

    @property
    def must_pause(self) -> bool:
        """The verdict: the row is to be paused. It stands until a success, so a pause that failed is tried again."""
        return self.faults >= FAILURES_TO_OPEN

    @property
    def pause_reason(self) -> str:
        """How often what failed, the most frequent first."""
        ordered = sorted(self.fault_reasons.items(), key=lambda item: -item[1])
        told = "; ".join(f"{count} \u00d7 {reason}" for reason, count in ordered) or self.reason or "no reason is known"
        return f"{self.faults} failures without a success: {told}"


def admitted(breaker: Breaker, now: float) -> tuple[Breaker, bool]:
    """The breaker at monotonic `now`, half-open once its cool-down is over, and whether a cycle may run."""
    if breaker.state != "open":
        return breaker, True
    # A reboot sets the monotonic clock back; no cool-down may grow by that.
    until = min(breaker.until, now + breaker.cool_down_s)
    if now < until:
        return breaker.model_copy(update={"until": until}), False
    return breaker.model_copy(update={"state": "half_open"}), True


def succeeded(breaker: Breaker) -> Breaker:
    """After a cycle that went through. (After a skipped one the breaker stays as it is.)"""
    return breaker if breaker == Breaker() else Breaker()


def faulted(breaker: Breaker, now: float, reason: str) -> Breaker:
    """After a failure of the strategy's own doing."""
    kind = _FIGURES.sub("\u2026", reason)[:LONGEST_REASON]  # the same fault with other figures is the same fault
    reasons = {**breaker.fault_reasons, kind: breaker.fault_reasons.get(kind, 0) + 1}
    kept = dict(list(reasons.items())[:FAILURES_TO_OPEN])  # more only while a pause cannot be written
    counted = breaker.model_copy(update={"faults": breaker.faults + 1, "fault_reasons": kept})
    return _failed(counted, now, reason, retry_after_s=None)


def upstream_failed(breaker: Breaker, now: float, reason: str, retry_after_s: float | None = None) -> Breaker:
    """After a failure of a shared service; its own wish lengthens the cool-down, within the longest one."""
    return _failed(breaker, now, reason, retry_after_s)


def _failed(breaker: Breaker, now: float, reason: str, retry_after_s: float | None) -> Breaker:
    failures = breaker.failures + 1
    if breaker.state == "closed" and failures < FAILURES_TO_OPEN:
        return breaker.model_copy(update={"failures": failures, "reason": reason})
    cool_down_s = min(LONGEST_COOL_DOWN_S, max(FIRST_COOL_DOWN_S, breaker.cool_down_s * 2, retry_after_s or 0.0))
    opened = {"state": "open", "failures": failures, "cool_down_s": cool_down_s, "until": now + cool_down_s}
    return breaker.model_copy(update={**opened, "reason": reason})
