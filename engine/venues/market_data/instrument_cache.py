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
from engine.venues.ccxt_client.errors import translated
from engine.venues.ccxt_client.request_weight import leaving_room
from engine.venues.market_data.instruments import GONE_AFTER, VANISHED, with_steps

logger = structlog.get_logger()

HOUR_S: Final = 3_600.0
JITTER: Final = 0.1  # of the hour, either way, so that processes do not all ask at once
RETRY_S: Final = 60.0  # after a list that could not be read
AT_ONCE_S: Final = 3.0  # between two readings that an answer of the venue's asked for
SEARCH_S: Final = 60.0  # between two readings for a symbol that is not listed
RENEW_S: Final = 60.0  # how old a list may be before an entry on paper
# Where more instruments than these and than half of all vanish at once, the list is believed when it is read again.
FEW: Final = 3
TABLES: Final = (
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
HELPERS: Final = "marketHelperProps"  # ccxt's option: names of more options that come with the markets
VERSION: Final = "listingVersion"  # our option: which list the client has


@dataclass(frozen=True)
class Readings:
    """When the list was read and for what, in monotonic seconds; every method is pure.

    `hour_s` is how long a list is good. `tried_at` is the last reading every hour that was begun, `renewed_at` the last
    one before an entry on paper.
    """

    hour_s: float = HOUR_S
    read_at: float = -math.inf
    tried_at: float = -math.inf
    at_once_at: float = -math.inf
    searched_at: float = -math.inf
    confirmed_at: float = -math.inf
    renewed_at: float = -math.inf

    def is_due(self, now: float) -> bool:
        return now - self.read_at >= self.hour_s and now - self.tried_at >= RETRY_S

    def may_read_at_once(self, now: float) -> bool:
        return now - self.at_once_at >= AT_ONCE_S

    def may_confirm(self, now: float) -> bool:
        return now - self.confirmed_at >= AT_ONCE_S

    def may_search(self, now: float) -> bool:
        return now - self.searched_at >= SEARCH_S

    def may_renew(self, now: float) -> bool:
        return now - max(self.read_at, self.renewed_at) >= RENEW_S


@dataclass(frozen=True)
class Tables:
    """ccxt's markets and currencies as one client has read them; nobody changes them in place."""

    values: Mapping[str, Any]
    options: Mapping[str, Any]

    @classmethod
    def of(cls, exchange: Any) -> "Tables":
        helpers = {name: exchange.options.get(name) for name in exchange.options.get(HELPERS) or ()}
        return cls({name: getattr(exchange, name) for name in TABLES}, helpers)

    def give(self, exchange: Any) -> None:
        for name, value in self.values.items():
            setattr(exchange, name, value)
        exchange.options.update(self.options)

    def names(self) -> set[str]:
        """Ids of what is listed now."""
        return {market["id"] for market in self.values["markets"].values() if not market.get(VANISHED)}

    def with_steps(self, exchange: Any, before: "Tables | None") -> "Tables":
        """With a tick and a step of quantities for every market; of `before` where this one has none."""
        known = {} if before is None else before.values["markets"]

        def mended(market: dict[str, Any]) -> dict[str, Any]:
            return with_steps(exchange, market, known.get(market["symbol"]))

        markets = {name: mended(each) for name, each in self.values["markets"].items()}
        by_id = {name: [mended(each) for each in same] for name, same in self.values["markets_by_id"].items()}
        return Tables({**self.values, "markets": markets, "markets_by_id": by_id}, self.options)

    def with_vanished(self, before: "Tables", doubted: Collection[str]) -> "Tables":
        """With what `before` listed and this one does not, marked as vanished; the list before this, which was not
        believed, has lacked what was `doubted`."""
        by_id, markets = dict(self.values["markets_by_id"]), dict(self.values["markets"])
        for market in before.values["markets"].values():
            if market["id"] not in by_id:
                times = GONE_AFTER if market["id"] in doubted else min(market.get(VANISHED, 0) + 1, GONE_AFTER)
                vanished = {**market, VANISHED: times}
                if times == GONE_AFTER:
                    vanished["active"] = False
                by_id[market["id"]] = [vanished]
                markets.setdefault(market["symbol"], vanished)
        return Tables({**self.values, "markets": markets, "markets_by_id": by_id}, self.options)


@dataclass
class SharedListing:
    """The list of one venue at one address. Safe to share between threads.

    `open_client` makes a client without keys that this object closes again.
    """

    open_client: Callable[[], Any]
    monotonic: Callable[[], float] = time.monotonic
    spread: Callable[[float, float], float] = random.uniform
    _tables: Tables | None = None
    _version: int = 0
    _doubted: frozenset[str] = frozenset()
    _readings: Readings = field(default_factory=Readings)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _reading: threading.Lock = field(default_factory=threading.Lock)
    _renewing: threading.Lock = field(default_factory=threading.Lock)

    def bring(self, exchange: Any) -> None:
        """Gives `exchange`, whose turn it is, the newest list.

        Where there is none yet it reads it itself, so that no client waits for another's; raises ccxt's errors. Where
        it is old, a reading is begun beside.
        """
        if self._tables is None:
            exchange.load_markets(reload=True)
            self._keep(exchange)
        with self._lock:
            tables, version = self._tables, self._version
        if tables is not None and exchange.options.get(VERSION) != version:
            tables.give(exchange)
            exchange.options[VERSION] = version
        self._read_when_due()

    def read_at_once(self) -> None:
        """After an answer that means that the list has changed; it waits for the new list, also for one that another
        thread is reading. Raises nothing."""
        with self._lock:
            now, readings = self.monotonic(), self._readings
            is_due = readings.may_read_at_once(now)
            if is_due:
                self._readings = replace(readings, at_once_at=now)
        if is_due:
            self._read()
        else:
            with self._reading:
                return

    def search(self) -> None:
        """For a symbol that is not listed, and may be new. Raises nothing."""
        with self._lock:
            now, readings = self.monotonic(), self._readings
            if not readings.may_search(now):
                return
            self._readings = replace(readings, searched_at=now)
        self._read()

    def confirm(self) -> None:
        """For a symbol that the newest list alone lacks; it waits for the next list. Raises nothing."""
        with self._lock:
            now, readings = self.monotonic(), self._readings
            if not readings.may_confirm(now):
                return
            self._readings = replace(readings, confirmed_at=now)
        self._read()

    def renew(self) -> None:
        """Before an entry on paper; it waits for the new list, also where another asks for it. Raises nothing."""
        with self._renewing:
            with self._lock:
                now, readings = self.monotonic(), self._readings
                if self._tables is None or not readings.may_renew(now):
                    return  # a client without any list reads it itself
                self._readings = replace(readings, renewed_at=now)
            self._read_patiently()

    def _read_when_due(self) -> None:
        with self._lock:
            now, readings = self.monotonic(), self._readings
            if not readings.is_due(now):
                return
            self._readings = replace(readings, tried_at=now)
        threading.Thread(target=self._read_patiently, name="instruments", daemon=True).start()

    def _read_patiently(self) -> None:
        with leaving_room():
            self._read()

    def _read(self) -> None:
        """Reads with a client of its own, so that no account has to wait. A failure is logged and leaves the old."""
        with self._reading:
            try:
                exchange = self.open_client()
                with closing(exchange.session), translated(exchange):
                    exchange.load_markets(reload=True)
                    self._keep(exchange)
            except SparkyError as error:
                logger.warning("instruments_not_read", reason=str(error))

    def _keep(self, exchange: Any) -> None:
        """What `exchange` has read. Raises UpstreamUnavailable for a list that is not believed."""
        with self._lock:
            before = self._tables
            read = Tables.of(exchange).with_steps(exchange, before)
            if before is not None:
                self._check_whole(before, read)
                read = read.with_vanished(before, self._doubted)
            self._doubted = frozenset()
            self._tables, self._version = read, self._version + 1
            hour_s = HOUR_S * (1 + self.spread(-JITTER, JITTER))
            self._readings = replace(self._readings, read_at=self.monotonic(), hour_s=hour_s)

    def _check_whole(self, before: Tables, read: Tables) -> None:
        known = before.names()
        missing = frozenset(known - read.names())
        if len(missing) > max(FEW, len(known) // 2) and missing != self._doubted:
            self._doubted = missing
            reason = f"its list lacks {len(missing)} of {len(known)} instruments that it had"
            raise UpstreamUnavailable("venue", reason)


class Listings:
    """The lists of this process, by what they are of."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Hashable, SharedListing] = {}

    def of(self, key: Hashable, open_client: Callable[[], Any], monotonic: Callable[[], float]) -> SharedListing:
        """The one for `key`; made of the other two where there is none yet."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = SharedListing(open_client, monotonic)
            return self._kept[key]


LISTINGS: Final = Listings()
