"""The venues' clients, created on demand by the settings, and shared by all requests."""

import math
import threading
import time
from collections.abc import Callable, Hashable
from typing import Final, Protocol, TypeVar, cast

from engine.domain.errors import VenueUnavailable
from engine.platform.settings.component_settings import WebhookServerSettings
from engine.venues.ccxt_client.client import TIMEOUT_S
from engine.venues.instrument import Instrument
from engine.venues.live.ccxt_venue import CcxtVenue
from engine.venues.market_data.client import CandleSeries, MarketData
from engine.venues.market_data.funding import FundingData, FundingSource
from engine.venues.order_book import BOOK_LEVELS, MarkPrice, OrderBook
from engine.venues.paper import PaperVenue
from engine.venues.quotes import Quote, Ticker
from engine.venues.venue import Credentials, LiveVenue, Quotes, Venue

MAX_QUOTE_AGE_S: Final = 0.1  # signals of one moment trade at one price, for one request to the venue
_Response = TypeVar("_Response", Quote, OrderBook)


class MarketHistory(Protocol):
    """Candles, mark prices and tickers of one venue; see `MarketData`."""

    def fetch_candles(self, symbol: str, interval: str = "1m", limit: int = 100) -> CandleSeries: ...

    def fetch_mark_price(self, symbol: str) -> MarkPrice | None: ...

    def fetch_ticker(self, symbol: str) -> Ticker: ...


class Venues(Protocol):
    """The clients of each venue by its name `exchange`. All raise ConfigurationError for an unknown one."""

    def quotes(self, exchange: str) -> Quotes: ...

    def funding(self, exchange: str) -> FundingSource: ...

    def history(self, exchange: str) -> MarketHistory: ...

    def paper(self, exchange: str) -> Venue: ...

    def live(self, exchange: str, credentials: Credentials) -> LiveVenue: ...


class ResponseCache:
    """Responses of a venue, each fetched at most once per key and `age_s` seconds. Safe to share between threads.

    Threads that waited while another one fetched share its response, and also its failure: a venue that hangs costs
    concurrent signals one timeout together, not one each.
    """

    def __init__(self, monotonic: Callable[[], float], age_s: float) -> None:
        self._monotonic = monotonic
        self._age_s = age_s
        self._lock = threading.Lock()
        self._cache: dict[Hashable, tuple[float, Quote | OrderBook | VenueUnavailable]] = {}

    def get_or_fetch(self, key: Hashable, fetch: Callable[[], _Response]) -> _Response:
        """The result of `fetch`, or the cached one of the same `key`. Raises VenueUnavailable."""
        arrived_at = self._monotonic()
        with self._lock:  # held while fetching, so that the others wait for the response
            cached_at, cached = self._cache.get(key, (-math.inf, None))
            # A failure serves only threads that came before it: a later one tries again.
            max_age_s = 0.0 if isinstance(cached, VenueUnavailable) else self._age_s
            if cached is None or cached_at < arrived_at - max_age_s:
                return self._fetch(key, fetch)
        if isinstance(cached, VenueUnavailable):
            reason = f"it did not answer a moment ago: {cached.reason}"
            raise VenueUnavailable(reason, cached.retry_after_s)
        return cast("_Response", cached)  # of this type, since it has this key

    def _fetch(self, key: Hashable, fetch: Callable[[], _Response]) -> _Response:
        asked_at = self._monotonic()
        try:
            response = fetch()
        except VenueUnavailable as error:
            self._cache[key] = (asked_at, error)
            raise
        # The age counts from the arrival: a request uses its order book twice, also when the venue was slow.
        self._cache[key] = (self._monotonic(), response)
        return response


