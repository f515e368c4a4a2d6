"""Candles, tickers, quotes and instruments of one venue, checked before anybody computes with them."""

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final

from engine.booked import exact
from engine.errors import BadConfiguration, Skip, SparkyError, UpstreamUnavailable, VenueRefused
from engine.exchanges.backoff import Backoff
from engine.exchanges.client import TIMEOUT_S, open_exchange
from engine.exchanges.failures import means_other_listing, translated
from engine.exchanges.families import BINANCE_SHAPED
from engine.exchanges.listing import find_market, instrument_of, listed_market, market_of
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


def candle_fault(candles: Sequence[Candle], interval_ms: int) -> str | None:
    """What is wrong with `candles` (oldest first), or None: a number that is none, a price that is not positive, a high
    below a low, or times that do not go on by exactly `interval_ms` (a gap, a repetition, an order out of step)."""
    for index, candle in enumerate(candles):
        fault = _own_fault(candle) or (_step_fault(candles[index - 1], candle, interval_ms) if index else None)
        if fault is not None:
            return f"candle of {candle.open_time_ms}: {fault}"
    return None


def _own_fault(candle: Candle) -> str | None:
    prices = (candle.open, candle.high, candle.low, candle.close)
    if any(value is None or not math.isfinite(value) for value in (*prices, candle.volume)):
        return "not a number"
    if min(prices) <= 0 or candle.volume < 0:
        return "a price that is not positive or a negative volume"
    if candle.high < max(prices) or candle.low > min(prices):
        return "the high is not the highest or the low not the lowest"
    return None


def _step_fault(before: Candle, candle: Candle, interval_ms: int) -> str | None:
    step = candle.open_time_ms - before.open_time_ms
    if step == interval_ms:
        return None
    return "repeated" if step == 0 else "out of order" if step < 0 else f"a gap of {step} ms before it"


def _candle(row: Sequence[Any]) -> Candle:
    return Candle(int(row[0]), *map(_float, row[1:]))


def _float(value: Any) -> Any:
    """What is not told stays None, which `candle_fault` finds."""
    return None if value is None else float(value)


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

    def candles(self, symbol: str, interval: str = "1m", limit: int = 100) -> tuple[list[Candle], int]:
        """Up to `limit` closed candles, oldest first, and the venue's time in ms.

        Raises Skip("no_data") when there is none and Skip("bad_data") when they are faulty twice in a row.
        """
        interval_ms = self._interval_ms(interval)
        closed, now_ms = self._closed(symbol, interval, interval_ms, limit)
        fault = candle_fault(closed, interval_ms)
        if fault is not None:
            closed, now_ms = self._closed(symbol, interval, interval_ms, limit)
            fault = candle_fault(closed, interval_ms)
        if fault is not None:
            raise Skip("bad_data", f"{symbol} {interval}: {fault}")
        if not closed:
            raise Skip("no_data", f"{symbol} {interval}: the venue has no closed candle")
        return closed, now_ms

    def ticker(self, symbol: str) -> Ticker:
        """The 24 h ticker, in one request."""
        self._search_for(symbol)
        with self._asking():
            raw = self._exchange.fetch_ticker(listed_market(self._exchange, symbol)["symbol"])
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
            book = self._exchange.fetch_order_book(listed_market(self._exchange, symbol)["symbol"], BOOK_LEVELS)
            bid, ask = book["bids"][0][0], book["asks"][0][0]
        at_ms = int(book["timestamp"] or ticker.at_ms)
        return Quote(bid=exact(bid), ask=exact(ask), last=ticker.last, at_ms=at_ms)

    def instrument(self, symbol: str) -> Instrument:
        """The venue's filters; of a symbol that vanished from its list the last ones, with the status GONE."""
        self._search_for(symbol)
        with self._asking():
            return instrument_of(self._exchange, symbol, market_of(self._exchange, symbol))

    def close(self) -> None:
        self._exchange.session.close()

    def _closed(self, symbol: str, interval: str, interval_ms: int, limit: int) -> tuple[list[Candle], int]:
        self._search_for(symbol)
        with self._asking():
            unified = listed_market(self._exchange, symbol)["symbol"]
            # The time first: a candle that closes between the two requests then counts as open, never the other way.
            now_ms = int(self._exchange.fetch_time()) if self._exchange.has["fetchTime"] else self._local_ms()
            until = {"until": now_ms} if self._exchange.id in BINANCE_SHAPED else {}  # not every venue in ccxt takes it
            rows = self._exchange.fetch_ohlcv(unified, interval, limit=limit + _MARGIN, params=until)
            closed = [_candle(row) for row in rows if row[0] + interval_ms <= now_ms]
        return closed[-limit:], now_ms

    def _search_for(self, symbol: str) -> None:
        """A symbol that is not listed may be new, and one that is not traded may be traded again."""
        with self._asking():
            found = find_market(self._exchange, symbol)
        if found is None or found.get("active") is False:
            self._exchange.listing.search()

    def _interval_ms(self, interval: str) -> int:
        if interval not in self._exchange.timeframes:
            raise BadConfiguration(f"{self._exchange.id} has no candles of {interval!r}.")
        return int(self._exchange.parse_timeframe(interval)) * 1_000

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            with self._lock, translated(self._exchange):
                yield
        except SparkyError as error:
            if means_other_listing(error):
                self._exchange.listing.read_at_once()
            if isinstance(error, VenueRefused):  # there is nothing to refuse in a question: the venue is not itself
                raise UpstreamUnavailable("venue", str(error)) from error
            raise

    @staticmethod
    def _local_ms() -> int:
        return time.time_ns() // 1_000_000
