"""How the whole of a record is read where one answer holds so many rows only, and no longer than a week.

Nothing here depends on whether a venue fills an answer with the oldest or the newest rows of a window: a window whose
answer is full is read again in two parts.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Final, Protocol, TypeVar

from engine.platform.errors import UpstreamUnavailable
from engine.venues.account_record import AccountTrade

WEEK_MS: Final = 7 * 86_400_000
# Binance refuses a question about more than 90 days ago (-4166), and its clock goes on until it reads the question.
DEPTH_MS: Final = 89 * 86_400_000
MOST_ANSWERS: Final = 40


class Timed(Protocol):
    @property
    def at_ms(self) -> int: ...


Row = TypeVar("Row", bound=Timed)


class Pages:
    """Asks for one record until all of it is there. Raises UpstreamUnavailable beyond `MOST_ANSWERS` answers.

    An answer of `full` rows may have been cut off.
    """

    def __init__(self, what: str, full: int) -> None:
        self._what = what
        self._full = full
        self._answers = 0

    def between(
        self, ask: Callable[[int, int | None], Sequence[Row]], since_ms: int, until_ms: int | None
    ) -> list[Row]:
        """All rows from `since_ms` to `until_ms`, both included; None: to the newest."""
        rows = self._counted(ask(since_ms, until_ms))
        if len(rows) < self._full:
            return list(rows)
        if until_ms is not None and since_ms >= until_ms:
            raise self._too_long()
        middle_ms = sorted(row.at_ms for row in rows)[len(rows) // 2]
        middle_ms = max(since_ms, middle_ms if until_ms is None else min(middle_ms, until_ms - 1))
        return self.between(ask, since_ms, middle_ms) + self.between(ask, middle_ms + 1, until_ms)

    def above(self, ask: Callable[[int], Sequence[AccountTrade]], trade_id: int) -> list[AccountTrade]:
        """All trades with an id above `trade_id`; `ask` tells those from an id on, the lowest first.

        Trades may be there twice. Two may have one id, of which a full answer may hold one only: the next starts there.
        """
        found: list[AccountTrade] = []
        first_id = trade_id + 1
        while True:
            page = self._counted(ask(first_id))
            found += [trade for trade in page if trade.trade_id > trade_id]
            if len(page) < self._full:
                return found
            highest = max(trade.trade_id for trade in page)
            if highest <= first_id:  # the venue tells the same trades again and again
                raise self._too_long()
            first_id = highest

    def _counted(self, rows: Sequence[Row]) -> Sequence[Row]:
        self._answers += 1
        if self._answers > MOST_ANSWERS:
            raise self._too_long()
        return rows

    def _too_long(self) -> UpstreamUnavailable:
        return UpstreamUnavailable("venue", f"its record of {self._what} is too long to be read at once")


def windows(since_ms: int, now_ms: int, length_ms: int | None) -> Iterator[tuple[int, int | None]]:
    """The windows from `since_ms`, but not from before `DEPTH_MS`, to now.

    The last one has no end, so that what happens meanwhile is in it; without `length_ms` it is the only one.
    """
    start_ms = max(since_ms, now_ms - DEPTH_MS)
    while length_ms is not None and start_ms + length_ms <= now_ms:
        yield start_ms, start_ms + length_ms - 1
        start_ms += length_ms
    yield start_ms, None


def once(rows: Iterable[Row], key: Callable[[Row], Hashable]) -> list[Row]:
    """Each row once, in the order of time. Raises ValueError where two different rows have the same key."""
    found: dict[Hashable, Row] = {}
    for row in rows:
        if found.setdefault(key(row), row) != row:
            raise ValueError(f"the venue tells two different things of {key(row)}")
    return sorted(found.values(), key=lambda row: row.at_ms)
