"""How far this host's clock is from a venue's: measured when a signed request is refused for its time, then kept to.

Protocol (Binance-shaped): -1021 for a ``timestamp`` older than ``recvWindow`` or more than 1 s ahead; at Aster for a
nonce (µs) more than 10 s away. Such a request surely was not accepted, so it is sent once more.
"""

import time
from typing import Any, Final

import ccxt
import structlog

from engine.venues.ccxt_client.error_codes import CLOCK
from engine.venues.ccxt_client.error_text import code_of

logger = structlog.get_logger()

LEAST_TOLD_S: Final = 0.5
_KEPT: Final = "timeDifference"  # ccxt's option, which its Binance signs by: this host's clock minus the venue's, in ms
_MEASURED: Final = "measuredTimeDifference"


class InStep:
    """Mixed in before a ccxt class: signs by the venue's clock once this host's was refused."""

    def request(self, *given: Any, **named: Any) -> Any:
        """As ccxt's, and once more by the venue's clock. A difference that does not help is not kept."""
        exchange: Any = self
        try:
            return super().request(*given, **named)  # type: ignore[misc] # ccxt's
        except ccxt.BaseError as error:
            if code_of(error) != CLOCK or not _has_measured(exchange):
                raise
        before = exchange.options.get(_KEPT, 0)
        _keep(exchange, exchange.options[_MEASURED])
        try:
            return super().request(*given, **named)  # type: ignore[misc] # ccxt's
        except ccxt.BaseError as error:
            if code_of(error) == CLOCK:
                _keep(exchange, before)
            raise


def offset_s(exchange: Any) -> float:
    """How many seconds the venue's clock is ahead of this host's, as its public time endpoint tells; a weight of 1.

    Raises ccxt's errors, and ValueError for an answer without a time.
    """
    before_ms = time.time_ns() / 1_000_000
    venue_ms = exchange.fetch_time()
    after_ms = time.time_ns() / 1_000_000
    if venue_ms is None:
        raise ValueError("the answer tells no time")
    return (float(venue_ms) - (before_ms + after_ms) / 2) / 1_000


def venue_us(exchange: Any) -> int:
    """The venue's time in µs, as far as its difference is known."""
    return time.time_ns() // 1_000 - int(exchange.options.get(_KEPT, 0)) * 1_000


def told(seconds: float) -> str:
    """`seconds` that the venue is ahead, in a sentence."""
    where = "behind" if seconds > 0 else "ahead of"
    return f"this host's clock is {abs(seconds):.1f} s {where} the venue's"


def difference(exchange: Any) -> str | None:
    """What was measured last, in a sentence; None before that."""
    measured_ms = exchange.options.get(_MEASURED)
    return None if measured_ms is None else told(-measured_ms / 1_000)


def _has_measured(exchange: Any) -> bool:
    try:
        ahead_s = offset_s(exchange)
    except (ccxt.BaseError, ValueError, TypeError):
        return False  # then the refusal stands, in the venue's words
    exchange.options[_MEASURED] = round(-ahead_s * 1_000)
    return True


def _keep(exchange: Any, difference_ms: int) -> None:
    if abs(difference_ms - exchange.options.get(_KEPT, 0)) >= LEAST_TOLD_S * 1_000:
        logger.warning("venue_clock_differs", venue=exchange.id, reason=told(-difference_ms / 1_000))
    exchange.options[_KEPT] = difference_ms
    exchange.options.pop("lastNonce", None)  # Aster's, which else would go on from a time that was refused
