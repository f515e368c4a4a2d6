"""How long a symbol rests after entries into it that could not be protected: each of them costs fees and the spread."""

from datetime import datetime, timedelta
from typing import Final

SHORTEST: Final = timedelta(minutes=5)
LONGEST: Final = timedelta(hours=4)
_DOUBLINGS: Final = (LONGEST // SHORTEST).bit_length()  # more change nothing


def rest(undone: int) -> timedelta:
    """After so many such entries in a row: 5 minutes after the first, doubled by each further one, up to 4 hours."""
    if undone <= 0:
        return timedelta(0)
    return min(LONGEST, SHORTEST * (1 << min(undone - 1, _DOUBLINGS)))


def rests_until(undone: int, last_at: datetime | None) -> datetime | None:
    """When the rest ends that began with the last of them; None when there was none."""
    return None if undone <= 0 or last_at is None else last_at + rest(undone)
