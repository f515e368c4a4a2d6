"""Valid names of instruments, and the perpetual that each spelling of a symbol means.

Names are BTCUSDT, 1000PEPEUSDT, and names in scripts without case (币安人生USDT). Letters that have a case or a
compatible form in ASCII (Cyrillic, full width) are left out: they look like others.

Of the many spellings of one linear perpetual all become one symbol, such as BTCUSDT; every other contract is refused
rather than guessed at. The spellings are those of ccxt (BASE/QUOTE:SETTLE), TradingView (EXCHANGE:PAIR, PAIR.P,
PAIRPERP), OKX (BASE-QUOTE-SWAP), Binance (PAIR) and those that write a separator only.
"""

import re
import unicodedata
from typing import Final

# For pydantic, whose regular expressions support Unicode classes. Python's do not, hence `is_name`.
PATTERN: Final = r"^[A-Z0-9_\p{Lo}]{2,30}$"
ACCEPTED_FORMS: Final = (  # for senders
    "send BTCUSDT, BTC/USDT:USDT, BTC/USDT, BTC-USDT, BTC_USDT, BTCUSDT.P, BTCUSDTPERP, BTCUSDT_PERP, BTCUSDT-PERP, "
    "BTC-USDT-SWAP, BTC-USDT-PERP, BTC_USDT_PERP or BINANCE:BTCUSDT"
)
_LOWER: Final = re.compile("[a-z]+")
_ASCII: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
QUOTES: Final = (
    *("USDT", "USDC", "USD1", "FDUSD", "BUSD", "TUSD", "USDE", "USDF", "USDS", "USDD", "USDP", "DAI", "USD"),
    *("EUR", "GBP", "JPY", "TRY", "BRL", "AUD", "BTC", "ETH", "BNB"),
)
COIN_SETTLED_QUOTE: Final = "USD"  # BTCUSD_PERP and BTC-USD-SWAP are settled in the base coin: not linear
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


def is_name(text: str) -> bool:
    """Whether `text` is the name of a perpetual, in upper case."""
    return 2 <= len(text) <= 30 and all(char in _ASCII or is_caseless(char) for char in text)


def is_caseless(char: str) -> bool:
    """Whether `char` is a letter beyond ASCII that has no case and no other form."""
    return unicodedata.category(char) == "Lo" and unicodedata.normalize("NFKC", char) == char


def to_upper(text: str) -> str:
    """`text` without surrounding blanks and with its ASCII letters in upper case.

    Other letters stay, because Python's `upper` turns some of them into ASCII (the dotless i into I).
    """
    return _LOWER.sub(lambda match: match[0].upper(), text.strip())


def is_possible_venue_symbol(written: str) -> bool:
    """Whether a position may be booked under the name `written`: venues have names of their own, also with `_`."""
    return is_name(written.replace("_", "X"))


def read_symbol(written: str, *, is_exit: bool) -> str:
    """The symbol that the webhook server reads in a signal's `written`. Raises ValueError where it refuses it.

    An exit keeps a name of no known form: a position may be held under the venue's own name, and else the exit is
    refused as not listed.
    """
    try:
        return normalize_symbol(written)
    except ValueError:
        name = to_upper(written)
        if is_exit and is_possible_venue_symbol(name):
            return name
        raise


def normalize_symbol(written: str) -> str:
    """The symbol that `written` means, in any case and with blanks around it.

    Raises ValueError for another contract, for what can be read in two ways, and for what is no symbol.
    """
    word = to_upper(written)
    if not _is_readable(word):
        word = ""
    if _PLAIN.fullmatch(word) and word not in QUOTES and not word.endswith("PERP"):
        return word  # QUOTES need not have its quote: the venue refuses what it does not list
    symbol = _parse_pair(_strip_exchange_prefix(word))
    if symbol is None:
        raise ValueError("is no symbol of a linear perpetual")
    return symbol


def _is_readable(word: str) -> bool:
    return all(char.isascii() or is_caseless(char) for char in word)


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
        match = pattern.fullmatch(word)
        if match is not None:
            return match["base"] + match["quote"]
    return _parse_perpetual(word)


def _parse_perpetual(word: str) -> str | None:
    """The pair of a word with a mark of perpetuals, unless the contract may be settled in its base coin."""
    match = _PERPETUAL.fullmatch(word)
    if match is not None:
        pair = match["base"] + match["quote"]
        return None if pair.endswith(COIN_SETTLED_QUOTE) else pair  # BNBUSD is BNB in USD, or BN in BUSD
    apart = next(filter(None, (pattern.fullmatch(word) for pattern in _SEPARATED_PERPETUALS)), None)
    return None if apart is None or apart["quote"] == COIN_SETTLED_QUOTE else apart["base"] + apart["quote"]
