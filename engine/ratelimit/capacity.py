"""Compares the demand of all strategies with the provider's limits, and computes the cadence that those allow.

Pure. Token limits become requests by the average tokens of a request; daily limits are spread evenly over the day.
"""

from collections.abc import Sequence
from typing import Final

from engine.platform.values import Frozen
from engine.ratelimit.scheduler import PermitLimits

MINUTES_OF_DAY: Final = 1_440


class Demand(Frozen):
    """The number of strategies that want one request to a model every `cadence_s` seconds."""

    cadence_s: float
    strategies: int


class RequestTokens(Frozen):
    """Average tokens of one request: `reserved` before it is sent, which is the most that it may use, and `used` after.

    The defaults are a prompt of 1,100 tokens, half of it cached, an answer and a little reasoning.
    """

    reserved: float = 2_000.0
    used: float = 800.0


class Capacity(Frozen):
    """Need and limit in requests per minute; `limited_by` is the limit's name, None if no limit is known.

    `effective_cadence_s` is the cadence of the strategies that want more than their fair share, None if all demand is
    met.
    """

    need_rpm: float
    limit_rpm: float | None
    limited_by: str | None
    effective_cadence_s: float | None

    @property
    def is_insufficient(self) -> bool:
        return self.effective_cadence_s is not None


def compute_capacity(demands: Sequence[Demand], limits: PermitLimits, tokens: RequestTokens) -> Capacity:
    """The capacity of one model. Shares are max-min fair, as those of the limiter's queue: a strategy that wants less
    than the fair share gets what it wants."""
    need_rpm = sum(demand.strategies * 60 / demand.cadence_s for demand in demands)
    rpm_by_limit = _compute_requests_per_minute(limits, tokens)
    if not rpm_by_limit:
        return Capacity(need_rpm=need_rpm, limit_rpm=None, limited_by=None, effective_cadence_s=None)
    name, limit_rpm = min(rpm_by_limit.items(), key=lambda item: item[1])
    is_enough = need_rpm <= limit_rpm
    return Capacity(
        need_rpm=need_rpm,
        limit_rpm=limit_rpm,
        limited_by=name,
        effective_cadence_s=None if is_enough else 60 / _compute_fair_share_rpm(demands, limit_rpm),
    )


def _compute_requests_per_minute(limits: PermitLimits, tokens: RequestTokens) -> dict[str, float]:
    rpm_by_limit = {
        "rpm": limits.rpm,
        "tpm": None if limits.tpm is None else _count_requests_in(limits.tpm, tokens),
        "rpd": None if limits.rpd is None else limits.rpd / MINUTES_OF_DAY,
        "tpd": None if limits.tpd is None else _count_requests_in(limits.tpd, tokens) / MINUTES_OF_DAY,
    }
    return {name: float(value) for name, value in rpm_by_limit.items() if value is not None}


def _count_requests_in(limit: int, tokens: RequestTokens) -> float:
    """How many requests in sequence fit into a window: the last one needs room for all that it reserves."""
    used = max(1.0, tokens.used)
    return 1 + max(0.0, limit - max(tokens.reserved, used)) / used


def _compute_fair_share_rpm(demands: Sequence[Demand], limit_rpm: float) -> float:
    """The max-min fair share in requests per minute: satisfies small demands first, and divides the remainder."""
    remaining_rpm, strategies = limit_rpm, sum(demand.strategies for demand in demands)
    for demand in sorted(demands, key=lambda demand: -demand.cadence_s):
        if 60 / demand.cadence_s * strategies >= remaining_rpm:
            break
        remaining_rpm -= demand.strategies * 60 / demand.cadence_s
        strategies -= demand.strategies
    return remaining_rpm / strategies
