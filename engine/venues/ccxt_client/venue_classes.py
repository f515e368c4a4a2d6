"""ccxt's classes that we use in a form of our own, and what they have in common."""

from typing import Any, Final

import ccxt

from engine.venues.ccxt_client.aster import Aster
from engine.venues.ccxt_client.binance import Binance

# `binanceusdm` is ccxt's other name for the same futures.
CUSTOM_CLASSES: Final = {"aster": Aster, "binance": Binance, "binanceusdm": Binance}
BINANCE_SHAPED: Final = ("aster", "binance")  # ids of clients that take what Binance's futures take


def find_client_class(venue: str) -> Any:
    """The class of `venue`'s clients; None when ccxt knows no such venue."""
    return CUSTOM_CLASSES.get(venue) or (getattr(ccxt, venue) if venue in ccxt.exchanges else None)
