"""What one venue lists, read once for all clients of an address and read again while they run.

The list is read again every hour, beside what is asked meanwhile, and at once when the venue's answers mean that it has
changed; before an entry on paper, which no venue refuses, as soon as it is a minute old. A list that cannot be read
leaves the old one.
"""

import math
import random
import threading
import time
from collections.abc import Callable, Collection, Hashable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog

from engine.platform.errors import SparkyError, UpstreamUnavailable
from engine.venues.ccxt_client.errors import translate_errors
from engine.venues.ccxt_client.request_weight import low_priority
from engine.venues.market_data.instruments import GONE_AFTER_MISSES, VANISHED_KEY, add_missing_steps

logger = structlog.get_logger()

REFRESH_S: Final = 3_600.0
JITTER: Final = 0.1  # of the hour, either way, so that processes do not all ask at once
RETRY_S: Final = 60.0  # after a list that could not be read
MIN_FORCED_INTERVAL_S: Final = 3.0  # between two readings that an answer of the venue's asked for
MIN_SEARCH_INTERVAL_S: Final = 60.0  # between two readings for a symbol that is not listed
MAX_AGE_BEFORE_ENTRY_S: Final = 60.0  # how old a list may be before an entry on paper
# Where more instruments than these and than half of all vanish at once, the list is believed when it is read again.
MAX_VANISHED: Final = 3
CCXT_TABLES: Final = (
    "markets",
    "markets_by_id",
    "symbols",
    "ids",
    "currencies",
    "currencies_by_id",
    "baseCurrencies",
    "quoteCurrencies",
    "codes",
)
HELPERS_OPTION: Final = "marketHelperProps"  # ccxt's option: names of more options that come with the markets
VERSION_OPTION: Final = "listingVersion"  # our option: which list the client has


@dataclass(frozen=True)
class RefreshTimes:
    """When the list was read and for what, in monotonic seconds; every method is pure.

    `refresh_s` is how long a list is good. `attempted_at` is the last reading every hour that was begun,
    `entry_refreshed_at` the last one before an entry on paper.
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


@dataclass(frozen=True)
class ListingTables:
    """ccxt's markets and currencies as one client has read them; nobody changes them in place."""

    values: Mapping[str, Any]
    options: Mapping[str, Any]

    @classmethod
    def from_exchange(cls, exchange: Any) -> "ListingTables":
        helpers = {name: exchange.options.get(name) for name in exchange.options.get(HELPERS_OPTION) or ()}
        return cls({name: getattr(exchange, name) for name in CCXT_TABLES}, helpers)

    def apply_to(self, exchange: Any) -> None:
        for name, value in self.values.items():
            setattr(exchange, name, value)
        exchange.options.update(self.options)

    def listed_ids(self) -> set[str]:
        """Ids of what is listed now."""
        return {market["id"] for market in self.values["markets"].values() if not market.get(VANISHED_KEY)}

    def with_steps(self, exchange: Any, before: "ListingTables | None") -> "ListingTables":
        """With a tick and a step of quantities for every market; of `before` where this one has none."""
        known = {} if before is None else before.values["markets"]

        def add_steps(market: dict[str, Any]) -> dict[str, Any]:
            return add_missing_steps(exchange, market, known.get(market["symbol"]))

        markets = {name: add_steps(each) for name, each in self.values["markets"].items()}
        by_id = {name: [add_steps(each) for each in same] for name, same in self.values["markets_by_id"].items()}
        return ListingTables({**self.values, "markets": markets, "markets_by_id": by_id}, self.options)

    def with_vanished(self, before: "ListingTables", doubted: Collection[str]) -> "ListingTables":
        """With what `before` listed and this one does not, marked as vanished; the list before this, which was not
        believed, has lacked what was `doubted`."""
        by_id, markets = dict(self.values["markets_by_id"]), dict(self.values["markets"])
        for market in before.values["markets"].values():
            if market["id"] not in by_id:
                times = (
                    GONE_AFTER_MISSES
                    if market["id"] in doubted
                    else min(market.get(VANISHED_KEY, 0) + 1, GONE_AFTER_MISSES)
                )
                vanished = {**market, VANISHED_KEY: times}
                if times == GONE_AFTER_MISSES:
                    vanished["active"] = False
                by_id[market["id"]] = [vanished]
                markets.setdefault(market["symbol"], vanished)
        return ListingTables({**self.values, "markets": markets, "markets_by_id": by_id}, self.options)