class CachedQuotes:
    """`quotes` with cached responses (see `ResponseCache`).

    Order books for entries come from `entries`, a client of its own, so that an exit on paper never waits for them.
    """

    def __init__(
        self,
        quotes: Quotes,
        monotonic: Callable[[], float] = time.monotonic,
        entries: Quotes | None = None,
        age_s: float = MAX_QUOTE_AGE_S,
    ) -> None:
        self._quotes = quotes
        self._entries = entries or quotes
        self._quote_cache, self._entry_cache = ResponseCache(monotonic, age_s), ResponseCache(monotonic, age_s)

    def fetch_quote(self, symbol: str) -> Quote:
        return self._quote_cache.get_or_fetch(symbol, lambda: self._quotes.fetch_quote(symbol))

    def fetch_ticker(self, symbol: str) -> Ticker:
        """Not cached: a round of mark to market asks once for each symbol."""
        return self._quotes.fetch_ticker(symbol)

    def fetch_order_book(self, symbol: str) -> OrderBook:
        return self._quote_cache.get_or_fetch(("book", symbol), lambda: self._quotes.fetch_order_book(symbol))

    def fetch_entry_book(self, symbol: str, levels: int = BOOK_LEVELS) -> OrderBook:
        return self._entry_cache.get_or_fetch((symbol, levels), lambda: self._entries.fetch_entry_book(symbol, levels))

    def fetch_instrument(self, symbol: str) -> Instrument:
        return self._quotes.fetch_instrument(symbol)

    def refresh_instrument(self, symbol: str) -> Instrument:
        return self._quotes.refresh_instrument(symbol)


class VenueRegistry:
    """The venue of SPARKY_MARKET at SPARKY_MARKET_URL, and any other that ccxt knows at its own address.

    Signals share a quote for `quote_age_s` seconds, and a request to a venue ends within `timeout_s`.
    """

    def __init__(
        self, settings: WebhookServerSettings, quote_age_s: float = MAX_QUOTE_AGE_S, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._settings = settings
        self._quote_age_s = quote_age_s
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._history: dict[str, MarketData] = {}
        self._quotes: dict[str, CachedQuotes] = {}
        self._funding: dict[str, FundingData] = {}
        self._live: dict[tuple[str, str], LiveVenue] = {}

    def quotes(self, exchange: str) -> Quotes:
        with self._lock:
            if exchange not in self._quotes:
                address = self._get_address(exchange)
                quotes, entries = (MarketData(exchange, address, self._timeout_s) for _ in range(2))
                self._quotes[exchange] = CachedQuotes(quotes, entries=entries, age_s=self._quote_age_s)
            return self._quotes[exchange]

    def funding(self, exchange: str) -> FundingSource:
        with self._lock:
            if exchange not in self._funding:
                self._funding[exchange] = FundingData(exchange, self._get_address(exchange), self._timeout_s)
            return self._funding[exchange]

    def history(self, exchange: str) -> MarketData:
        """A client of its own: an exit on paper never waits for candles."""
        with self._lock:
            if exchange not in self._history:
                self._history[exchange] = MarketData(exchange, self._get_address(exchange), self._timeout_s)
            return self._history[exchange]

    def paper(self, exchange: str) -> Venue:
        quotes, settings = self.quotes(exchange), self._settings
        fee, slippage = settings.sparky_paper_fee_percent, settings.sparky_paper_slippage_percent
        return PaperVenue(quotes, fee, slippage, self.history(exchange).refresh_instruments)

    def live(self, exchange: str, credentials: Credentials) -> LiveVenue:
        """One client per account, since nonces are tracked per signer."""
        key = (exchange, _compute_fingerprint(credentials))
        with self._lock:
            if key not in self._live:
                self._live[key] = CcxtVenue(exchange, credentials, self._get_address(exchange), self._timeout_s)
            return self._live[key]

    def _get_address(self, exchange: str) -> str | None:
        return self._settings.sparky_market_url if exchange == self._settings.sparky_market else None


def _compute_fingerprint(credentials: Credentials) -> str:
    """A key that is equal for equal credentials within this process, without a second copy of the secrets."""
    secrets = (credentials.api_key, credentials.api_secret, credentials.private_key)
    hashes = [None if secret is None else hash(secret.get_secret_value()) for secret in secrets]
    return repr((credentials.user_address, credentials.signer_address, hashes))
