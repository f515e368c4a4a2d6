"""Candles, tickers, quotes and instruments of one venue, checked before anybody computes with them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Final, NamedTuple

from engine.booked import exact
from engine.errors import BadConfiguration, Skip, UpstreamUnavailable, VenueRefused
from engine.exchanges.backoff import Backoff
from engine.exchanges.candle_repair import Repaired, repaired
from engine.exchanges.client import TIMEOUT_S, open_exchange
from engine.exchanges.failures import translated
from engine.exchanges.families import BINANCE_SHAPED
from engine.exchanges.listing import instrument_of, market_of
from engine.exchanges.venue import Instrument, Quote
from engine.types import Candle, Frozen

BOOK_LEVELS: Final = 5
# Beyond what is asked for: the forming candle, and those that close between the two requests, which are many in a fast
# simulation. Venues weigh 101 candles as they weigh 120.
_MARGIN: Final = 20


class Ticker(Frozen):
    """The venue's 24 h ticker. `bid` and `ask` are None where it has none (Aster), as is a change it does not tell."""

    last: Decimal
    bid: Decimal | None
    ask: Decimal | None
    change_24h_percent: float | None
    at_ms: int


class Feed(NamedTuple):
    """Closed candles without a hole, oldest first, and the venue's time in ms. `filled` are the open times of candles
    that the venue did not tell (see `engine.exchanges.candle_repair`); the newest candle is never one of them."""

    candles: tuple[Candle, ...]
    now_ms: int
    filled: frozenset[int] = frozenset()


class MarketData:
    """Public data of one ccxt venue. Safe to share between threads, which then wait for each other.

    Every method raises UpstreamUnavailable("venue") when the venue cannot answer and StrategyFault for a symbol that it
    does not list. Nothing is retried but bad candles, once.
    """

    def __init__(
        self,
        venue: str,
        base_url: str | None = None,
        timeout_s: float = TIMEOUT_S,
        backoff: Backoff | None = None,
    ) -> None:
        self._exchange = open_exchange(venue, base_url, timeout_s=timeout_s, backoff=backoff)
        self._lock = threading.RLock()

    def feed(self, symbol: str, interval: str = "1m", limit: int = 100) -> Feed:
        """Up to `limit` closed candles, with holes filled.

        Raises Skip("no_data") when there is none and Skip("bad_data") when too many are faulty twice in a row.
        """
        interval_ms = self._interval_ms(interval)
        found, now_ms = self._closed(symbol, interval, interval_ms, limit)
        if found.fault is not None:
            found, now_ms = self._closed(symbol, interval, interval_ms, limit)
        if found.fault is not None:
            raise Skip("bad_data", f"{symbol} {interval}: {found.fault}")
        if not found.candles:
            raise Skip("no_data", f"{symbol} {interval}: the venue has no closed candle")
        return Feed(found.candles, now_ms, found.filled)

    def ticker(self, symbol: str) -> Ticker:
        """The 24 h ticker, in one request."""
        with self._asking():
            raw = self._exchange.fetch_ticker(market_of(self._exchange, symbol)["symbol"])
            last, bid, ask = (None if raw[name] is None else exact(raw[name]) for name in ("last", "bid", "ask"))
            at_ms, change = raw["timestamp"], raw["percentage"]
            change = None if change is None else float(change)
        if last is None or last <= 0:
            raise UpstreamUnavailable("venue", f"{symbol}: the ticker has no price")
        at_ms = int(at_ms) if at_ms is not None else self._local_ms()
        return Ticker(last=last, bid=bid, ask=ask, change_24h_percent=change, at_ms=at_ms)

    def quote(self, symbol: str) -> Quote:
        """Best bid and ask now. One request where the ticker has them, else the order book too."""
        ticker = self.ticker(symbol)
        if ticker.bid and ticker.ask:
            return Quote(bid=ticker.bid, ask=ticker.ask, last=ticker.last, at_ms=ticker.at_ms)
        with self._asking():
            book = self._exchange.fetch_order_book(market_of(self._exchange, symbol)["symbol"], BOOK_LEVELS)
            bid, ask = book["bids"][0][0], book["asks"][0][0]
        at_ms = int(book["timestamp"] or ticker.at_ms)
        return Quote(bid=exact(bid), ask=exact(ask), last=ticker.last, at_ms=at_ms)

    def instrument(self, symbol: str) -> Instrument:
        """The venue's filters; asked for once in the life of this object."""
        with self._asking():
            return instrument_of(self._exchange, symbol, market_of(self._exchange, symbol))

    def close(self) -> None:
        self._exchange.session.close()

    def _closed(self, symbol: str, interval: str, interval_ms: int, limit: int) -> tuple[Repaired, int]:
        with self._asking():
            unified = market_of(self._exchange, symbol)["symbol"]
            # The time first: a candle that closes between the two requests then counts as open, never the other way.
            now_ms = int(self._exchange.fetch_time()) if self._exchange.has["fetchTime"] else self._local_ms()
            until = {"until": now_ms} if self._exchange.id in BINANCE_SHAPED else {}  # not every venue in ccxt takes it
            rows = self._exchange.fetch_ohlcv(unified, interval, limit=limit + _MARGIN, params=until)
            if rows and all(row[0] is None for row in rows):
                raise ValueError("no row of the answer is a candle")
            return repaired(rows, interval_ms, limit, now_ms), now_ms

    def _interval_ms(self, interval: str) -> int:
        if interval not in self._exchange.timeframes:
            raise BadConfiguration(f"{self._exchange.id} has no candles of {interval!r}.")
        return int(self._exchange.parse_timeframe(interval)) * 1_000

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            with self._lock, translated(self._exchange):
                yield
        except VenueRefused as refusal:  # there is nothing to refuse in a question: the venue is not itself
            raise UpstreamUnavailable("venue", str(refusal)) from refusal

    @staticmethod
    def _local_ms() -> int:
        return time.time_ns() // 1_000_000
