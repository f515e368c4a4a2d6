"""Where real orders may open positions: the venues that have passed the contract suite (`tests/venues/contract`).

An untested venue may keep stop orders elsewhere, or answer in a shape that is misread. Paper trading needs only its
prices, and exits are never refused here, so that positions at such a venue can be closed.
"""

import difflib
from collections.abc import Mapping
from typing import Final

from engine.platform.errors import ConfigurationError

# By venue, what was tested. Books and credentials use these names, so that an account has one name only.
VERIFIED: Final[Mapping[str, str]] = {
    "aster": "perpetuals, V3 signatures, conditional orders among the plain ones",
    "binance": "USDⓈ-M perpetuals, HMAC signatures, conditional orders as algo orders",
}
VENUE_ALIASES: Final[Mapping[str, str]] = {"binanceusdm": "binance"}


def check_live_trading(venue: str) -> None:
    """Raises ConfigurationError if live trading at `venue` has not been tested."""
    reason = find_live_trading_obstacle(venue)
    if reason is not None:
        raise ConfigurationError(reason)


def find_live_trading_obstacle(venue: str) -> str | None:
    """One sentence, or None where live trading has been tested."""
    if venue in VERIFIED:
        return None
    if venue in VENUE_ALIASES:
        return f"Live trading at {venue} goes by the name of {VENUE_ALIASES[venue]}, which is the same venue: use that."
    near = difflib.get_close_matches(venue, VERIFIED, 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return (
        f"Live trading at {venue} has not been tested: real orders are placed at {' and '.join(VERIFIED)} only{hint}; "
        "paper trading works there, and what is held there can be closed."
    )
