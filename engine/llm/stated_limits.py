"""Finds the limit that the text of a refusal states. Pure."""

import re
from typing import Final

from engine.domain.completion import LIMIT_WORDS, KnownLimit, LimitName

MIN_TOKENS: Final = 500  # a smaller limit of tokens would let no request through, so it was misread

_LIMIT: Final = re.compile(r"(?:(?:requests|tokens) per (?:minute|min|day)|\b(?:RPM|TPM|RPD|TPD))\b", re.IGNORECASE)
_SIZE: Final = re.compile(
    r"(?: ?\((?:RPM|TPM|RPD|TPD)\))?[:,]? {0,2}limit:? {0,2}([0-9][0-9,]{0,14})(?![0-9,.]*[0-9kKmM]| [0-9]{3}\b)",
    re.IGNORECASE,
)
_NAMES: Final[dict[str, LimitName]] = {
    **{words: name for name, words in LIMIT_WORDS.items()},
    **{words.replace("minute", "min"): name for name, words in LIMIT_WORDS.items()},
    **{name: name for name in LIMIT_WORDS},
}


def find_limit(message: str) -> KnownLimit | None:
    """The limit that a refusal names, as in ``tokens per day (TPD): Limit 200000``; its size in requests or tokens.

    A size counts only right behind its name, and a name without a size only where no other is named: a limit that is
    misread would hold back every strategy.
    """
    mentions = list(_LIMIT.finditer(message))
    for mention in mentions:
        size_match = _SIZE.match(message, mention.end())
        name = _NAMES[mention[0].lower()]
        size = int(size_match[1].replace(",", "")) if size_match else 0
        if size >= (MIN_TOKENS if name.startswith("t") else 1):
            return KnownLimit(name=name, size=size)
    names = {_NAMES[mention[0].lower()] for mention in mentions}
    return KnownLimit(name=names.pop()) if len(names) == 1 else None
