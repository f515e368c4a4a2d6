"""Values an amount of a coin in dollars at a moment, by candles of the venue's perpetual of that coin.

Commissions may be paid in a coin at a discount (BNB at Binance, ASTER at Aster). Nothing here raises, so that a fill is
booked also without a price.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from decimal import Context, Decimal
from typing import Any, Final, NamedTuple

import structlog

from engine.domain.decimals import product, quotient, to_decimal
from engine.platform.errors import SparkyError
from engine.venues.account_state import USD_ASSETS
from engine.venues.ccxt_client.errors import translate_errors
from engine.venues.ccxt_client.venue_classes import BINANCE_SHAPED
from engine.venues.market_data.instruments import is_linear_perpetual

logger = structlog.get_logger()

MINUTE_MS: Final = 60_000
QUOTE_ASSETS: Final = ("USDT", "USDC", "USD")  # where a coin's price is looked for, in this order
CANDLES_PER_REQUEST: Final = 99  # in one answer; venues weigh up to 99 candles as one
LOOKBACK_MINUTES: Final = 30  # minutes before the requested one, in case that has no candle
TIMEOUT_SHARE: Final = 0.2  # of the time that other requests have: 2 s
FAILURE_PAUSE_S: Final = 60.0  # after a failure
MAX_REQUESTS: Final = 30  # in FAILURE_PAUSE_S
MAX_CACHED_MINUTES: Final = 20_000
PRICE_CONTEXT: Final = Context(prec=12)  # significant digits, because interpolated prices do not terminate


class MinuteCandle(NamedTuple):
    """A candle's open and close."""

    open_price: Decimal
    close_price: Decimal

    def interpolate_price(self, fraction: Decimal) -> Decimal:
        """The price after `fraction` of the minute, interpolated between open and close."""
        moved = product(self.close_price - self.open_price, fraction)
        return PRICE_CONTEXT.plus(self.open_price + moved)


class CoinPrices:
    """Prices of coins at one venue, through one client; not thread-safe.

    A price is interpolated between open and close of its minute's candle; in the current minute it is the last price,
    and without a candle the last close before it. Closed minutes are cached.
    """

    def __init__(self, exchange: Any, monotonic: Callable[[], float]) -> None:
        self._exchange = exchange
        self._monotonic = monotonic
        self._closed: OrderedDict[tuple[str, int], MinuteCandle] = OrderedDict()
        self._forming: dict[str, tuple[int, Decimal]] = {}  # by coin: as of when, and its price
        self._paused_until: dict[str, float] = {}
        self._request_times: list[float] = []
        self._unpriced: set[str] = set()

    def convert_to_usd(self, asset: str, amount: Decimal, at_ms: int) -> Decimal | None:
        """The value in dollars of `amount` of `asset` at `at_ms`; None where the venue has no price."""
        if asset in USD_ASSETS:
            return amount
        price = self._find_cached_price(asset, at_ms) or self._fetch_price(asset, at_ms) if at_ms > 0 else None
        self._log_unpriced(asset, is_priced=price is not None)
        return None if price is None else product(amount, price)

    def _find_cached_price(self, coin: str, at_ms: int) -> Decimal | None:
        minute_ms = at_ms - at_ms % MINUTE_MS
        closed = self._closed.get((coin, minute_ms))
        if closed is not None:
            return closed.interpolate_price(_calculate_minute_fraction(at_ms))
        as_of_ms, price = self._forming.get(coin, (-1, Decimal(0)))
        # A price read in the current minute is used for earlier payments of the same minute as well.
        return price if at_ms <= as_of_ms < minute_ms + MINUTE_MS else None

    def _fetch_price(self, coin: str, at_ms: int) -> Decimal | None:
        now = self._monotonic()
        self._request_times = [at for at in self._request_times if now - at < FAILURE_PAUSE_S]
        market = self._find_market(coin)
        if market is None or now < self._paused_until.get(coin, now) or len(self._request_times) >= MAX_REQUESTS:
            return None
        self._request_times.append(now)
        try:
            with translate_errors(self._exchange), self._exchange.session.limit_timeout(TIMEOUT_SHARE):
                return self._fetch_candles(coin, market["symbol"], at_ms)
        except SparkyError as error:
            self._paused_until[coin] = now + FAILURE_PAUSE_S
            logger.warning("coin_price_unavailable", coin=coin, reason=str(error))
            return None

    def _fetch_candles(self, coin: str, unified: str, at_ms: int) -> Decimal | None:
        """Asks for the candles around `at_ms` and keeps the closed ones."""
        minute_ms = at_ms - at_ms % MINUTE_MS
        since_ms = minute_ms - LOOKBACK_MINUTES * MINUTE_MS
        until = {"until": since_ms + CANDLES_PER_REQUEST * MINUTE_MS - 1} if self._exchange.id in BINANCE_SHAPED else {}
        minutes = _parse_minutes(self._exchange.fetch_ohlcv(unified, "1m", since_ms, CANDLES_PER_REQUEST, until))
        newest_ms = max(minutes, default=0)
        for open_ms, minute in minutes.items():
            if open_ms < newest_ms:  # that one may still be forming
                self._cache_minute(coin, open_ms, minute)
        shown = [open_ms for open_ms in minutes if open_ms <= minute_ms]
        if not shown:
            raise ValueError("there is no candle of that time")
        last = minutes[max(shown)].close_price
        if newest_ms <= minute_ms:
            self._forming[coin] = (at_ms, last)
            return last
        if minute_ms not in minutes:
            self._cache_minute(coin, minute_ms, MinuteCandle(last, last))
        return self._closed[coin, minute_ms].interpolate_price(_calculate_minute_fraction(at_ms))

    def _cache_minute(self, coin: str, open_ms: int, minute: MinuteCandle) -> None:
        self._closed[coin, open_ms] = minute
        while len(self._closed) > MAX_CACHED_MINUTES:
            self._closed.popitem(last=False)

    def _find_market(self, coin: str) -> Mapping[str, Any] | None:
        """Searches the loaded markets; sends no request."""
        perpetuals = [market for market in (self._exchange.markets or {}).values() if is_linear_perpetual(market)]
        market_by_quote = {market["quote"]: market for market in perpetuals if market["base"] == coin}
        return next((market_by_quote[quote] for quote in QUOTE_ASSETS if quote in market_by_quote), None)

    def _log_unpriced(self, coin: str, *, is_priced: bool) -> None:
        if is_priced:
            self._unpriced.discard(coin)
        elif coin not in self._unpriced:
            self._unpriced.add(coin)
            logger.warning("fee_coin_price_missing", coin=coin)


def _calculate_minute_fraction(at_ms: int) -> Decimal:
    return quotient(Decimal(at_ms % MINUTE_MS), Decimal(MINUTE_MS))


def _parse_minutes(rows: Iterable[list[Any]]) -> dict[int, MinuteCandle]:
    """The last row of each minute, by its open time (ms), without rows that have no price."""
    minutes: dict[int, MinuteCandle] = {}
    for open_ms, opened, _high, _low, close, _volume in rows:
        if None not in (open_ms, opened, close):
            minute = MinuteCandle(to_decimal(opened), to_decimal(close))
            if min(minute) > 0:
                minutes[open_ms - open_ms % MINUTE_MS] = minute
    return minutes
