"""How long a symbol rests after entries into it that could not be protected: each of them costs fees and the spread."""

from datetime import datetime, timedelta
from typing import Final

MIN_PAUSE: Final = timedelta(minutes=5)
MAX_PAUSE: Final = timedelta(hours=4)
_DOUBLINGS: Final = (MAX_PAUSE // MIN_PAUSE).bit_length()  # more change nothing


def pause_after(undone: int) -> timedelta:
    """After so many such entries in a row: 5 minutes after the first, doubled by each further one, up to 4 hours."""
    if undone <= 0:
        return timedelta(0)
    return min(MAX_PAUSE, MIN_PAUSE * (1 << min(undone - 1, _DOUBLINGS)))


def pause_ends_at(undone: int, last_at: datetime | None) -> datetime | None:
    """When the rest ends that began with the last of them; None when there was none."""
    return None if undone <= 0 or last_at is None else last_at + pause_after(undone)
