"""Signs by the venue's clock: the offset is measured when a signed request is rejected for its time.

Protocol (Binance-shaped): -1021 for a ``timestamp`` older than ``recvWindow`` or more than 1 s ahead; at Aster for a
nonce (µs) more than 10 s away. Such a request was certainly not accepted, so it is sent once more.
"""

import time
from typing import Any, Final

import ccxt
import structlog

from engine.venues.ccxt_client.error_codes import CLOCK
from engine.venues.ccxt_client.error_text import find_code

logger = structlog.get_logger()

MIN_LOGGED_DIFFERENCE_S: Final = 0.5
_DIFFERENCE_OPTION: Final = (
    "timeDifference"  # ccxt's option, which its Binance signs by: this host's clock minus the venue's, in ms
)
_MEASURED_OPTION: Final = "measuredTimeDifference"


class VenueClockMixin:
    """Mixed in before a ccxt class: signs by the venue's clock once this host's was refused."""

    def request(self, *given: Any, **named: Any) -> Any:
        """As ccxt's, repeated once with a measured offset. An offset that does not help is discarded."""
        exchange: Any = self
        try:
            return super().request(*given, **named)  # type: ignore[misc] # ccxt's
        except ccxt.BaseError as error:
            if find_code(error) != CLOCK or not _try_measure(exchange):
                raise
        before = exchange.options.get(_DIFFERENCE_OPTION, 0)
        _set_difference(exchange, exchange.options[_MEASURED_OPTION])
        try:
            return super().request(*given, **named)  # type: ignore[misc] # ccxt's
        except ccxt.BaseError as error:
            if find_code(error) == CLOCK:
                _set_difference(exchange, before)
            raise


def measure_offset_s(exchange: Any) -> float:
    """How many seconds the venue's clock is ahead of this host's, by its public time endpoint (weight 1).

    Raises ccxt's errors, and ValueError for an answer without a time.
    """
    before_ms = time.time_ns() / 1_000_000
    venue_ms = exchange.fetch_time()
    after_ms = time.time_ns() / 1_000_000
    if venue_ms is None:
        raise ValueError("the answer has no time")
    return (float(venue_ms) - (before_ms + after_ms) / 2) / 1_000


def get_venue_time_us(exchange: Any) -> int:
    """The venue's time in µs; this host's until an offset was measured."""
    return time.time_ns() // 1_000 - int(exchange.options.get(_DIFFERENCE_OPTION, 0)) * 1_000


def describe_offset(seconds: float) -> str:
    """`seconds` that the venue is ahead, in a sentence."""
    where = "behind" if seconds > 0 else "ahead of"
    return f"this host's clock is {abs(seconds):.1f} s {where} the venue's"


def describe_measured_offset(exchange: Any) -> str | None:
    """The offset measured last, in a sentence; None before a measurement."""
    measured_ms = exchange.options.get(_MEASURED_OPTION)
    return None if measured_ms is None else describe_offset(-measured_ms / 1_000)


def _try_measure(exchange: Any) -> bool:
    try:
        ahead_s = measure_offset_s(exchange)
    except (ccxt.BaseError, ValueError, TypeError):
        return False  # then the venue's refusal stands
    exchange.options[_MEASURED_OPTION] = round(-ahead_s * 1_000)
    return True


def _set_difference(exchange: Any, difference_ms: int) -> None:
    if abs(difference_ms - exchange.options.get(_DIFFERENCE_OPTION, 0)) >= MIN_LOGGED_DIFFERENCE_S * 1_000:
        logger.warning("venue_clock_difference", venue=exchange.id, reason=describe_offset(-difference_ms / 1_000))
    exchange.options[_DIFFERENCE_OPTION] = difference_ms
    exchange.options.pop("lastNonce", None)  # Aster's, which else would go on from a time that was refused
