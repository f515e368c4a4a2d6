"""Sums of amounts (requests, tokens) in sliding windows, on which the limiter's guarantee rests. Time is passed in."""

import math
from collections import deque
from dataclasses import dataclass


@dataclass(slots=True)
class Entry:
    """Amounts that leave the window together; `time` is that of the newest one, so that none leaves early."""

    first: float
    time: float
    amount: float
    is_counted: bool = True


class SlidingWindow:
    """The sum of all amounts of the last `length_s` seconds.

    Amounts within `grain_s` seconds of each other share an entry, which bounds the memory of a day's window; with 0
    every amount has its own.
    """

    def __init__(self, length_s: float, grain_s: float = 0.0) -> None:
        self._length_s = length_s
        self._grain_s = grain_s
        self._entries: deque[Entry] = deque()
        self._total = 0.0

    def add(self, now: float, amount: float) -> Entry:
        """Adds `amount` at `now`, which must not be before the last addition; returns the entry that holds it."""
        self._total += amount
        last = self._entries[-1] if self._entries else None
        if last is not None and 0 <= now - last.first < self._grain_s:
            last.amount += amount
            last.time = now
            return last
        entry = Entry(now, now, amount)
        self._entries.append(entry)
        return entry

    def adjust(self, entry: Entry, difference: float) -> None:
        """Adds `difference` to an entry; without effect once the entry has left the window."""
        if entry.is_counted:
            entry.amount += difference
            self._total += difference

    def get_total(self, now: float) -> float:
        self._drop_old(now)
        return self._total

    def find_earliest_fit(self, now: float, amount: float, limit: float) -> float:
        """The earliest time from `now` on at which `amount` fits within `limit`; infinite if it never does."""
        if amount > limit:
            return math.inf
        excess = self.get_total(now) + amount - limit
        at = now
        for entry in self._entries:
            if excess <= 0:
                return at
            excess -= entry.amount
            at = entry.time + self._length_s
        return at

    def _drop_old(self, now: float) -> None:
        while self._entries and now - self._entries[0].time >= self._length_s:
            dropped = self._entries.popleft()
            dropped.is_counted = False
            self._total -= dropped.amount
        if not self._entries:
            self._total = 0.0
