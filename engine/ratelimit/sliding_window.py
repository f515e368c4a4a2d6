"""Sliding windows over amounts (requests, tokens): the arithmetic under the limiter's promise. Time is passed in."""

import math
from collections import deque
from dataclasses import dataclass


@dataclass(slots=True)
class Entry:
    """One or more amounts that leave the window together; `time` is that of the newest, so that none leaves early."""

    first: float
    time: float
    amount: float
    counted: bool = True


class SlidingWindow:
    """The sum of what was added within the last `length_s` seconds.

    Amounts added within `grain_s` of each other share an entry, which bounds the memory of a day's window; 0 keeps all.
    """

    def __init__(self, length_s: float, grain_s: float = 0.0) -> None:
        self._length_s = length_s
        self._grain_s = grain_s
        self._entries: deque[Entry] = deque()
        self._total = 0.0

    def add(self, now: float, amount: float) -> Entry:
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
        """Corrects what was added; without effect once it has left the window."""
        if entry.counted:
            entry.amount += difference
            self._total += difference

    def total(self, now: float) -> float:
        self._forget(now)
        return self._total

    def earliest_fit(self, now: float, amount: float, limit: float) -> float:
        """The earliest time from `now` on at which `amount` more keeps the sum within `limit`; infinite if none."""
        if amount > limit:
            return math.inf
        excess = self.total(now) + amount - limit
        at = now
        for entry in self._entries:
            if excess <= 0:
                return at
            excess -= entry.amount
            at = entry.time + self._length_s
        return at

    def _forget(self, now: float) -> None:
        while self._entries and now - self._entries[0].time >= self._length_s:
            gone = self._entries.popleft()
            gone.counted = False
            self._total -= gone.amount
        if not self._entries:
            self._total = 0.0
