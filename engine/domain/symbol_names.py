"""Valid names of instruments: BTCUSDT, 1000PEPEUSDT, and names in scripts without case (币安人生USDT).

Letters that have a case or a compatible form in ASCII (Cyrillic, full width) are invalid, because they can be mistaken
for ASCII letters.
"""

import re
import unicodedata
from typing import Final

# For pydantic, whose regular expressions support Unicode classes. Python's do not, hence `is_name`.
PATTERN: Final = r"^[A-Z0-9_\p{Lo}]{2,30}$"
_LOWER: Final = re.compile("[a-z]+")
_ASCII: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


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
