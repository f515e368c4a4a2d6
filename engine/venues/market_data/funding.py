"""Public funding data: the next payment with its rate, and past payments.

It has a client of its own, so that prices do not wait for a long history.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final, Protocol

from engine.domain.decimals import to_decimal
from engine.domain.errors import OrderRejected, VenueUnavailable
from engine.platform.values import Frozen
from engine.venues.ccxt_client.client import TIMEOUT_S, open_ccxt_client
from engine.venues.ccxt_client.errors import translate_errors
from engine.venues.ccxt_client.request_weight import RequestWeightLimiter
from engine.venues.ccxt_client.venue_classes import BINANCE_SHAPED
from engine.venues.market_data.instruments import get_market

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
MAX_ROWS: Final = 1_000
MIN_FULL_PAGE_ROWS: Final = 50  # a shorter page is the last one, at any venue's page size
MAX_PAGES: Final = 40


class FundingState(Frozen):
    """The next payment of one symbol: `rate` is a share (0.0001 is 0.01 %), paid by longs when positive, None if not
    published. Times are the venue's; without a next time it is the next full hour."""

    rate: Decimal | None
    next_ms: int
    at_ms: int


class FundingRate(Frozen):
    """One payment of the past; `mark_price` is None where the venue does not publish it."""

    rate: Decimal
    mark_price: Decimal | None
    at_ms: int


class FundingSource(Protocol):
    """Raises UpstreamUnavailable when the venue cannot answer and StrategyFault for an unknown symbol."""

    def fetch_state(self, symbol: str) -> FundingState | None:
        """The next payment (weight 1); None at a venue that does not publish it."""
        ...

    def fetch_history(self, symbol: str, since_ms: int) -> tuple[FundingRate, ...] | None:
        """All payments from `since_ms` on, oldest first; None at a venue that does not publish them."""
        ...

    def fetch_price_at(self, symbol: str, at_ms: int) -> Decimal:
        """The price at which the minute of `at_ms` began, for a payment without a price."""
        ...


class FundingData:
    """A `FundingSource` of one ccxt venue. Safe to share between threads, which then wait for each other."""

    def __init__(
        self,
        venue: str,
        base_url: str | None = None,
        timeout_s: float = TIMEOUT_S,
        limiter: RequestWeightLimiter | None = None,
    ) -> None:
        self._exchange = open_ccxt_client(venue, base_url, timeout_s=timeout_s, limiter=limiter)
        self._lock = threading.RLock()

    def fetch_state(self, symbol: str) -> FundingState | None:
        if not self._exchange.has.get("fetchFundingRate"):
            return None
        with self._query():
            raw = self._exchange.fetch_funding_rate(get_market(self._exchange, symbol)["symbol"])
            return parse_funding_state(raw, self._exchange.milliseconds())

    def fetch_history(self, symbol: str, since_ms: int) -> tuple[FundingRate, ...] | None:
        if not self._exchange.has.get("fetchFundingRateHistory"):
            return None
        with self._query():
            unified = get_market(self._exchange, symbol)["symbol"]
            limit = MAX_ROWS if self._exchange.id in BINANCE_SHAPED else None
            rate_by_time: dict[int, FundingRate] = {}
            start_ms = since_ms
            for _ in range(MAX_PAGES):
                raw = self._exchange.fetch_funding_rate_history(unified, start_ms, limit)
                rows = [_parse_rate(row) for row in raw]
                rate_by_time |= {row.at_ms: row for row in rows}
                newest_ms = max((row.at_ms for row in rows), default=start_ms)
                if len(rows) < MIN_FULL_PAGE_ROWS or newest_ms < start_ms:
                    break
                start_ms = newest_ms + 1
            return tuple(rate_by_time[at_ms] for at_ms in sorted(rate_by_time) if at_ms >= since_ms)

    def fetch_price_at(self, symbol: str, at_ms: int) -> Decimal:
        minute_ms = at_ms - at_ms % MINUTE_MS
        with self._query():
            unified = get_market(self._exchange, symbol)["symbol"]
            rows = self._exchange.fetch_ohlcv(unified, "1m", since=minute_ms, limit=1)
            prices = [to_decimal(row[1]) for row in rows if row[0] == minute_ms]
        if not prices or prices[0] <= 0:
            raise VenueUnavailable(f"it has no price of {symbol} at {at_ms}")
        return prices[0]

    def close(self) -> None:
        self._exchange.session.close()

    @contextmanager
    def _query(self) -> Iterator[None]:
        try:
            with self._lock, translate_errors(self._exchange):
                yield
        except OrderRejected as refusal:  # because a query cannot be rejected as an order is
            raise VenueUnavailable(str(refusal)) from refusal


def parse_funding_state(raw: Any, local_ms: int) -> FundingState:
    """From ccxt's funding rate structure. Raises ValueError for what cannot be read."""
    at_ms = int(raw.get("timestamp") or local_ms)
    next_ms = int(raw.get("nextFundingTimestamp") or raw.get("fundingTimestamp") or 0)
    rate = raw.get("fundingRate")
    return FundingState(
        rate=None if rate is None else to_decimal(rate),
        next_ms=next_ms if next_ms > at_ms else at_ms - at_ms % HOUR_MS + HOUR_MS,
        at_ms=at_ms,
    )


def _parse_rate(raw: Any) -> FundingRate:
    price = (raw.get("info") or {}).get("markPrice")
    return FundingRate(
        rate=to_decimal(raw["fundingRate"]),
        mark_price=to_decimal(price) if price else None,
        at_ms=int(raw["timestamp"]),
    )
