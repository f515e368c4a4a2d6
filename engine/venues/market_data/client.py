"""Candles, tickers, quotes and instruments of one venue, validated."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from engine.domain.decimals import to_decimal
from engine.domain.errors import OrderRejected, VenueUnavailable
from engine.domain.market import Candle
from engine.platform.errors import ConfigurationError, CycleSkipped, SkipKind, SparkyError
from engine.venues.ccxt_client.client import TIMEOUT_S, open_ccxt_client
from engine.venues.ccxt_client.errors import is_listing_change, translate_errors
from engine.venues.ccxt_client.request_weight import RequestWeightLimiter
from engine.venues.ccxt_client.venue_classes import BINANCE_SHAPED
from engine.venues.instrument import Instrument
from engine.venues.market_data.candle_repair import RepairedCandles, repair_candles
from engine.venues.market_data.funding import FundingState, parse_funding_state
from engine.venues.market_data.instruments import (
    build_instrument,
    find_market,
    get_listed_market,
    get_market,
    refresh_if_missing,
)
from engine.venues.market_data.order_book_parser import fetch_mark_price, parse_levels
from engine.venues.order_book import BOOK_LEVELS, MarkPrice, OrderBook
from engine.venues.quotes import Quote, Ticker

# Beyond what is asked for: the forming candle, and those that close between the two requests, which are many in a fast
# simulation. Venues weigh 101 candles as they weigh 120.
_EXTRA_CANDLES: Final = 20


class CandleSeries(NamedTuple):
    """Closed candles without a hole, oldest first, and the venue's time in ms. `filled` are the open times (ms) of
    candles that the venue did not send (see `engine.venues.market_data.candle_repair`), never the newest one."""

    candles: tuple[Candle, ...]
    now_ms: int
    filled: frozenset[int] = frozenset()


class MarketData:
    """Public data of one ccxt venue. Safe to share between threads, which then wait for each other.

    Every method raises VenueUnavailable when the venue cannot answer and StrategyFault for a symbol that it
    does not list. Only candles that are all faulty are requested again, once.
    """

    def __init__(
        self,
        venue: str,
        base_url: str | None = None,
        timeout_s: float = TIMEOUT_S,
        limiter: RequestWeightLimiter | None = None,
    ) -> None:
        self._exchange = open_ccxt_client(venue, base_url, timeout_s=timeout_s, limiter=limiter)
        self._lock = threading.RLock()

    def fetch_candles(self, symbol: str, interval: str = "1m", limit: int = 100) -> CandleSeries:
        """Up to `limit` closed candles, with holes filled.

        Raises CycleSkipped ("no_data") when there is none, and ("bad_data") when all are faulty twice in a row.
        """
        interval_ms = self._parse_interval_ms(interval)
        repaired, now_ms = self._fetch_closed_candles(symbol, interval, interval_ms, limit)
        if repaired.fault is not None:
            repaired, now_ms = self._fetch_closed_candles(symbol, interval, interval_ms, limit)
        if repaired.fault is not None:
            raise CycleSkipped(SkipKind.BAD_DATA, f"{symbol} {interval}: {repaired.fault}")
        if not repaired.candles:
            raise CycleSkipped(SkipKind.NO_DATA, f"{symbol} {interval}: the venue has no closed candle")
        return CandleSeries(repaired.candles, now_ms, repaired.filled)

    def fetch_ticker(self, symbol: str) -> Ticker:
        """The 24 h ticker, in one request."""
        self._refresh_if_unlisted(symbol)
        with self._query():
            raw = self._exchange.fetch_ticker(get_listed_market(self._exchange, symbol)["symbol"])
            last, bid, ask = (None if raw[name] is None else to_decimal(raw[name]) for name in ("last", "bid", "ask"))
            at_ms, change = raw["timestamp"], raw["percentage"]
            change = None if change is None else float(change)
        if last is None or last <= 0:
            raise VenueUnavailable(f"{symbol}: the ticker has no price")
        at_ms = int(at_ms) if at_ms is not None else self._read_local_ms()
        return Ticker(last=last, bid=bid, ask=ask, change_24h_percent=change, at_ms=at_ms)

    def measure_clock_difference_s(self) -> float:
        """By how many seconds the venue's clock is ahead of this host's (below 0: behind), as far as it is certain.

        The venue read its clock at some moment of the request, which alone may explain a difference of as long.
        """
        with self._query():
            before_s = time.time()
            venue_s = float(self._exchange.fetch_time()) / 1_000 if self._exchange.has["fetchTime"] else before_s
            after_s = time.time()
        return max(0.0, venue_s - after_s) + min(0.0, venue_s - before_s)

    def fetch_funding(self, symbol: str) -> FundingState | None:
        """The next funding payment (weight 1); None at a venue that does not publish it."""
        if not self._exchange.has.get("fetchFundingRate"):
            return None
        with self._query():
            raw = self._exchange.fetch_funding_rate(get_listed_market(self._exchange, symbol)["symbol"])
            return parse_funding_state(raw, self._read_local_ms())

    def fetch_mark_price(self, symbol: str) -> MarkPrice | None:
        """The mark price (weight 2); None at a venue that is not Binance-shaped."""
        if self._exchange.id not in BINANCE_SHAPED:
            return None
        with self._query():
            market = get_market(self._exchange, symbol)
            clock_ms = int(self._exchange.fetch_time())
            price, at_ms = fetch_mark_price(self._exchange, market)
            return MarkPrice(price=price, at_ms=at_ms, clock_ms=clock_ms)

    def fetch_quote(self, symbol: str) -> Quote:
        """The ticker's last price with the order book's best bid and ask, because a ticker's may be old, none or 0.

        If the book has a fault, the ticker's bid and ask are used, if they are valid. Two requests.
        """
        ticker, book = self.fetch_ticker(symbol), self.fetch_order_book(symbol)
        at_ms = ticker.at_ms if book.at_ms is None else book.at_ms
        if book.fault is None:
            bid, ask = book.bids[0].price, book.asks[0].price
            return Quote(bid=bid, ask=ask, last=ticker.last, at_ms=at_ms)
        if ticker.bid and ticker.ask and 0 < ticker.bid < ticker.ask:
            return Quote(bid=ticker.bid, ask=ticker.ask, last=ticker.last, at_ms=ticker.at_ms)
        raise VenueUnavailable(f"{symbol}: {book.fault}")

    def fetch_order_book(self, symbol: str) -> OrderBook:
        """The book alone, in one request; a side may be empty."""
        with self._query():
            return self._fetch_book(symbol, BOOK_LEVELS)

    def fetch_entry_book(self, symbol: str, levels: int = BOOK_LEVELS) -> OrderBook:
        """The book; at Binance-shaped venues with the clock, read before it, and the mark price, read after it, so that
        a current book is never older than that clock nor newer than that mark price."""
        with self._query():
            get_listed_market(self._exchange, symbol)  # an unknown symbol costs no request
            if self._exchange.id not in BINANCE_SHAPED:
                return self._fetch_book(symbol, levels)
            clock_ms = int(self._exchange.fetch_time())
            book = self._fetch_book(symbol, levels)
            mark, mark_ms = fetch_mark_price(self._exchange, get_listed_market(self._exchange, symbol))
            return book.model_copy(update={"clock_ms": clock_ms, "mark": mark, "mark_ms": mark_ms})

    def _fetch_book(self, symbol: str, levels: int) -> OrderBook:
        """Without a limit at venues that are not Binance-shaped, because they accept other numbers of levels."""
        market = get_listed_market(self._exchange, symbol)
        limit = levels if self._exchange.id in BINANCE_SHAPED else None
        raw = self._exchange.fetch_order_book(market["symbol"], limit)
        bids, asks = (parse_levels(raw[name], market, are_bids=name == "bids") for name in ("bids", "asks"))
        at_ms = None if raw["timestamp"] is None else int(raw["timestamp"])
        is_cut = limit is not None and max(len(bids), len(asks)) >= limit
        return OrderBook(bids=bids, asks=asks, is_cut=is_cut, at_ms=at_ms)

    def fetch_instrument(self, symbol: str) -> Instrument:
        """The venue's filters; for a symbol that is no longer listed the last ones, with the status GONE."""
        self._refresh_if_unlisted(symbol)
        with self._query():
            return build_instrument(self._exchange, symbol, get_market(self._exchange, symbol))

    def refresh_instrument(self, symbol: str) -> Instrument:
        """As `fetch_instrument`, after a refresh of the list, unless that was a few seconds ago."""
        self._exchange.listing.refresh_now()
        return self.fetch_instrument(symbol)

    def refresh_instruments(self) -> None:
        """Refreshes the list of instruments if it is a minute old (weight 1). Raises nothing."""
        self._exchange.listing.refresh_before_entry()

    def close(self) -> None:
        self._exchange.session.close()

    def _fetch_closed_candles(
        self, symbol: str, interval: str, interval_ms: int, limit: int
    ) -> tuple[RepairedCandles, int]:
        self._refresh_if_unlisted(symbol)
        with self._query():
            unified = get_listed_market(self._exchange, symbol)["symbol"]
            # The time first, so that a candle that closes between the two requests counts as open, never the other way.
            now_ms = int(self._exchange.fetch_time()) if self._exchange.has["fetchTime"] else self._read_local_ms()
            until = {"until": now_ms} if self._exchange.id in BINANCE_SHAPED else {}  # not every venue in ccxt takes it
            rows = self._exchange.fetch_ohlcv(unified, interval, limit=limit + _EXTRA_CANDLES, params=until)
            if rows and all(row[0] is None for row in rows):
                raise ValueError("no row of the answer is a candle")
            return repair_candles(rows, interval_ms, limit, now_ms), now_ms

    def _refresh_if_unlisted(self, symbol: str) -> None:
        """A symbol that is not listed may be new, and one that is not traded may be traded again."""
        with self._query():
            market = find_market(self._exchange, symbol)
        refresh_if_missing(self._exchange, market)
        if market is not None and market.get("active") is False:
            self._exchange.listing.refresh_for_unlisted()

    def _parse_interval_ms(self, interval: str) -> int:
        if interval not in self._exchange.timeframes:
            raise ConfigurationError(f"{self._exchange.id} has no candles of {interval!r}.")
        return int(self._exchange.parse_timeframe(interval)) * 1_000

    @contextmanager
    def _query(self) -> Iterator[None]:
        try:
            with self._lock, translate_errors(self._exchange):
                yield
        except SparkyError as error:
            if is_listing_change(error):
                self._exchange.listing.refresh_now()
            if isinstance(error, OrderRejected):  # because a query cannot be rejected as an order is
                raise VenueUnavailable(str(error)) from error
            raise

    @staticmethod
    def _read_local_ms() -> int:
        return time.time_ns() // 1_000_000
