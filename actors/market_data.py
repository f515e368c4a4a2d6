"""The market as all strategies see it: one fetch per (venue, symbol, interval) however many ask, with indicators."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import structlog

from actors.messages import GetSnapshot, MarketFetched, Snapshot
from actors.runtime.actor import Actor, Peers, Reply
from actors.runtime.messages import Failed, Message
from engine.deciding.freshness import VenueClock, fresh_until, interval_ms, is_old_price, is_too_old
from engine.deciding.indicators import compute
from engine.domain.errors import StrategyFault
from engine.domain.market import MarketSnapshot
from engine.platform.errors import Skip, UpstreamUnavailable
from engine.platform.settings.settings import Settings
from engine.venues.market_data.client import Feed, MarketData
from engine.venues.market_data.funding import FundingState
from engine.venues.venue import Ticker

logger = structlog.get_logger()

CANDLES: Final = 100
SHOWN: Final = 10
_THREADS: Final = 4
_RETRY_S: Final = 1.0
_NEW_S: Final = 1.0
_PERCENT: Final = 100
_MINUTE_MS: Final = 60_000
_LONGEST_RETRY_S: Final = 3_600.0
_UNKNOWN_SYMBOL_S: Final = 30.0
_FORGOTTEN_S: Final = 3_600.0
_PRICED_INTERVAL: Final = "1m"


class Key(NamedTuple):
    venue: str
    symbol: str
    interval: str


class Data(Protocol):
    """What is needed of `engine.venues.market_data.client.MarketData`."""

    def feed(self, symbol: str, interval: str = "1m", limit: int = 100) -> Feed: ...

    def ticker(self, symbol: str) -> Ticker: ...

    def funding(self, symbol: str) -> FundingState | None: ...

    def close(self) -> None: ...


class Failure(NamedTuple):
    """Why there is no data, and until when (monotonic) not to ask again."""

    kind: str
    reason: str
    until: float
    retry_after_s: float | None = None


class Read(NamedTuple):
    """A snapshot and the monotonic time at which its candles were read."""

    snapshot: MarketSnapshot
    at: float


class Fetched(NamedTuple):
    """From a fetching thread to the actor: never leaves the process."""

    key: Key
    result: Read | Failure
    duration_s: float


@dataclass
class Line:
    """All that is known of one key."""

    read: Read | None = None
    fresh_until: float = 0.0
    failure: Failure | None = None
    is_fetching: bool = False
    asked_at: float = 0.0
    waiting: list[Reply] = field(default_factory=list)


class Market(Actor):
    """Replies to `GetSnapshot` from memory while it is fresh, else when the one fetch under way is done."""

    def __init__(self, settings: Settings, peers: Peers) -> None:
        super().__init__()
        self._peers = peers
        self._url = settings.sparky_market_url
        self._url_venue = settings.sparky_market
        self._lines: dict[Key, Line] = {}
        self._clocks: dict[str, VenueClock] = {}
        self._refused: dict[str, Failure] = {}
        self._with_holes: set[Key] = set()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="fetch")
        self._local = threading.local()
        self._clients: list[Data] = []

    def tick(self, now: float) -> float:
        for key in [key for key, line in self._lines.items() if now - line.asked_at > _FORGOTTEN_S]:
            if not self._lines[key].is_fetching:
                del self._lines[key]
        return now + self.tick_every_s

    def receive(self, message: Message | Fetched) -> Message | Reply | None:
        if isinstance(message, GetSnapshot):
            return self._ask(Key(message.venue, message.symbol, message.interval))
        if isinstance(message, Fetched):
            self._arrived(message)
            return None
        return super().receive(message)

    def close(self, grace_s: float) -> None:  # noqa: ARG002 - a fetch is nothing that needs finishing
        self._pool.shutdown(wait=False, cancel_futures=True)

    def on_stop(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        for client in self._clients:
            client.close()

    def _ask(self, key: Key) -> Message | Reply:
        now = time.monotonic()
        line = self._lines.setdefault(key, Line())
        line.asked_at = now
        refused = self._refused.get(key.venue)
        if refused and now < refused.until and now >= line.fresh_until:
            line.failure = refused
        if not line.is_fetching and (now < line.fresh_until or (line.failure and now < line.failure.until)):
            return self._known(key, line, now)
        reply = Reply()
        line.waiting.append(reply)
        if not line.is_fetching:
            line.is_fetching = True
            self._pool.submit(self._fetch, key)
        return reply

    def _arrived(self, fetched: Fetched) -> None:
        line = self._lines[fetched.key]
        line.is_fetching = False
        if isinstance(fetched.result, Read):
            snapshot, at = fetched.result
            clock = self._clocks.setdefault(fetched.key.venue, VenueClock())
            clock.read(snapshot.as_of_ms, at)
            line.fresh_until = fresh_until(snapshot, at, clock.speed)
            line.read, line.failure = fetched.result, None
            self._note_holes(fetched.key, snapshot.filled_count)
        else:
            line.failure = fetched.result
            if fetched.result.retry_after_s is not None:  # 418 and 429 are meant for the address, not for the symbol
                self._refused[fetched.key.venue] = fetched.result
        waiting, line.waiting = line.waiting, []
        now = time.monotonic()
        for reply in waiting:
            reply.set(self._known(fetched.key, line, now))
        self._tell(fetched)

    def _note_holes(self, key: Key, filled: int) -> None:
        """Logs when holes appear among the candles of a key, and when there are none any more."""
        if filled and key not in self._with_holes:
            logger.warning("candles_filled", venue=key.venue, symbol=key.symbol, interval=key.interval, filled=filled)
            self._with_holes.add(key)
        elif not filled and key in self._with_holes:
            logger.info("candles_whole", venue=key.venue, symbol=key.symbol, interval=key.interval)
            self._with_holes.discard(key)

    def _known(self, key: Key, line: Line, now: float) -> Message:
        """The last known data with its age, unless it is too old; then why there is none."""
        if line.read is not None:
            snapshot, at = line.read
            venue_now_ms = self._clocks[key.venue].at(now)
            # At a great speed several candles pass while the answer travels; what is this new is not old.
            if not is_too_old(snapshot, snapshot.as_of_ms if now - at < _NEW_S else venue_now_ms):
                age_s = max(0.0, (venue_now_ms - snapshot.as_of_ms) / 1_000)
                return Snapshot(snapshot=snapshot.model_copy(update={"age_s": age_s}))
        failure = line.failure
        if failure is None:
            return Failed(kind="no_data", reason=f"{key.symbol}: the venue's last candle is too old")
        kind = failure.kind if failure.kind == "unknown_symbol" else "no_data"
        return Failed(kind=kind, reason=failure.reason)

    def _fetch(self, key: Key) -> None:
        """On a thread of the pool; whatever happens, the actor hears of it."""
        start = time.monotonic()
        result = self._result(key)
        now = time.monotonic()
        self.actor_ref.tell(Fetched(key, result, now - start))

    def _result(self, key: Key) -> Read | Failure:
        try:
            return _read(key, self._data(key.venue))
        except StrategyFault as error:
            return Failure("unknown_symbol", str(error), time.monotonic() + _UNKNOWN_SYMBOL_S)
        except Skip as error:
            return Failure(error.kind, str(error), time.monotonic() + _RETRY_S)
        except UpstreamUnavailable as error:
            wait_s = min(max(error.retry_after_s or 0.0, _RETRY_S), _LONGEST_RETRY_S)
            return Failure("unavailable", str(error), time.monotonic() + wait_s, error.retry_after_s)
        except Exception as error:  # a thread's boundary: those who wait must hear that it failed
            logger.exception("fetch_failed", venue=key.venue, symbol=key.symbol)
            return Failure("error", f"{type(error).__name__}: {error}", time.monotonic() + _RETRY_S)

    def _data(self, venue: str) -> Data:
        """One client per thread and venue: a client lets only one request through at a time."""
        clients: dict[str, Data] = self._local.__dict__.setdefault("clients", {})
        if venue not in clients:
            clients[venue] = MarketData(venue, self._url if venue == self._url_venue else None)
            self._clients.append(clients[venue])
        return clients[venue]

    def _tell(self, fetched: Fetched) -> None:
        key = fetched.key
        outcome = "ok" if isinstance(fetched.result, Read) else fetched.result.kind
        event = MarketFetched(
            venue=key.venue, symbol=key.symbol, interval=key.interval, outcome=outcome, duration_s=fetched.duration_s
        )
        self._peers.tell("monitor", event)


def _read(key: Key, data: Data) -> Read:
    interval_ms(key.interval)
    feed = data.feed(key.symbol, key.interval, CANDLES)
    at = time.monotonic()
    # Only the shortest candles need the price of now; the last close says enough about longer ones.
    ticker = data.ticker(key.symbol) if key.interval == _PRICED_INTERVAL else None
    funding = _funding(key.symbol, data) if ticker else None
    if ticker is not None and is_old_price(ticker.at_ms, key.interval, feed.now_ms):
        ticker = None  # the last close is newer
    shown = feed.candles[-SHOWN:]
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
    return Read(snapshot, at)


def _funding(symbol: str, data: Data) -> FundingState | None:
    """None where it cannot be told: no decision waits for it."""
    try:
        return data.funding(symbol)
    except (StrategyFault, UpstreamUnavailable) as error:
        logger.info("no_funding_rate", symbol=symbol, reason=str(error))
        return None


def make(settings: Settings, peers: Peers, argument: str) -> Market:  # noqa: ARG001 - there is one market
    return Market(settings, peers)
