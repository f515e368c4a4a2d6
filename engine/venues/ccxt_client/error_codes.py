"""What the error codes of Binance-shaped venues (Aster too) mean for the caller, and what a person can do about them.

The code decides: texts may be in any language, and ccxt's classes are too coarse (a hedge-mode refusal is an ordinary
one, and a key that is rejected after it has worked is a temporary ban). Source: the lists of error codes in
Binance's and Aster's API documentation.
"""

from collections.abc import Mapping
from typing import Final

from engine.domain.errors import RejectionKind

CLOCK: Final = "-1021"  # the request's time is too far from the venue's
# "The execution status is unknown."
OUTCOME_UNKNOWN: Final = frozenset({"-1000", "-1001", "-1006", "-1007"})
# Certainly not accepted, may be sent again later: overloaded, over a limit, shutting down, too late for the engine.
RETRY_LATER: Final = frozenset({CLOCK, "-1003", "-1008", "-1015", "-1016", "-4188", "-5028"})
CREDENTIALS: Final = frozenset({"-1002", "-1022", "-2014", "-2015", "-2017", "-4056", "-4057"})
# The symbol is not listed, or not traded now.
NOT_TRADED: Final = ("-1121", "-1122", "-4108", "-4140", "-4141")
FILTER_CODES: Final = (
    -1013,
    -1111,
    -1122,
    -4001,
    -4002,
    -4003,
    -4004,
    -4005,
    -4006,
    -4007,
    -4013,
    -4014,
    -4016,
    -4023,
    -4024,
    -4029,
    -4030,
    -4108,
    -4131,
    -4140,
    -4141,
    -4164,
)
# All prices that a market order could get now are outside the price filter.
PRICE_BAND: Final = "-4131"
# The list of instruments may have changed: it is read again.
LISTING_CHANGED: Final = frozenset({*NOT_TRADED, *(str(code) for code in FILTER_CODES)})
# The margin mode is not changed while the symbol has an open order, or a position.
MARGIN_MODE_LOCKED: Final = frozenset({"-4047", "-4048"})
REFUSAL_KINDS: Final[Mapping[str, RejectionKind]] = {
    **{str(code): "filter" for code in FILTER_CODES},
    **dict.fromkeys(("-2018", "-2019", "-4050", "-4051"), "funds"),
    **dict.fromkeys(("-2022", "-2024", "-4118"), "reduce_only"),
    **dict.fromkeys(("-2027", "-2028", "-4028", "-4047", "-4048", "-4161"), "leverage"),
    "-2021": "would_trigger",
    **dict.fromkeys(
        ("-1109", "-2023", "-4060", "-4061", "-4087", "-4088", "-4168", "-4192", "-4400", "-4401", "-4402", "-4403"),
        "account",
    ),
    "-4411": "account",
    # ccxt takes these for rate limits, but waiting does not help: the account has as many open orders as it may have.
    **dict.fromkeys(("-2025", "-4032", "-4045"), "rejected"),
}

_MORE_MONEY: Final = "transfer money to the futures wallet, or trade less"
_NO_ENTRIES: Final = "the venue takes no entries in this symbol now: wait until it does; positions can be closed"
_TOO_MANY_ORDERS: Final = "cancel orders at the venue that are not needed any more"
_ONLY_REDUCES: Final = "the venue lets this account only reduce positions: ask the venue why"
_HEDGED: Final = "the account is in hedge mode: set its position mode to one-way mode at the venue"
ADVICE: Final[Mapping[str, str]] = {
    "-1109": "open the futures account at the venue, or use the key of one that has it",
    CLOCK: "switch time synchronisation on: timedatectl set-ntp true",
    "-1003": "other programs at this address use up its limit as well, or too many strategies ask",
    "-2014": "set the key again: `sparky credentials set`",
    "-2015": "at the venue, let the key trade futures and allow this host's address, or make a new key",
    "-2017": "unlock the account's keys at the venue",
    **dict.fromkeys(NOT_TRADED, _NO_ENTRIES),
    "-1121": "name a symbol that the venue lists",
    **dict.fromkeys(("-2018", "-2019", "-4050", "-4051"), _MORE_MONEY),
    "-2023": "the account is being liquidated: wait until that has ended",
    "-2027": "the position would be too large for this leverage: lower the leverage or the size",
    "-2028": "transfer money to the futures wallet, or take more leverage",
    "-4028": "take less leverage: the venue does not offer this one",
    "-4047": "cancel the orders that wait in the symbol at the venue, or name the margin mode that it has there",
    "-4048": "close the position in the symbol first, or name the margin mode that it has there",
    "-4060": _HEDGED,
    "-4061": _HEDGED,
    "-4087": _ONLY_REDUCES,
    "-4088": "the venue lets this account place no orders: ask the venue why",
    "-4161": "close the position before its leverage is lowered, or use cross margin",
    "-4168": "leave multi-assets mode at the venue, or use cross margin",
    "-4192": "the account is in a cooling-off period: wait until it has ended, or end it at the venue",
    "-4400": _ONLY_REDUCES,
    "-4401": _ONLY_REDUCES,
    "-4402": "the venue does not offer this where the account is at home: trade another symbol",
    "-4403": "take less leverage: the venue does not allow this one where the account is at home",
    "-4411": "sign the venue's agreement on contracts of shares and metals (TradFi-Perps) on its page",
    **dict.fromkeys(("-2025", "-4032", "-4045"), _TOO_MANY_ORDERS),
}
