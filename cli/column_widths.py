"""The widths of a table's columns: times and numbers are never cut, prose is wrapped, long names are cut. Pure."""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size

MIN_WRAPPED_WIDTH: Final = 10
MIN_WORD_WIDTH: Final = 8  # the beginning of an id, which every command takes for the whole
_ELLIPSIS: Final = "\u2026"
_PART_OF_ESCAPE: Final = re.compile(r"\\(?:x[0-9a-f]?|u[0-9a-f]{0,3}|U[0-9a-f]{0,7})?$")


class ColumnWidth(NamedTuple):
    """The width that one column needs, in cells of the terminal; if it `is_fixed`, it cannot be shrunk."""

    natural: int
    is_fixed: bool = False
    wraps: bool = False

    @property
    def minimum(self) -> int:
        """The smallest width that it can be shrunk to."""
        return self.natural if self.is_fixed else min(self.natural, MIN_WRAPPED_WIDTH if self.wraps else MIN_WORD_WIDTH)


def fit_widths(needs: Sequence[ColumnWidth], room: int) -> list[int]:
    """The width of each column, `room` in all: first wrapped columns shrink, then others that are not fixed.

    The sum is larger than `room` if that is not enough for the smallest widths.
    """
    widths = [need.natural for need in needs]
    for wraps, least in ((True, MIN_WRAPPED_WIDTH), (False, MIN_WORD_WIDTH)):
        shrinking = [at for at, need in enumerate(needs) if not need.is_fixed and need.wraps is wraps]
        taken = sum(widths) - sum(widths[at] for at in shrinking)
        level = _find_max_shrunk_width([widths[at] for at in shrinking], room - taken, least)
        for at in shrinking:
            widths[at] = min(widths[at], level)
    return widths


def truncate(text: str, width: int) -> str:
    """`text` cut to `width` cells of the terminal, but not within an escape such as ``\\u4e2d``."""
    if cell_len(text) <= width:
        return text
    return _PART_OF_ESCAPE.sub("", set_cell_size(text, max(0, width - 1)).rstrip()) + _ELLIPSIS


def _find_max_shrunk_width(widths: Sequence[int], room: int, least: int) -> int:
    """The largest width for all columns with which they need `room` at most: the widest shrink first."""
    level = max(widths, default=least)
    while level > least and sum(min(width, level) for width in widths) > room:
        level -= 1
    return level
