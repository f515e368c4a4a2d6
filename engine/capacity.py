"""What the provider's limits can carry: how often strategies want to ask, how often they may, what that leaves each.

Pure. Limits of tokens become requests by what a request has used so far; limits of a day are spread evenly over it.
"""

from collections.abc import Sequence
from typing import Final

from engine.permits import PermitLimits
from engine.types import Frozen

MINUTES_OF_DAY: Final = 1_440
# Until a request has been seen: a prompt of 1,100 tokens, half of it cached, an answer and a little reasoning.
FIRST_TOKENS_PER_REQUEST: Final = 800.0


class Want(Frozen):
    """How many strategies want to ask one model every `cadence_s` seconds."""

    cadence_s: float
    strategies: int


class Capacity(Frozen):
    """Need and limit in requests a minute; `limited_by` is the limit's name, None if nothing is known to limit.

    `effective_cadence_s` is how often the strategies that want more than their fair share can ask, None if all get
    what they want.
    """

    need_rpm: float
    limit_rpm: float | None
    limited_by: str | None
    effective_cadence_s: float | None

    @property
    def is_short(self) -> bool:
        return self.effective_cadence_s is not None


def capacity(wants: Sequence[Want], limits: PermitLimits, tokens_per_request: float) -> Capacity:
    """Of one model. Shares are max-min fair, as the limiter's queue makes them: who wants less than that gets it."""
    need_rpm = sum(want.strategies * 60 / want.cadence_s for want in wants)
    known = _requests_per_minute(limits, tokens_per_request)
    name = min(known, key=lambda each: known[each]) if known else None
    if name is None or need_rpm <= known[name]:
        return Capacity(need_rpm=need_rpm, limit_rpm=known.get(name or ""), limited_by=name, effective_cadence_s=None)
    return Capacity(
        need_rpm=need_rpm,
        limit_rpm=known[name],
        limited_by=name,
        effective_cadence_s=60 / _fair_share_rpm(wants, known[name]),
    )


def _requests_per_minute(limits: PermitLimits, tokens_per_request: float) -> dict[str, float]:
    tokens = max(1.0, tokens_per_request)
    by_name = {
        "rpm": (limits.rpm, 1.0),
        "tpm": (limits.tpm, tokens),
        "rpd": (limits.rpd, MINUTES_OF_DAY),
        "tpd": (limits.tpd, tokens * MINUTES_OF_DAY),
    }
    return {name: limit / size for name, (limit, size) in by_name.items() if limit is not None}


def _fair_share_rpm(wants: Sequence[Want], limit_rpm: float) -> float:
    """The share that fills the limit when nobody gets more than it, nor more than they want."""
    left, strategies = limit_rpm, sum(want.strategies for want in wants)
    for want in sorted(wants, key=lambda each: -each.cadence_s):
        if 60 / want.cadence_s * strategies >= left:
            break
        left -= want.strategies * 60 / want.cadence_s
        strategies -= want.strategies
    return left / strategies
