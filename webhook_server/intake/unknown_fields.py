"""Unknown field names that ask for something, such as a stop-loss under another bot's name.

An entry with one is refused with advice: executed without it, a position would lack the protection or size its sender
counts on. The names are those of other bots, exchanges and charting services, and misspellings of known ones.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

_STOP: Final = "means nothing here; send stop_loss_percent instead"
_TARGET: Final = "means nothing here; send take_profit_percent instead"
TRAILING: Final = "trailing stops are not kept; send stop_loss_percent instead"
_SIZE: Final = "means nothing here; send position_size_usd, the notional in USD, instead"
_REDUCE: Final = "means nothing here; send action CLOSE to reduce a position"
_HEDGE: Final = "means nothing here: a strategy holds one position in a symbol; send action and market_position"
_EXPIRY: Final = "means nothing here; send expires_at instead"
_LIMIT: Final = "means nothing here; send price with order_type LIMIT"
_PAPER: Final = "means nothing here; a strategy is paper by its own setting, and without one by environment"
_LEVERAGE: Final = "means nothing here; send leverage instead"
_TRIGGER: Final = "means nothing here: an entry is made at once; send price with order_type LIMIT"

_STOP_NAMES: Final = """
    stoploss sl stop stopprice stoplossprice slprice stoppercent slpercent stoplosspct slpct stoplosspercentage
    stoplosses initialstop stoplosstriggerprice sltriggerprice sl1
"""
_TARGET_NAMES: Final = """
    takeprofit tp takeprofits tpprice takeprofitprice tppercent tppct takeprofitpct takeprofitpercentage target
    targetprice targets profittarget takeprofittriggerprice tptriggerprice tp1 tp2 tp3
"""
_TRAILING_NAMES: Final = """
    usetrailingstop trailingstoppercent trailingstop trailing trail trailingstoploss trailstop trailpercent trailprice
    trailoffset trailpoints trailamount trailingpercent trailingdistance trailingdelta trailingtakeprofit
    trailingstoppct callbackrate activationprice breakeven movetobreakeven
"""
_SIZE_NAMES: Final = """
    quantity qty contracts amount lots lot units shares ordersize positionsize tradesize notional baseordersize
    quoteorderqty quotequantity sizepercent positionsizepercent riskpercent riskpct amountusd usdamount sizeusdt
    orderqty baseqty investment
"""
_HEDGE_NAMES: Final = "hedge hedgemode positionside posside positionidx position strategyinfo"
_ADVICE: Final = {  # names without case and separators
    name: advice
    for names, advice in (
        (_STOP_NAMES, _STOP),
        (_TARGET_NAMES, _TARGET),
        (_TRAILING_NAMES, TRAILING),
        (_SIZE_NAMES, _SIZE),
        ("reduceonly closeposition closeonly exitonly", _REDUCE),
        (_HEDGE_NAMES, _HEDGE),
        ("expiry expires expiration validuntil goodtilldate maxlag ttl validfor expiresin expirein", _EXPIRY),
        ("limit limitprice orderprice slippage slippagepercent slippagepct maxslippage slippagetolerance", _LIMIT),
        ("dryrun paper papertrading ispaper sandbox testnet testmode test istest simulate simulated", _PAPER),
        ("triggerprice stoplimitprice", _TRIGGER),
        ("lev", _LEVERAGE),
    )
    for name in names.split()
}


def find_advice(name: str, value: object) -> str | None:
    """What to send instead of the field `name` of an entry; None when the field asks for nothing."""
    return _ADVICE.get(_normalize(name)) if _is_requested(value) else None


def index_spellings(names: Iterable[str]) -> Mapping[str, str]:
    """Known `names` by their normalized spelling."""
    return {_normalize(name): name for name in names}


def find_spelling_advice(name: str, value: object, known: Mapping[str, str]) -> str | None:
    """As `find_advice`, for a misspelling of one of the `known` names (see `index_spellings`)."""
    meant = known.get(_normalize(name))
    return (
        None if meant is None or not _is_requested(value) else f"means nothing in this spelling; send {meant} instead"
    )


def _is_requested(value: object) -> bool:
    # A field that is off (false) asks for nothing.
    return value is not False and not (isinstance(value, str) and value.strip().lower() == "false")


def _normalize(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower()) if name.isascii() else name
