"""The list of a venue's instruments, shared by all clients of an address and refreshed while they run.

It is refreshed every hour in a thread of its own, at once when an answer of the venue means that it has changed, and
before a paper entry when it is a minute old, because no venue rejects a paper order. A failed refresh keeps the old
list.
"""

import math
import random
import threading
import time
from collections.abc import Callable, Hashable
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog

from engine.domain.errors import VenueUnavailable
from engine.platform.errors import SparkyError
from engine.venues.ccxt_client.errors import translate_errors
from engine.venues.ccxt_client.listing_tables import ListingTables
from engine.venues.ccxt_client.request_weight import low_priority

logger = structlog.get_logger()

REFRESH_S: Final = 3_600.0
JITTER: Final = 0.1  # of the hour, either way, so that processes do not all ask at once
RETRY_S: Final = 60.0  # after a list that could not be read
MIN_FORCED_INTERVAL_S: Final = 3.0  # between two refreshes after answers of the venue
MIN_SEARCH_INTERVAL_S: Final = 60.0  # between two refreshes for a symbol that is not listed
MAX_AGE_BEFORE_ENTRY_S: Final = 60.0  # how old a list may be before an entry on paper
# A list that lacks more instruments than this, and more than half of all, is accepted only when read twice.
MAX_VANISHED: Final = 3
VERSION_OPTION: Final = "listingVersion"  # our option: which list the client has


@dataclass(frozen=True)
class RefreshTimes:
    """When the list was refreshed and why, in monotonic seconds; every method is pure.

    `refresh_s` is the lifetime of a list. `attempted_at` is the start of the last hourly refresh, `forced_at` of the
    last after an answer of the venue, `searched_at` of the last for an unlisted symbol, `confirmed_at` of the last for
    a symbol that only the newest list lacks, `entry_refreshed_at` of the last before a paper entry.
    """

    refresh_s: float = REFRESH_S
    refreshed_at: float = -math.inf
    attempted_at: float = -math.inf
    forced_at: float = -math.inf
    searched_at: float = -math.inf
    confirmed_at: float = -math.inf
    entry_refreshed_at: float = -math.inf

    def is_due(self, now: float) -> bool:
        return now - self.refreshed_at >= self.refresh_s and now - self.attempted_at >= RETRY_S

    def may_force(self, now: float) -> bool:
        return now - self.forced_at >= MIN_FORCED_INTERVAL_S

    def may_confirm(self, now: float) -> bool:
        return now - self.confirmed_at >= MIN_FORCED_INTERVAL_S

    def may_search(self, now: float) -> bool:
        return now - self.searched_at >= MIN_SEARCH_INTERVAL_S

    def may_refresh_before_entry(self, now: float) -> bool:
        return now - max(self.refreshed_at, self.entry_refreshed_at) >= MAX_AGE_BEFORE_ENTRY_S


