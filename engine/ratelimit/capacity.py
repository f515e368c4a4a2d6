"""What the provider's limits can carry: how often strategies want to ask, how often they may, what that leaves each.

Pure. Limits of tokens become requests by what a request has used so far; limits of a day are spread evenly over it.
"""

from collections.abc import Sequence
from typing import Final

from engine.platform.values import Frozen
from engine.ratelimit.scheduler import PermitLimits

MINUTES_OF_DAY: Final = 1_440


class Demand(Frozen):
    """How many strategies want to ask one model every `cadence_s` seconds."""

    cadence_s: float
    strategies: int


class RequestTokens(Frozen):
    """Tokens of one request on the average: `reserved` before it is sent, the most that it may use, and `used` after.

    The defaults are a prompt of 1,100 tokens, half of it cached, an answer and a little reasoning.
    """

    reserved: float = 2_000.0
    used: float = 800.0


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
    def is_insufficient(self) -> bool:
        return self.effective_cadence_s is not None


def compute_capacity(wants: Sequence[Demand], limits: PermitLimits, tokens: RequestTokens) -> Capacity:
    """Of one model. Shares are max-min fair, as the limiter's queue makes them: who wants less than that gets it."""
    need_rpm = sum(want.strategies * 60 / want.cadence_s for want in wants)
    known = _requests_per_minute(limits, tokens)
    name = min(known, key=lambda each: known[each]) if known else None
    if name is None or need_rpm <= known[name]:
        return Capacity(need_rpm=need_rpm, limit_rpm=known.get(name or ""), limited_by=name, effective_cadence_s=None)
    return Capacity(
        need_rpm=need_rpm,
        limit_rpm=known[name],
        limited_by=name,
        effective_cadence_s=60 / _fair_share_rpm(wants, known[name]),
    )


def _requests_per_minute(limits: PermitLimits, tokens: RequestTokens) -> dict[str, float]:
    found = {
        "rpm": limits.rpm,
        "tpm": None if limits.tpm is None else _requests_in(limits.tpm, tokens),
        "rpd": None if limits.rpd is None else limits.rpd / MINUTES_OF_DAY,
        "tpd": None if limits.tpd is None else _requests_in(limits.tpd, tokens) / MINUTES_OF_DAY,
    }
    return {name: float(value) for name, value in found.items() if value is not None}


def _requests_in(limit: int, tokens: RequestTokens) -> float:
    """How many requests one after another fit into a window: the last must find room for all that it reserves."""
    used = max(1.0, tokens.used)
    return 1 + max(0.0, limit - max(tokens.reserved, used)) / used


def _fair_share_rpm(wants: Sequence[Demand], limit_rpm: float) -> float:
    """The share that fills the limit when nobody gets more than it, nor more than they want."""
    left, strategies = limit_rpm, sum(want.strategies for want in wants)
    for want in sorted(wants, key=lambda each: -each.cadence_s):
        if 60 / want.cadence_s * strategies >= left:
            break
        left -= want.strategies * 60 / want.cadence_s
        strategies -= want.strategies
    return left / strategies
