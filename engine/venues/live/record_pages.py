"""Reads a record completely from answers that are limited in rows and to windows of a week.

Nothing here depends on whether a venue fills an answer with the oldest or the newest rows of a window: a window whose
answer is full is read again in two parts.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Final, Protocol, TypeVar

from engine.domain.errors import VenueUnavailable
from engine.platform.errors import UpstreamUnavailable
from engine.venues.account_record import AccountTrade

WEEK_MS: Final = 7 * 86_400_000
# Below the 90 days that Binance allows (-4166), because its clock goes on until it reads the request.
MAX_AGE_MS: Final = 89 * 86_400_000
MAX_PAGES: Final = 40


class TimedRow(Protocol):
    @property
    def at_ms(self) -> int: ...


Row = TypeVar("Row", bound=TimedRow)


class PagedReader:
    """Reads all pages of one record. Raises UpstreamUnavailable beyond `MAX_PAGES` answers.

    An answer of `page_size` rows may have been cut off.
    """

    def __init__(self, what: str, page_size: int) -> None:
        self._what = what
        self._page_size = page_size
        self._page_count = 0

    def read_between(
        self, fetch: Callable[[int, int | None], Sequence[Row]], since_ms: int, until_ms: int | None
    ) -> list[Row]:
        """All rows from `since_ms` to `until_ms`, both included; None: to the newest."""
        rows = self._count_page(fetch(since_ms, until_ms))
        if len(rows) < self._page_size:
            return list(rows)
        if until_ms is not None and since_ms >= until_ms:
            raise self._build_too_long_error()
        middle_ms = sorted(row.at_ms for row in rows)[len(rows) // 2]
        middle_ms = max(since_ms, middle_ms if until_ms is None else min(middle_ms, until_ms - 1))
        return self.read_between(fetch, since_ms, middle_ms) + self.read_between(fetch, middle_ms + 1, until_ms)

    def read_above(self, fetch: Callable[[int], Sequence[AccountTrade]], trade_id: int) -> list[AccountTrade]:
        """All trades with an id above `trade_id`; `fetch` returns those from an id on, the lowest first.

        The result may have duplicates: two trades may share an id, and a full page may end between them, so the next
        page starts at the same id.
        """
        trades: list[AccountTrade] = []
        first_id = trade_id + 1
        while True:
            page = self._count_page(fetch(first_id))
            trades += [trade for trade in page if trade.trade_id > trade_id]
            if len(page) < self._page_size:
                return trades
            highest = max(trade.trade_id for trade in page)
            if highest <= first_id:  # the venue repeats the same page
                raise self._build_too_long_error()
            first_id = highest

    def _count_page(self, rows: Sequence[Row]) -> Sequence[Row]:
        self._page_count += 1
        if self._page_count > MAX_PAGES:
            raise self._build_too_long_error()
        return rows

    def _build_too_long_error(self) -> UpstreamUnavailable:
        return VenueUnavailable(f"its record of {self._what} is too long to be read at once")


def split_windows(since_ms: int, now_ms: int, length_ms: int | None) -> Iterator[tuple[int, int | None]]:
    """The windows from `since_ms`, but not from before `MAX_AGE_MS`, to now.

    The last one has no end, so that what happens meanwhile is in it; without `length_ms` it is the only one.
    """
    start_ms = max(since_ms, now_ms - MAX_AGE_MS)
    while length_ms is not None and start_ms + length_ms <= now_ms:
        yield start_ms, start_ms + length_ms - 1
        start_ms += length_ms
    yield start_ms, None


def deduplicate(rows: Iterable[Row], key: Callable[[Row], Hashable]) -> list[Row]:
    """Each row once, in the order of time. Raises ValueError where two different rows have the same key."""
    row_by_key: dict[Hashable, Row] = {}
    for row in rows:
        if row_by_key.setdefault(key(row), row) != row:
            raise ValueError(f"the venue has two different rows of {key(row)}")
    return sorted(row_by_key.values(), key=lambda row: row.at_ms)
