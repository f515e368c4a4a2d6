"""How long entries into a symbol pause after entries that could not be protected: each costs fees and the spread."""

from datetime import datetime, timedelta
from typing import Final

MIN_PAUSE: Final = timedelta(minutes=5)
MAX_PAUSE: Final = timedelta(hours=4)
_DOUBLINGS: Final = (MAX_PAUSE // MIN_PAUSE).bit_length()  # more would exceed MAX_PAUSE, and overflow timedelta


def calculate_pause(undone: int) -> timedelta:
    """The pause after `undone` such entries in a row: 5 minutes, doubled by each after the first, up to 4 hours."""
    if undone <= 0:
        return timedelta(0)
    return min(MAX_PAUSE, MIN_PAUSE * (1 << min(undone - 1, _DOUBLINGS)))


def calculate_pause_end(undone: int, last_at: datetime | None) -> datetime | None:
    """The end of the pause after the last of `undone` entries, at `last_at`; None without such an entry."""
    return None if undone <= 0 or last_at is None else last_at + calculate_pause(undone)
