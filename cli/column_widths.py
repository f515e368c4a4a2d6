"""How wide the columns of a table are: times and numbers whole, prose wrapped, and no long name takes the others' room.
Pure."""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size

LEAST_WRAPPED: Final = 10
LEAST_WORD: Final = 8  # the beginning of an id, which every command takes for the whole
_CUT: Final = "\u2026"
_PART_OF_ESCAPE: Final = re.compile(r"\\(?:x[0-9a-f]?|u[0-9a-f]{0,3}|U[0-9a-f]{0,7})?$")


class Need(NamedTuple):
    """What one column would like to have, in columns of the terminal; where it `is_whole`, it must have it."""

    widest: int
    is_whole: bool = False
    wraps: bool = False

    @property
    def least(self) -> int:
        """The least that it can be shrunk to."""
        return self.widest if self.is_whole else min(self.widest, LEAST_WRAPPED if self.wraps else LEAST_WORD)


def fitted(needs: Sequence[Need], room: int) -> list[int]:
    """The width of each column so that all have `room` together: first prose shrinks, then words, else nothing.

    Below the least widths it is given up, and more than `room` comes back.
    """
    widths = [need.widest for need in needs]
    for of_prose, least in ((True, LEAST_WRAPPED), (False, LEAST_WORD)):
        shrinking = [at for at, need in enumerate(needs) if not need.is_whole and need.wraps is of_prose]
        taken = sum(widths) - sum(widths[at] for at in shrinking)
        level = _level([widths[at] for at in shrinking], room - taken, least)
        for at in shrinking:
            widths[at] = min(widths[at], level)
    return widths


def cut(text: str, width: int) -> str:
    """`text` in at most `width` columns of the terminal; it is never cut within an escape such as ``\\u4e2d``."""
    if cell_len(text) <= width:
        return text
    return _PART_OF_ESCAPE.sub("", set_cell_size(text, max(0, width - 1)).rstrip()) + _CUT


def _level(widths: Sequence[int], room: int, least: int) -> int:
    """The most that each may have so that all have `room` together: the widest shrink first."""
    level = max(widths, default=least)
    while level > least and sum(min(width, level) for width in widths) > room:
        level -= 1
    return level