@dataclass
class SharedListing:
    """The list of one venue at one address. Safe to share between threads.

    `open_client` opens a client without keys; it is closed here after each refresh.
    """

    open_client: Callable[[], Any]
    monotonic: Callable[[], float] = time.monotonic
    spread: Callable[[float, float], float] = random.uniform
    _tables: ListingTables | None = None
    _version: int = 0
    _suspected_ids: frozenset[str] = frozenset()
    _refresh_times: RefreshTimes = field(default_factory=RefreshTimes)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _refresh_lock: threading.Lock = field(default_factory=threading.Lock)
    _entry_refresh_lock: threading.Lock = field(default_factory=threading.Lock)

    def update_client(self, exchange: Any) -> None:
        """Gives `exchange` the newest list; the caller holds the client's lock.

        If there is none yet, `exchange` reads it itself, so that no client waits for another; raises ccxt's errors. An
        old list is refreshed in the background.
        """
        if self._tables is None:
            exchange.load_markets(reload=True)
            self._accept_tables(exchange)
        with self._lock:
            tables, version = self._tables, self._version
        if tables is not None and exchange.options.get(VERSION_OPTION) != version:
            tables.apply_to(exchange)
            exchange.options[VERSION_OPTION] = version
        self._refresh_when_due()

    def refresh_now(self) -> None:
        """Refreshes after an answer that means that the list has changed, and waits, also for another thread's refresh.
        Raises nothing."""
        with self._lock:
            now, times = self.monotonic(), self._refresh_times
            is_due = times.may_force(now)
            if is_due:
                self._refresh_times = replace(times, forced_at=now)
        if is_due:
            self._refresh()
        else:
            with self._refresh_lock:
                return

    def refresh_for_unlisted(self) -> None:
        """Refreshes for a symbol that is not listed, and may be new. Raises nothing."""
        with self._lock:
            now, times = self.monotonic(), self._refresh_times
            if not times.may_search(now):
                return
            self._refresh_times = replace(times, searched_at=now)
        self._refresh()

    def refresh_for_missing(self) -> None:
        """Refreshes for a symbol that only the newest list lacks, and waits. Raises nothing."""
        with self._lock:
            now, times = self.monotonic(), self._refresh_times
            if not times.may_confirm(now):
                return
            self._refresh_times = replace(times, confirmed_at=now)
        self._refresh()

    def refresh_before_entry(self) -> None:
        """Refreshes before a paper entry, and waits, also for another thread's refresh. Raises nothing."""
        with self._entry_refresh_lock:
            with self._lock:
                now, times = self.monotonic(), self._refresh_times
                if self._tables is None or not times.may_refresh_before_entry(now):
                    return  # a client without any list reads it itself
                self._refresh_times = replace(times, entry_refreshed_at=now)
            self._refresh_at_low_priority()

    def _refresh_when_due(self) -> None:
        with self._lock:
            now, times = self.monotonic(), self._refresh_times
            if not times.is_due(now):
                return
            self._refresh_times = replace(times, attempted_at=now)
        threading.Thread(target=self._refresh_at_low_priority, name="instrument-refresh", daemon=True).start()

    def _refresh_at_low_priority(self) -> None:
        with low_priority():
            self._refresh()

    def _refresh(self) -> None:
        """Reads with a client of its own, so that no account waits. A failure is logged and keeps the old list."""
        with self._refresh_lock:
            try:
                exchange = self.open_client()
                with closing(exchange.session), translate_errors(exchange):
                    exchange.load_markets(reload=True)
                    self._accept_tables(exchange)
            except SparkyError as error:
                logger.warning("instruments_unavailable", reason=str(error))

    def _accept_tables(self, exchange: Any) -> None:
        """Takes over the tables of `exchange`. Raises UpstreamUnavailable for a list that lacks too much."""
        with self._lock:
            before = self._tables
            read = ListingTables.from_exchange(exchange).with_steps(exchange, before)
            if before is not None:
                self._check_complete(before, read)
                read = read.with_vanished(before, self._suspected_ids)
            self._suspected_ids = frozenset()
            self._tables, self._version = read, self._version + 1
            hour_s = REFRESH_S * (1 + self.spread(-JITTER, JITTER))
            self._refresh_times = replace(self._refresh_times, refreshed_at=self.monotonic(), refresh_s=hour_s)

    def _check_complete(self, before: ListingTables, read: ListingTables) -> None:
        listed_before = before.get_listed_ids()
        missing = frozenset(listed_before - read.get_listed_ids())
        if len(missing) > max(MAX_VANISHED, len(listed_before) // 2) and missing != self._suspected_ids:
            self._suspected_ids = missing
            reason = f"its list lacks {len(missing)} of {len(listed_before)} instruments that it had"
            raise VenueUnavailable(reason)


class ListingRegistry:
    """The shared lists of this process, by venue, address and client settings."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_key: dict[Hashable, SharedListing] = {}

    def get_or_create(
        self, key: Hashable, open_client: Callable[[], Any], monotonic: Callable[[], float]
    ) -> SharedListing:
        """The list for `key`; a new one if there is none yet."""
        with self._lock:
            if key not in self._by_key:
                self._by_key[key] = SharedListing(open_client, monotonic)
            return self._by_key[key]


LISTINGS: Final = ListingRegistry()