@dataclass
class SharedListing:
    """The list of one venue at one address. Safe to share between threads.

    `open_client` makes a client without keys that this object closes again.
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
        """Gives `exchange`, whose turn it is, the newest list.

        Where there is none yet it reads it itself, so that no client waits for another's; raises ccxt's errors. Where
        it is old, a reading is begun beside.
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
        """After an answer that means that the list has changed; it waits for the new list, also for one that another
        thread is reading. Raises nothing."""
        with self._lock:
            now, readings = self.monotonic(), self._refresh_times
            is_due = readings.may_force(now)
            if is_due:
                self._refresh_times = replace(readings, forced_at=now)
        if is_due:
            self._refresh()
        else:
            with self._refresh_lock:
                return

    def refresh_for_unlisted(self) -> None:
        """For a symbol that is not listed, and may be new. Raises nothing."""
        with self._lock:
            now, readings = self.monotonic(), self._refresh_times
            if not readings.may_search(now):
                return
            self._refresh_times = replace(readings, searched_at=now)
        self._refresh()

    def refresh_for_missing(self) -> None:
        """For a symbol that the newest list alone lacks; it waits for the next list. Raises nothing."""
        with self._lock:
            now, readings = self.monotonic(), self._refresh_times
            if not readings.may_confirm(now):
                return
            self._refresh_times = replace(readings, confirmed_at=now)
        self._refresh()

    def refresh_before_entry(self) -> None:
        """Before an entry on paper; it waits for the new list, also where another asks for it. Raises nothing."""
        with self._entry_refresh_lock:
            with self._lock:
                now, readings = self.monotonic(), self._refresh_times
                if self._tables is None or not readings.may_refresh_before_entry(now):
                    return  # a client without any list reads it itself
                self._refresh_times = replace(readings, entry_refreshed_at=now)
            self._refresh_at_low_priority()

    def _refresh_when_due(self) -> None:
        with self._lock:
            now, readings = self.monotonic(), self._refresh_times
            if not readings.is_due(now):
                return
            self._refresh_times = replace(readings, attempted_at=now)
        threading.Thread(target=self._refresh_at_low_priority, name="instruments", daemon=True).start()

    def _refresh_at_low_priority(self) -> None:
        with low_priority():
            self._refresh()

    def _refresh(self) -> None:
        """Reads with a client of its own, so that no account has to wait. A failure is logged and leaves the old."""
        with self._refresh_lock:
            try:
                exchange = self.open_client()
                with closing(exchange.session), translate_errors(exchange):
                    exchange.load_markets(reload=True)
                    self._accept_tables(exchange)
            except SparkyError as error:
                logger.warning("instruments_unavailable", reason=str(error))

    def _accept_tables(self, exchange: Any) -> None:
        """What `exchange` has read. Raises UpstreamUnavailable for a list that is not believed."""
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
        known = before.listed_ids()
        missing = frozenset(known - read.listed_ids())
        if len(missing) > max(MAX_VANISHED, len(known) // 2) and missing != self._suspected_ids:
            self._suspected_ids = missing
            reason = f"its list lacks {len(missing)} of {len(known)} instruments that it had"
            raise UpstreamUnavailable("venue", reason)


class ListingRegistry:
    """The lists of this process, by what they are of."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_key: dict[Hashable, SharedListing] = {}

    def get_or_create(
        self, key: Hashable, open_client: Callable[[], Any], monotonic: Callable[[], float]
    ) -> SharedListing:
        """The one for `key`; made of the other two where there is none yet."""
        with self._lock:
            if key not in self._by_key:
                self._by_key[key] = SharedListing(open_client, monotonic)
            return self._by_key[key]


LISTINGS: Final = ListingRegistry()
