"""Market data for all strategies: one fetch per (venue, symbol, interval) however many ask, with indicators."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import structlog

from actors.messages import GetSnapshot, MarketFetched, Snapshot
from actors.runtime.actor import Actor, Peers, ReplyFuture
from actors.runtime.messages import ErrorReply, Message
from engine.deciding.freshness import VenueClock, compute_fresh_until, get_interval_ms, is_old_price, is_too_old
from engine.deciding.indicators import compute
from engine.domain.errors import StrategyFault
from engine.domain.market import MarketSnapshot
from engine.platform.errors import CycleSkipped, SkipKind, UpstreamUnavailable
from engine.platform.settings.component_settings import MarketDataSettings
from engine.venues.market_data.client import CandleSeries, MarketData
from engine.venues.market_data.funding import FundingState
from engine.venues.quotes import Ticker

logger = structlog.get_logger()

FETCHED_CANDLES: Final = 100
SNAPSHOT_CANDLES: Final = 10
_THREADS: Final = 4
_RETRY_S: Final = 1.0
_JUST_FETCHED_S: Final = 1.0  # a snapshot this new is used whatever the venue's clock says
_PERCENT: Final = 100
_MINUTE_MS: Final = 60_000
_MAX_RETRY_S: Final = 3_600.0
_UNKNOWN_SYMBOL_RETRY_S: Final = 30.0
_EVICT_AFTER_S: Final = 3_600.0  # since the last ask for the key
_TICKER_INTERVAL: Final = "1m"


class SeriesKey(NamedTuple):
    venue: str
    symbol: str
    interval: str


class MarketDataClient(Protocol):
    """The part of `engine.venues.market_data.client.MarketData` that is used here."""

    def fetch_candles(self, symbol: str, interval: str = "1m", limit: int = 100) -> CandleSeries: ...

    def fetch_ticker(self, symbol: str) -> Ticker: ...

    def fetch_funding(self, symbol: str) -> FundingState | None: ...

    def close(self) -> None: ...


class FetchFailure(NamedTuple):
    """Why there is no data; `until` (monotonic seconds) it is not fetched again."""

    kind: str
    reason: str
    until: float
    retry_after_s: float | None = None


class CachedSnapshot(NamedTuple):
    """A snapshot and the monotonic time at which its candles were read."""

    snapshot: MarketSnapshot
    at: float


class FetchCompleted(NamedTuple):
    """From a fetching thread to the actor; it stays in this process."""

    key: SeriesKey
    result: CachedSnapshot | FetchFailure
    duration_s: float


@dataclass
class CacheEntry:
    """State of one key. Times are monotonic seconds; `waiting` are replies for the fetch under way."""

    cached: CachedSnapshot | None = None
    compute_fresh_until: float = 0.0
    failure: FetchFailure | None = None
    is_fetching: bool = False
    requested_at: float = 0.0
    waiting: list[ReplyFuture] = field(default_factory=list)


class MarketDataActor(Actor):
    """Replies to `GetSnapshot` from its cache while that is fresh, else when the fetch under way has ended."""

    def __init__(self, settings: MarketDataSettings, peers: Peers) -> None:
        super().__init__()
        self._peers = peers
        self._url = settings.sparky_market_url
        self._url_venue = settings.sparky_market
        self._cache: dict[SeriesKey, CacheEntry] = {}
        self._clocks: dict[str, VenueClock] = {}
        self._venue_refusals: dict[str, FetchFailure] = {}
        self._series_with_gaps: set[SeriesKey] = set()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="market-fetch")
        self._local = threading.local()
        self._clients: list[MarketDataClient] = []

    def tick(self, now: float) -> float:
        for key in [key for key, line in self._cache.items() if now - line.requested_at > _EVICT_AFTER_S]:
            if not self._cache[key].is_fetching:
                del self._cache[key]
        return now + self.tick_every_s

    def receive(self, message: Message | FetchCompleted) -> Message | ReplyFuture | None:
        if isinstance(message, GetSnapshot):
            return self._get_or_fetch(SeriesKey(message.venue, message.symbol, message.interval))
        if isinstance(message, FetchCompleted):
            self._handle_fetched(message)
            return None
        return super().receive(message)

    def close(self, grace_s: float) -> None:  # noqa: ARG002 - an unfinished fetch loses nothing
        self._pool.shutdown(wait=False, cancel_futures=True)

    def on_stop(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        for client in self._clients:
            client.close()

    def _get_or_fetch(self, key: SeriesKey) -> Message | ReplyFuture:
        now = time.monotonic()
        entry = self._cache.setdefault(key, CacheEntry())
        entry.requested_at = now
        refused = self._venue_refusals.get(key.venue)
        if refused and now < refused.until and now >= entry.compute_fresh_until:
            entry.failure = refused
        if not entry.is_fetching and (now < entry.compute_fresh_until or (entry.failure and now < entry.failure.until)):
            return self._reply_from_cache(key, entry, now)
        reply = ReplyFuture()
        entry.waiting.append(reply)
        if not entry.is_fetching:
            entry.is_fetching = True
            self._pool.submit(self._fetch, key)
        return reply

    def _handle_fetched(self, fetched: FetchCompleted) -> None:
        entry = self._cache[fetched.key]
        entry.is_fetching = False
        if isinstance(fetched.result, CachedSnapshot):
            snapshot, at = fetched.result
            clock = self._clocks.setdefault(fetched.key.venue, VenueClock())
            clock.add_sample(snapshot.as_of_ms, at)
            entry.compute_fresh_until = compute_fresh_until(snapshot, at, clock.speed)
            entry.cached, entry.failure = fetched.result, None
            self._log_gaps(fetched.key, snapshot.filled_count)
        else:
            entry.failure = fetched.result
            if fetched.result.retry_after_s is not None:  # 418 and 429 concern this host's address, not the symbol
                self._venue_refusals[fetched.key.venue] = fetched.result
        waiting, entry.waiting = entry.waiting, []
        now = time.monotonic()
        for reply in waiting:
            reply.set(self._reply_from_cache(fetched.key, entry, now))
        self._report_fetch(fetched)

    def _log_gaps(self, key: SeriesKey, filled: int) -> None:
        """Logs when holes appear among the candles of a key, and when there are none any more."""
        if filled and key not in self._series_with_gaps:
            logger.warning(
                "candle_gaps_filled", venue=key.venue, symbol=key.symbol, interval=key.interval, filled=filled
            )
            self._series_with_gaps.add(key)
        elif not filled and key in self._series_with_gaps:
            logger.info("candle_gaps_closed", venue=key.venue, symbol=key.symbol, interval=key.interval)
            self._series_with_gaps.discard(key)

    def _reply_from_cache(self, key: SeriesKey, entry: CacheEntry, now: float) -> Message:
        """The cached snapshot with its age; an `ErrorReply` if there is none, or if it is too old."""
        if entry.cached is not None:
            snapshot, at = entry.cached
            venue_now_ms = self._clocks[key.venue].estimate_ms(now)
            # With a simulated market at high speed several candles may pass while the response travels.
            if not is_too_old(snapshot, snapshot.as_of_ms if now - at < _JUST_FETCHED_S else venue_now_ms):
                age_s = max(0.0, (venue_now_ms - snapshot.as_of_ms) / 1_000)
                return Snapshot(snapshot=snapshot.model_copy(update={"age_s": age_s}))
        failure = entry.failure
        if failure is None:
            return ErrorReply(kind=SkipKind.NO_DATA, reason=f"{key.symbol}: the venue's last candle is too old")
        kind = SkipKind.UNKNOWN_SYMBOL if failure.kind == SkipKind.UNKNOWN_SYMBOL else SkipKind.NO_DATA
        wait_s = None if failure.retry_after_s is None else max(0.0, failure.until - now)
        return ErrorReply(kind=kind, reason=failure.reason, retry_after_s=wait_s)

    def _fetch(self, key: SeriesKey) -> None:
        """Runs on a thread of the pool, and sends the actor the result or the failure."""
        start = time.monotonic()
        result = self._fetch_or_failure(key)
        now = time.monotonic()
        self.actor_ref.tell(FetchCompleted(key, result, now - start))

    def _fetch_or_failure(self, key: SeriesKey) -> CachedSnapshot | FetchFailure:
        try:
            return _fetch_snapshot(key, self._get_client(key.venue))
        except StrategyFault as error:
            return FetchFailure(SkipKind.UNKNOWN_SYMBOL, str(error), time.monotonic() + _UNKNOWN_SYMBOL_RETRY_S)
        except CycleSkipped as error:
            return FetchFailure(error.kind, str(error), time.monotonic() + _RETRY_S)
        except UpstreamUnavailable as error:
            wait_s = min(max(error.retry_after_s or 0.0, _RETRY_S), _MAX_RETRY_S)
            return FetchFailure("unavailable", str(error), time.monotonic() + wait_s, error.retry_after_s)
        except Exception as error:  # the boundary of a thread: waiting asks need a reply
            logger.exception("fetch_failed", venue=key.venue, symbol=key.symbol)
            return FetchFailure("error", f"{type(error).__name__}: {error}", time.monotonic() + _RETRY_S)

    def _get_client(self, venue: str) -> MarketDataClient:
        """One client per thread and venue: a client lets only one request through at a time."""
        clients: dict[str, MarketDataClient] = self._local.__dict__.setdefault("clients", {})
        if venue not in clients:
            clients[venue] = MarketData(venue, self._url if venue == self._url_venue else None)
            self._clients.append(clients[venue])
        return clients[venue]

    def _report_fetch(self, fetched: FetchCompleted) -> None:
        key = fetched.key
        outcome = "ok" if isinstance(fetched.result, CachedSnapshot) else fetched.result.kind
        event = MarketFetched(
            venue=key.venue, symbol=key.symbol, interval=key.interval, outcome=outcome, duration_s=fetched.duration_s
        )
        self._peers.tell("monitor", event)


def _fetch_snapshot(key: SeriesKey, client: MarketDataClient) -> CachedSnapshot:
    get_interval_ms(key.interval)
    feed = client.fetch_candles(key.symbol, key.interval, FETCHED_CANDLES)
    at = time.monotonic()
    # Only for the shortest interval a separate price is fetched; for longer ones the last close is close enough.
    ticker = client.fetch_ticker(key.symbol) if key.interval == _TICKER_INTERVAL else None
    funding = _fetch_funding(key.symbol, client) if ticker else None
    if ticker is not None and is_old_price(ticker.at_ms, key.interval, feed.now_ms):
        ticker = None  # the last close is newer
    shown = feed.candles[-SNAPSHOT_CANDLES:]
    snapshot = MarketSnapshot(
        venue=key.venue,
        symbol=key.symbol,
        interval=key.interval,
        as_of_ms=feed.now_ms,
        last_price=float(ticker.last) if ticker else shown[-1].close,
        change_24h_percent=ticker.change_24h_percent if ticker else None,
        candles=shown,
        filled=tuple(candle.open_time_ms for candle in shown if candle.open_time_ms in feed.filled),
        filled_count=len(feed.filled),
        indicators=compute(feed.candles),
        funding_rate_percent=None if funding is None or funding.rate is None else float(funding.rate) * _PERCENT,
        next_funding_minutes=None if funding is None else (funding.next_ms - funding.at_ms) // _MINUTE_MS,
    )
    return CachedSnapshot(snapshot, at)


def _fetch_funding(symbol: str, client: MarketDataClient) -> FundingState | None:
    """None if it cannot be read: a snapshot is complete without it."""
    try:
        return client.fetch_funding(symbol)
    except (StrategyFault, UpstreamUnavailable) as error:
        logger.info("funding_rate_unavailable", symbol=symbol, reason=str(error))
        return None


def make(settings: MarketDataSettings, peers: Peers, argument: str) -> MarketDataActor:  # noqa: ARG001 - there is one market
    return MarketDataActor(settings, peers)
