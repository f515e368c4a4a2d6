"""The schedule by which the simulated venue pays funding: rates and intervals per symbol, in market time.

A payment is due at every full multiple of a symbol's interval, on the position and at the price of that moment. It is
booked once, when the account is next used.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

from engine.platform import atomic_file

HOUR_MS: Final = 3_600_000
DEFAULT_HOURS: Final = 8


class Payment(NamedTuple):
    """Funding of one symbol at one moment; a positive rate is paid by longs."""

    at_ms: int
    rate: Decimal


@dataclass(frozen=True)
class RatePlan:
    """Rates in turn, one per interval, after `since_ms` until the next plan of the symbol."""

    since_ms: int
    rates: tuple[str, ...]
    hours: int

    def iter_payments(self, since_ms: int, until_ms: int) -> Iterator[Payment]:
        """Payments after `since_ms` and until `until_ms` (included)."""
        length_ms, first_ms = self.hours * HOUR_MS, max(since_ms, self.since_ms)
        if not self.rates:
            return
        for number in range(first_ms // length_ms + 1, until_ms // length_ms + 1):
            yield Payment(number * length_ms, self.get_rate(number))

    def get_rate(self, number: int) -> Decimal:
        return Decimal(self.rates[number % len(self.rates)])


@dataclass
class FundingConfig:
    """Faults in what the venue reports of funding.

    Rows of income carry the payment's time plus `late_s` and the asset `asset`, appear twice with `rows_twice`, and
    have the symbol in lower case with `small_letters`. In ``premiumIndex`` the rate is absent with `rate_hidden`, and
    the next time is 0 with `next_hidden`. With `mark_hidden` the history has no price.
    """

    late_s: int = 0
    rows_twice: bool = False
    small_letters: bool = False
    asset: str = "USDT"
    rate_hidden: bool = False
    next_hidden: bool = False
    mark_hidden: bool = False


@dataclass
class FundingSchedule:
    """All plans of a venue; without one nothing is due. They are kept in the file `path`, if given."""

    path: Path | None = None
    config: FundingConfig = field(default_factory=FundingConfig)
    _plans: dict[str, list[RatePlan]] = field(default_factory=dict)
    _single_payments: dict[str, list[Payment]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            kept = {} if self.path is None else json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            kept = {}
        for symbol, plans in kept.items():
            self._plans[symbol] = [RatePlan(plan["since_ms"], tuple(plan["rates"]), plan["hours"]) for plan in plans]

    def set_rates(self, symbol: str, now_ms: int, rates: tuple[Decimal, ...], hours: int) -> None:
        """Starts a new plan at `now_ms`; empty `rates` end payments."""
        self._plans.setdefault(symbol, []).append(RatePlan(now_ms, tuple(f"{rate:f}" for rate in rates), hours))
        if self.path is not None:
            rows = {name: [asdict(plan) for plan in plans] for name, plans in self._plans.items()}
            atomic_file.write_atomic(self.path, json.dumps(rows))

    def add_single_payment(self, symbol: str, now_ms: int, rate: Decimal) -> None:
        """Adds a payment outside the schedule to the history."""
        self._single_payments.setdefault(symbol, []).append(Payment(now_ms, rate))

    def list_due_payments(self, symbol: str, since_ms: int, until_ms: int) -> list[Payment]:
        """Scheduled payments after `since_ms` and until `until_ms`, oldest first."""
        plans = self._plans.get(symbol, [])
        ends = [*(plan.since_ms for plan in plans[1:]), until_ms]
        pairs = zip(plans, ends, strict=True) if plans else ()
        return [payment for plan, end_ms in pairs for payment in plan.iter_payments(since_ms, min(end_ms, until_ms))]

    def list_symbols(self) -> list[str]:
        return list(self._plans)

    def list_payments(self, symbol: str, now_ms: int) -> list[Payment]:
        """All that has been paid, oldest first."""
        return sorted([*self.list_due_payments(symbol, 0, now_ms), *self._single_payments.get(symbol, [])])

    def get_interval_hours(self, symbol: str) -> int:
        plans = self._plans.get(symbol)
        return plans[-1].hours if plans else DEFAULT_HOURS

    def find_next_payment(self, symbol: str, now_ms: int) -> Payment | None:
        """The next scheduled payment; None if there is none."""
        plans = self._plans.get(symbol)
        if not plans or not plans[-1].rates:
            return None
        number = now_ms // (plans[-1].hours * HOUR_MS) + 1
        return Payment(number * plans[-1].hours * HOUR_MS, plans[-1].get_rate(number))

    def describe(self) -> dict[str, Any]:
        plans = {symbol: asdict(plans[-1]) for symbol, plans in self._plans.items() if plans}
        return {"plans": plans, **asdict(self.config)}
