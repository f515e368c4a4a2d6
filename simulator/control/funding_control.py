"""``/_control/funding``: the funding schedule of a simulated venue, and faults in what it reports of funding.

``POST`` takes a JSON object; ``GET`` shows the schedule. Only from the same host. ``{"symbol": "BTCUSDT", "rate":
"0.0001", "interval_h": 8}`` pays funding from now on at every full multiple of the interval (market time);
``"rates": ["0.0001", "-0.0002"]`` alternates, and ``"interval_h": 0`` ends it. An interval may be changed at any time.
The switches are the fields of `simulator.venue.funding.FundingConfig`, such as ``{"late_s": 5}``.
"""

from decimal import Decimal
from typing import Final, Self

from pydantic import Field, model_validator
from starlette.types import ASGIApp

from engine.platform.values import Frozen
from simulator.control.refusals import check_symbol_listed
from simulator.control_address import with_control
from simulator.venue.venue import SimulatedVenue

CONTROL: Final = "/_control/funding"
MAX_INTERVAL_H: Final = 8


class FundingChange(Frozen):
    """The changes; None keeps a value."""

    symbol: str | None = None
    rate: Decimal | None = None
    rates: tuple[Decimal, ...] = ()
    interval_h: int = Field(default=MAX_INTERVAL_H, ge=0, le=MAX_INTERVAL_H)
    late_s: int | None = Field(default=None, ge=0, le=3_600)
    rows_twice: bool | None = None
    small_letters: bool | None = None
    asset: str | None = Field(default=None, pattern=r"^[A-Z0-9]+$")
    rate_hidden: bool | None = None
    next_hidden: bool | None = None
    mark_hidden: bool | None = None

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        is_plan = self.rate is not None or bool(self.rates) or "interval_h" in self.model_fields_set
        if is_plan != (self.symbol is not None):
            raise ValueError("a schedule needs a symbol, and a symbol a schedule")
        if self.rate is not None and self.rates:
            raise ValueError("either a rate or rates")
        return self

    @property
    def new_rates(self) -> tuple[Decimal, ...]:
        """The rates from now on; an empty tuple ends the schedule."""
        if self.interval_h == 0:
            return ()
        return self.rates or (() if self.rate is None else (self.rate,))


def with_funding_control(app: ASGIApp, venue: SimulatedVenue) -> ASGIApp:
    """`app` behind the control address."""
    return with_control(
        app,
        CONTROL,
        lambda: venue.funding.describe() | {"market_ms": venue.clock.now_ms()},
        FundingChange.model_validate_json,
        lambda change: _apply_change(change, venue),
    )


def _apply_change(change: FundingChange, venue: SimulatedVenue) -> None:
    check_symbol_listed(venue, change.symbol)
    schedule = venue.funding
    if change.symbol is not None:
        for user in venue.list_users():
            venue.get_account(user)  # pays what was due until now by the old schedule
            venue.save_account(user, is_read_only=True)
        schedule.set_rates(change.symbol, venue.clock.now_ms(), change.new_rates, change.interval_h or MAX_INTERVAL_H)
    for name in vars(schedule.config):
        if getattr(change, name) is not None:
            setattr(schedule.config, name, getattr(change, name))
