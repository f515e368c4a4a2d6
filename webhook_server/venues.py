"""Which venue executes for whom: built once from the settings, clients kept and shared."""

import math
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Final, Protocol

from engine.errors import UpstreamUnavailable
from engine.exchanges.ccxt_venue import CcxtVenue
from engine.exchanges.market_data import MarketData
from engine.exchanges.paper import PaperVenue
from engine.exchanges.venue import Account, Credentials, Instrument, Quote, Quotes, Venue
from engine.settings import Settings
from engine.types import Candle

QUOTE_AGE_S: Final = 0.1  # signals that come at the same moment trade at the same price, for one question to the venue


class History(Protocol):
    """Where candles come from; see `MarketData`."""

    def candles(self, symbol: str, interval: str = "1m", limit: int = 100) -> tuple[list[Candle], int]: ...


class Venues(Protocol):
    """Where the desk finds its venues. All raise BadConfiguration for an exchange that nobody knows."""

    def quotes(self, exchange: str) -> Quotes: ...

    def history(self, exchange: str) -> History: ...

    def paper(self, exchange: str) -> Venue: ...

    def live(self, exchange: str, credentials: Credentials) -> Account: ...


class SharedQuotes:
    """`quotes`, asked at most once per symbol and QUOTE_AGE_S. Safe to share between threads.

    Who waited while another asked shares its answer, also when the answer was that the venue is away: a venue that
    hangs costs a crowd of signals one timeout, not one each.
    """

    def __init__(self, quotes: Quotes, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._quotes = quotes
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, Quote | UpstreamUnavailable]] = {}

    def quote(self, symbol: str) -> Quote:
        arrived_at = self._monotonic()
        with self._lock:
            asked_at, answer = self._kept.get(symbol, (-math.inf, None))
            fresh_s = QUOTE_AGE_S if isinstance(answer, Quote) else 0.0
            if answer is None or asked_at < arrived_at - fresh_s:
                answer = self._ask(symbol)
        if isinstance(answer, UpstreamUnavailable):
            told = f"it did not answer a moment ago: {answer.reason}"
            raise UpstreamUnavailable(answer.service, told, answer.retry_after_s)
        return answer

    def instrument(self, symbol: str) -> Instrument:
        return self._quotes.instrument(symbol)

    def _ask(self, symbol: str) -> Quote:
        asked_at = self._monotonic()
        try:
            quote = self._quotes.quote(symbol)
        except UpstreamUnavailable as error:
            self._kept[symbol] = (asked_at, error)
            raise
        self._kept[symbol] = (asked_at, quote)
        return quote


class VenuesOf:
    """The venues that `settings` name: the configured market at its address, any other that ccxt knows at its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._data: dict[str, MarketData] = {}
        self._shared: dict[str, SharedQuotes] = {}
        self._live: dict[tuple[str, str], Account] = {}

    def quotes(self, exchange: str) -> Quotes:
        with self._lock:
            if exchange not in self._shared:
                self._data[exchange] = MarketData(exchange, self._address(exchange))
                self._shared[exchange] = SharedQuotes(self._data[exchange])
            return self._shared[exchange]

    def history(self, exchange: str) -> MarketData:
        self.quotes(exchange)
        return self._data[exchange]

    def paper(self, exchange: str) -> Venue:
        fee: Decimal = self._settings.sparky_paper_fee_percent
        return PaperVenue(self.quotes(exchange), fee, self._settings.sparky_paper_slippage_percent)

    def live(self, exchange: str, credentials: Credentials) -> Account:
        """One client per account, since nonces are tracked per signer."""
        key = (exchange, _fingerprint(credentials))
        with self._lock:
            if key not in self._live:
                self._live[key] = CcxtVenue(exchange, credentials, self._address(exchange))
            return self._live[key]

    def _address(self, exchange: str) -> str | None:
        return self._settings.sparky_market_url if exchange == self._settings.sparky_market else None


def _fingerprint(credentials: Credentials) -> str:
    """Tells accounts and their rotated keys apart inside this process, without keeping the keys twice."""
    secrets = (credentials.api_key, credentials.api_secret, credentials.private_key)
    told = [None if secret is None else hash(secret.get_secret_value()) for secret in secrets]
    return repr((credentials.user_address, credentials.signer_address, told))
