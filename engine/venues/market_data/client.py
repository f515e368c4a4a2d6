"""Candles, tickers, quotes and instruments of one venue, checked before anybody computes with them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from engine.domain.decimals import exact
from engine.domain.errors import VenueRefused
from engine.domain.market import Candle
from engine.platform.errors import BadConfiguration, Skip, SparkyError, UpstreamUnavailable
from engine.venues.ccxt_client.client import TIMEOUT_S, open_exchange
from engine.venues.ccxt_client.errors import means_other_listing, translated
from engine.venues.ccxt_client.request_weight import Backoff
from engine.venues.ccxt_client.venue_classes import BINANCE_SHAPED
from engine.venues.market_data.candle_repair import Repaired, repaired
from engine.venues.market_data.funding import FundingState, state_told
from engine.venues.market_data.instruments import (
    find_market,
    instrument_of,
    listed_market,
    market_of,
    read_again_for,
)
from engine.venues.market_data.order_book_parser import levels_of, mark_of
from engine.venues.order_book import MarkPrice, OrderBook
from engine.venues.venue import BOOK_LEVELS, Instrument, Quote, Ticker

# Beyond what is asked for: the forming candle, and those that close between the two requests, which are many in a fast
# simulation. Venues weigh 101 candles as they weigh 120.
_MARGIN: Final = 20


class Feed(NamedTuple):
    """Closed candles without a hole, oldest first, and the venue's time in ms. `filled` are the open times of candles
    that the venue did not tell (see `engine.venues.market_data.candle_repair`); the newest candle is never one of
    them."""

    candles: tuple[Candle, ...]
    now_ms: int
    filled: frozenset[int] = frozenset()


class MarketData:
    """Public data of one ccxt venue. Safe to share between threads, which then wait for each other.

    Every method raises UpstreamUnavailable("venue") when the venue cannot answer and StrategyFault for a symbol that it
    does not list. Nothing is retried but candles that are all bad, once.
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

        Raises Skip("no_data") when there is none and Skip("bad_data") when all are faulty twice in a row.
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

    def funding(self, symbol: str) -> FundingState | None:
        """What is due next, at a weight of 1; None at a venue that does not tell."""
        if not self._exchange.has.get("fetchFundingRate"):
            return None
        with self._asking():
            told = self._exchange.fetch_funding_rate(listed_market(self._exchange, symbol)["symbol"])
            return state_told(told, self._local_ms())

    def mark(self, symbol: str) -> MarkPrice | None:
        """The mark price, at a weight of 2; None at a venue of another shape than Binance's."""
        if self._exchange.id not in BINANCE_SHAPED:
            return None
        with self._asking():
            market = market_of(self._exchange, symbol)
            clock_ms = int(self._exchange.fetch_time())
            price, at_ms = mark_of(self._exchange, market)
            return MarkPrice(price=price, at_ms=at_ms, clock_ms=clock_ms)

    def quote(self, symbol: str) -> Quote:
        """The last price of the ticker, and the best bid and ask of the order book: a ticker's may be old, none or 0.

        Where the book has a fault, the ticker's, if they have none. Two requests.
        """
        ticker, book = self.ticker(symbol), self.order_book(symbol)
        at_ms = ticker.at_ms if book.at_ms is None else book.at_ms
        if book.fault is None:
            bid, ask = book.bids[0].price, book.asks[0].price
            return Quote(bid=bid, ask=ask, last=ticker.last, at_ms=at_ms)
        if ticker.bid and ticker.ask and 0 < ticker.bid < ticker.ask:
            return Quote(bid=ticker.bid, ask=ticker.ask, last=ticker.last, at_ms=ticker.at_ms)
        raise UpstreamUnavailable("venue", f"{symbol}: {book.fault}")

    def order_book(self, symbol: str) -> OrderBook:
        """The book alone, in one request; a side may be empty."""
        with self._asking():
            return self._book(symbol, BOOK_LEVELS)

    def entry_book(self, symbol: str, levels: int = BOOK_LEVELS) -> OrderBook:
        """The book; at venues of Binance's shape with their clock, asked for before it, and the mark price, after it:
        a book that is shown at once is never older than that clock, nor newer than that mark price."""
        with self._asking():
            listed_market(self._exchange, symbol)  # an unknown symbol costs no request
            if self._exchange.id not in BINANCE_SHAPED:
                return self._book(symbol, levels)
            clock_ms = int(self._exchange.fetch_time())
            book = self._book(symbol, levels)
            mark, mark_ms = mark_of(self._exchange, listed_market(self._exchange, symbol))
            return book.model_copy(update={"clock_ms": clock_ms, "mark": mark, "mark_ms": mark_ms})

    def _book(self, symbol: str, levels: int) -> OrderBook:
        """Other venues than ours take other numbers of levels: they tell as many as they do by themselves."""
        market = listed_market(self._exchange, symbol)
        limit = levels if self._exchange.id in BINANCE_SHAPED else None
        raw = self._exchange.fetch_order_book(market["symbol"], limit)
        bids, asks = (levels_of(raw[name], market, are_bids=name == "bids") for name in ("bids", "asks"))
        at_ms = None if raw["timestamp"] is None else int(raw["timestamp"])
        is_cut = limit is not None and max(len(bids), len(asks)) >= limit
        return OrderBook(bids=bids, asks=asks, is_cut=is_cut, at_ms=at_ms)

    def instrument(self, symbol: str) -> Instrument:
        """The venue's filters; of a symbol that vanished from its list the last ones, with the status GONE."""
        self._search_for(symbol)
        with self._asking():
            return instrument_of(self._exchange, symbol, market_of(self._exchange, symbol))

    def instrument_now(self, symbol: str) -> Instrument:
        """As `instrument`, by a list that is read again first, unless it was a few seconds ago."""
        self._exchange.listing.read_at_once()
        return self.instrument(symbol)

    def renew_instruments(self) -> None:
        """Reads the list of instruments again where it is a minute old, at a weight of 1. Raises nothing."""
        self._exchange.listing.renew()

    def close(self) -> None:
        self._exchange.session.close()

    def _closed(self, symbol: str, interval: str, interval_ms: int, limit: int) -> tuple[Repaired, int]:
        self._search_for(symbol)
        with self._asking():
            unified = listed_market(self._exchange, symbol)["symbol"]
            # The time first: a candle that closes between the two requests then counts as open, never the other way.
            now_ms = int(self._exchange.fetch_time()) if self._exchange.has["fetchTime"] else self._local_ms()
            until = {"until": now_ms} if self._exchange.id in BINANCE_SHAPED else {}  # not every venue in ccxt takes it
            rows = self._exchange.fetch_ohlcv(unified, interval, limit=limit + _MARGIN, params=until)
            if rows and all(row[0] is None for row in rows):
                raise ValueError("no row of the answer is a candle")
            return repaired(rows, interval_ms, limit, now_ms), now_ms

    def _search_for(self, symbol: str) -> None:
        """A symbol that is not listed may be new, and one that is not traded may be traded again."""
        with self._asking():
            found = find_market(self._exchange, symbol)
        read_again_for(self._exchange, found)
        if found is not None and found.get("active") is False:
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
