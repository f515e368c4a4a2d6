"""Which ccxt class a venue's clients have; ours where ccxt's needs changes."""

from typing import Any, Final

import ccxt

from engine.venues.ccxt_client.aster import Aster
from engine.venues.ccxt_client.binance import Binance

# `binanceusdm` is ccxt's other name for the same futures.
CUSTOM_CLASSES: Final = {"aster": Aster, "binance": Binance, "binanceusdm": Binance}
BINANCE_SHAPED: Final = ("aster", "binance")  # ids of clients whose venue has the API of Binance's futures


def find_client_class(venue: str) -> Any:
    """The class of `venue`'s clients; None when ccxt knows no such venue."""
    return CUSTOM_CLASSES.get(venue) or (getattr(ccxt, venue) if venue in ccxt.exchanges else None)
