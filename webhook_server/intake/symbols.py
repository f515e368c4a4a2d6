"""The many spellings of one linear perpetual, such as BTCUSDT. Other and ambiguous contracts are refused.

The spellings are those of ccxt (BASE/QUOTE:SETTLE), TradingView (EXCHANGE:PAIR, PAIR.P, PAIRPERP), OKX
(BASE-QUOTE-SWAP), Binance (PAIR) and those that write a separator only.
"""

import re
from typing import Final

from engine.domain import symbol_names

QUOTES: Final = (
    *("USDT", "USDC", "USD1", "FDUSD", "BUSD", "TUSD", "USDE", "USDF", "USDS", "USDD", "USDP", "DAI", "USD"),
    *("EUR", "GBP", "JPY", "TRY", "BRL", "AUD", "BTC", "ETH", "BNB"),
)
COIN_SETTLED_QUOTE: Final = "USD"  # BTCUSD_PERP and BTC-USD-SWAP are settled in the base coin: not linear
ACCEPTED_FORMS: Final = (
    "send BTCUSDT, BTC/USDT:USDT, BTC/USDT, BTC-USDT, BTC_USDT, BTCUSDT.P, BTCUSDTPERP, BTCUSDT_PERP, BTCUSDT-PERP, "
    "BTC-USDT-SWAP, BTC-USDT-PERP, BTC_USDT_PERP or BINANCE:BTCUSDT"
)
_ANY_QUOTE: Final = "|".join(sorted(QUOTES, key=len, reverse=True))
_LETTER: Final = r"[^\W_a-z]"  # or digit; `_is_readable` has checked those beyond ASCII
_BASE: Final = f"(?P<base>{_LETTER}{{1,20}}?)"
_QUOTE: Final = f"(?P<quote>{_ANY_QUOTE})"
_PLAIN: Final = re.compile(f"{_LETTER}{{2,30}}")
_PAIR: Final = re.compile(f"{_BASE}{_QUOTE}")
_DATED: Final = re.compile(f"{_BASE}{_QUOTE}_[0-9]{{6}}")  # Binance's own name of a dated contract: not the perpetual
_PREFIX: Final = re.compile(r"[A-Z0-9_.]{2,20}")
_SEPARATED: Final = re.compile(f"{_BASE}[/_-]{_QUOTE}")
_SETTLED: Final = re.compile(f"{_BASE}/{_QUOTE}:(?P=quote)")
_PERPETUAL: Final = re.compile(rf"{_BASE}{_QUOTE}(?:\.P|[_-]?PERP)")
_SEPARATED_PERPETUALS: Final = (re.compile(f"{_BASE}-{_QUOTE}-(?:SWAP|PERP)"), re.compile(f"{_BASE}_{_QUOTE}_PERP"))


def normalize_symbol(written: str) -> str:
    """The symbol that `written` means, in any case and with blanks around it.

    Raises ValueError for another contract, for what can be read in two ways, and for what is no symbol.
    """
    word = symbol_names.to_upper(written)
    if not _is_readable(word):
        word = ""
    if _PLAIN.fullmatch(word) and word not in QUOTES and not word.endswith("PERP"):
        return word  # QUOTES need not have its quote: the venue refuses what it does not list
    found = _parse_pair(_strip_exchange_prefix(word))
    if found is None:
        raise ValueError(f"is no symbol of a linear perpetual; {ACCEPTED_FORMS}")
    return found


def _is_readable(word: str) -> bool:
    return all(char.isascii() or symbol_names.is_caseless(char) for char in word)


def _strip_exchange_prefix(word: str) -> str:
    """`word` after its exchange, as in BINANCE:BTCUSDT; unchanged where a pair stands before the colon."""
    before, colon, after = word.partition(":")
    is_exchange = colon and _PREFIX.fullmatch(before) and before not in QUOTES and not _PAIR.fullmatch(before)
    return after if is_exchange else word


def _parse_pair(word: str) -> str | None:
    if _DATED.fullmatch(word) and word.partition("_")[0] not in QUOTES:
        return word
    if word in QUOTES:
        return None
    for pattern in (_PAIR, _SEPARATED, _SETTLED):
        found = pattern.fullmatch(word)
        if found is not None:
            return found["base"] + found["quote"]
    return _parse_perpetual(word)


def _parse_perpetual(word: str) -> str | None:
    """The pair of a word with a mark of perpetuals, unless the contract may be settled in its base coin."""
    found = _PERPETUAL.fullmatch(word)
    if found is not None:
        pair = found["base"] + found["quote"]
        return None if pair.endswith(COIN_SETTLED_QUOTE) else pair  # BNBUSD is BNB in USD, or BN in BUSD
    apart = next(filter(None, (pattern.fullmatch(word) for pattern in _SEPARATED_PERPETUALS)), None)
    return None if apart is None or apart["quote"] == COIN_SETTLED_QUOTE else apart["base"] + apart["quote"]
