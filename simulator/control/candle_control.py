"""``/_control/candles``: faults in the candles of a simulated venue, and halts of a market.

``POST`` takes a JSON object, ``DELETE`` clears the faults and ends every halt, ``GET`` shows how many there are. Only
from the same host. ``"symbol"`` names one market (else: all), ``"interval"`` the candles (1m). A candle is named by how
many closed ones are newer at that moment, so 0 is the newest closed one:

- ``{"missing": [2, 3]}``: no candles for these minutes. ``{"missing": [0, 1], "ongoing": true}``: nor for any later
  one, although trading goes on, until ``DELETE``.
- ``{"repeated": [2]}`` lists a candle twice, ``{"half_formed": [2]}`` first in the state it had while it formed, and
  ``{"half_formed_last": [2]}`` in that state after the complete one.
- ``{"broken": {"4": "null"}}``: its prices and volume are null, "0" or "NaN" (all of them, or only the high:
  "high_null"), or the high is below the low ("upside_down").
- ``{"shifted_ms": {"3": 7}}``: it opens so many ms later. ``{"quiet": [5]}``: nothing was traded.
- ``{"order": "newest_first"}`` or ``"mixed"``: rows out of order.
- ``{"halted": true}``: from now on no trades and no candles, and the ticker keeps its price and time, until
  ``{"halted": false}`` or ``DELETE``.
"""

from collections.abc import Callable
from typing import Any, Final, Literal

from pydantic import Field
from starlette.types import ASGIApp

from engine.platform.values import Frozen
from simulator.control.refusals import check_symbol_listed
from simulator.control_address import with_control
from simulator.market.candles import INTERVAL_MINUTES, MINUTE_MS
from simulator.market.kline_faults import KlineFault
from simulator.venue.venue import SimulatedVenue

CONTROL: Final = "/_control/candles"
BrokenKind = Literal["null", "0", "NaN", "high_null", "upside_down"]


class CandleChange(Frozen):
    """Faults from now on, in addition to those before."""

    symbol: str | None = None
    interval: Literal["1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "1d"] = "1m"
    missing: tuple[int, ...] = ()
    ongoing: bool = False
    repeated: tuple[int, ...] = ()
    half_formed: tuple[int, ...] = ()
    half_formed_last: tuple[int, ...] = ()
    broken: dict[int, BrokenKind] = Field(default_factory=dict)
    shifted_ms: dict[int, int] = Field(default_factory=dict)
    quiet: tuple[int, ...] = ()
    order: Literal["newest_first", "mixed"] | None = None
    halted: bool | None = None

    def build_fault(self, at: Callable[[int], int]) -> KlineFault:
        """Its faults; `at` gives the opening time (ms) of the candle with that number."""

        def open_times(numbers: tuple[int, ...]) -> frozenset[int]:
            return frozenset(map(at, numbers))

        return KlineFault(
            missing=open_times(self.missing),
            missing_from_ms=min(open_times(self.missing), default=None) if self.ongoing else None,
            repeated=open_times(self.repeated),
            half_formed=open_times(self.half_formed),
            half_formed_last=open_times(self.half_formed_last),
            broken={at(number): kind for number, kind in self.broken.items()},
            shifted_ms={at(number): by_ms for number, by_ms in self.shifted_ms.items()},
            quiet=open_times(self.quiet),
            order=self.order,
        )


def with_candle_control(app: ASGIApp, venue: SimulatedVenue) -> ASGIApp:
    """`app` behind the control address."""
    return with_control(
        app,
        CONTROL,
        lambda: _describe_state(venue),
        CandleChange.model_validate_json,
        lambda change: _apply_change(change, venue),
        lambda: _clear(venue),
    )


def _clear(venue: SimulatedVenue) -> None:
    venue.kline_faults.clear()
    for market in venue.markets.values():
        market.resume(venue.clock.now_ms())


def _apply_change(change: CandleChange, venue: SimulatedVenue) -> None:
    check_symbol_listed(venue, change.symbol)
    now_ms, length_ms = venue.clock.now_ms(), INTERVAL_MINUTES[change.interval] * MINUTE_MS
    forming_ms = now_ms - now_ms % length_ms
    for symbol in venue.markets if change.symbol is None else (change.symbol,):
        if change.halted is not None:
            (venue.markets[symbol].halt if change.halted else venue.markets[symbol].resume)(now_ms)
        fault = change.build_fault(lambda number: forming_ms - (number + 1) * length_ms)
        venue.kline_faults.setdefault((symbol, change.interval), []).append(fault)


def _describe_state(venue: SimulatedVenue) -> dict[str, Any]:
    fault_counts = {f"{symbol} {interval}": len(faults) for (symbol, interval), faults in venue.kline_faults.items()}
    now_ms = venue.clock.now_ms()
    halted = [symbol for symbol, market in venue.markets.items() if market.get_last_trade_ms(now_ms) != now_ms]
    return {"market_ms": now_ms, "faults": fault_counts, "halted": halted}
