"""How wide the columns of a table are: numbers whole, prose wrapped, and no long name takes the others' room. Pure."""

from collections.abc import Sequence
from typing import Final, NamedTuple

LEAST_WRAPPED: Final = 10
LEAST_WORD: Final = 8  # the beginning of an id, which every command takes for the whole


class Need(NamedTuple):
    """What one column would like to have, in columns of the terminal."""

    widest: int
    is_number: bool = False
    wraps: bool = False


def fitted(needs: Sequence[Need], room: int) -> list[int]:
    """The width of each column so that all have `room` together: first prose shrinks, then words, numbers never.

    Below the least widths it is given up, and more than `room` comes back.
    """
    widths = [need.widest for need in needs]
    for of_prose, least in ((True, LEAST_WRAPPED), (False, LEAST_WORD)):
        shrinking = [at for at, need in enumerate(needs) if not need.is_number and need.wraps is of_prose]
        taken = sum(widths) - sum(widths[at] for at in shrinking)
        level = _level([widths[at] for at in shrinking], room - taken, least)
        for at in shrinking:
            widths[at] = min(widths[at], level)
    return widths


def _level(widths: Sequence[int], room: int, least: int) -> int:
    """The most that each may have so that all have `room` together: the widest shrink first."""
    level = max(widths, default=least)
    while level > least and sum(min(width, level) for width in widths) > room:
        level -= 1
    return level
