"""Which texts can be names of instruments: BTCUSDT, 1000PEPEUSDT, and names in scripts without case (币安人生USDT).

Letters that have a case or a compatible form in ASCII (Cyrillic, full width) are left out: they look like others.
"""

import re
import unicodedata
from typing import Final

# For pydantic, whose patterns know classes of characters.
PATTERN: Final = r"^[A-Z0-9_\p{Lo}]{2,30}$"
_LOWER: Final = re.compile("[a-z]+")
_ASCII: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


def is_name(text: str) -> bool:
    """Whether `text` is the name of a perpetual, in upper case."""
    return 2 <= len(text) <= 30 and all(char in _ASCII or is_caseless(char) for char in text)


def is_caseless(char: str) -> bool:
    """Whether `char` is a letter beyond ASCII that has no case and no other form."""
    return unicodedata.category(char) == "Lo" and unicodedata.normalize("NFKC", char) == char


def upper(text: str) -> str:
    """`text` with the letters of ASCII in upper case and without the blanks around it; no other letter becomes one."""
    return _LOWER.sub(lambda found: found[0].upper(), text.strip())
