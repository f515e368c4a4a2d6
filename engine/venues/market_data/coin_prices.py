"""What an amount of a coin was worth in dollars at some moment, by the candles of the venue's own perpetual of it.

Commissions may be paid in a coin at a discount (BNB at Binance, ASTER at Aster). Nothing here raises: a fill is booked
also when a price cannot be had.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from decimal import Context, Decimal
from typing import Any, Final, NamedTuple

import structlog

from engine.domain.decimals import exact, product, quotient
from engine.platform.errors import SparkyError
from engine.venues.ccxt_client.errors import translated
from engine.venues.ccxt_client.venue_classes import BINANCE_SHAPED
from engine.venues.live.parsers import DOLLARS
from engine.venues.market_data.instruments import is_linear_perpetual

logger = structlog.get_logger()

MINUTE_MS: Final = 60_000
QUOTES: Final = ("USDT", "USDC", "USD")  # where a coin's price is looked for, in this order
ROWS: Final = 99  # in one answer; venues weigh up to 99 candles as one
BEFORE: Final = 30  # of these, how many minutes are before the one that is asked for, should that have no candle
TIMEOUT_S: Final = 2.0
REST_S: Final = 60.0  # after a failure
MOST_QUESTIONS: Final = 30  # in REST_S
KEPT_MINUTES: Final = 20_000
PRICE_DIGITS: Final = Context(prec=12)  # significant ones; what is between open and close has no end


class Minute(NamedTuple):
    """A candle's open and close."""

    opened: Decimal
    close: Decimal

    def at(self, fraction: Decimal) -> Decimal:
        """The price when `fraction` of the minute had passed, on the straight line between the two: of all that the
        candle tells, what is expected to be nearest to the true one."""
        moved = product(self.close - self.opened, fraction)
        return PRICE_DIGITS.plus(self.opened + moved)


class CoinPrices:
    """Prices of coins at one venue, for one client of it; its owner lets one thread in at a time.

    The price of a moment is on the line between open and close of its minute's candle, while the minute lasts the last
    price, and where the venue has no such candle the last close before it. Closed minutes are kept.
    """

    def __init__(self, exchange: Any, monotonic: Callable[[], float]) -> None:
        self._exchange = exchange
        self._monotonic = monotonic
        self._closed: OrderedDict[tuple[str, int], Minute] = OrderedDict()
        self._forming: dict[str, tuple[int, Decimal]] = {}  # by coin: as of when, and its price
        self._rests_until: dict[str, float] = {}
        self._asked_at: list[float] = []
        self._unpriced: set[str] = set()

    def worth_usd(self, asset: str, amount: Decimal, at_ms: int) -> Decimal | None:
        """What `amount` of `asset` was worth at `at_ms`; None where the venue lists no price of it, or tells none."""
        if asset in DOLLARS:
            return amount
        price = self._known(asset, at_ms) or self._asked(asset, at_ms) if at_ms > 0 else None
        self._note(asset, is_priced=price is not None)
        return None if price is None else product(amount, price)

    def _known(self, coin: str, at_ms: int) -> Decimal | None:
        minute_ms = at_ms - at_ms % MINUTE_MS
        closed = self._closed.get((coin, minute_ms))
        if closed is not None:
            return closed.at(_fraction(at_ms))
        as_of_ms, price = self._forming.get(coin, (-1, Decimal(0)))
        # What was read of a minute that lasts is good for what was paid before that in the same minute.
        return price if at_ms <= as_of_ms < minute_ms + MINUTE_MS else None

    def _asked(self, coin: str, at_ms: int) -> Decimal | None:
        now = self._monotonic()
        self._asked_at = [each for each in self._asked_at if now - each < REST_S]
        market = self._market(coin)
        if market is None or now < self._rests_until.get(coin, now) or len(self._asked_at) >= MOST_QUESTIONS:
            return None
        self._asked_at.append(now)
        try:
            with translated(self._exchange), self._exchange.session.within(TIMEOUT_S):
                return self._read(coin, market["symbol"], at_ms)
        except SparkyError as error:
            self._rests_until[coin] = now + REST_S
            logger.warning("coin_price_not_told", coin=coin, reason=str(error))
            return None

    def _read(self, coin: str, unified: str, at_ms: int) -> Decimal | None:
        """Asks for the candles around `at_ms` and keeps the closed ones."""
        minute_ms = at_ms - at_ms % MINUTE_MS
        since_ms = minute_ms - BEFORE * MINUTE_MS
        until = {"until": since_ms + ROWS * MINUTE_MS - 1} if self._exchange.id in BINANCE_SHAPED else {}
        minutes = _minutes(self._exchange.fetch_ohlcv(unified, "1m", since_ms, ROWS, until))
        newest_ms = max(minutes, default=0)
        for open_ms, minute in minutes.items():
            if open_ms < newest_ms:  # that one may still be forming
                self._keep(coin, open_ms, minute)
        shown = [open_ms for open_ms in minutes if open_ms <= minute_ms]
        if not shown:
            raise ValueError("there is no candle of that time")
        last = minutes[max(shown)].close
        if newest_ms <= minute_ms:
            self._forming[coin] = (at_ms, last)
            return last
        if minute_ms not in minutes:
            self._keep(coin, minute_ms, Minute(last, last))
        return self._closed[coin, minute_ms].at(_fraction(at_ms))

    def _keep(self, coin: str, open_ms: int, minute: Minute) -> None:
        self._closed[coin, open_ms] = minute
        while len(self._closed) > KEPT_MINUTES:
            self._closed.popitem(last=False)

    def _market(self, coin: str) -> Mapping[str, Any] | None:
        """Among the markets that are loaded; nothing is asked for."""
        listed = [each for each in (self._exchange.markets or {}).values() if is_linear_perpetual(each)]
        found = {each["quote"]: each for each in listed if each["base"] == coin}
        return next((found[quote] for quote in QUOTES if quote in found), None)

    def _note(self, coin: str, *, is_priced: bool) -> None:
        if is_priced:
            self._unpriced.discard(coin)
        elif coin not in self._unpriced:
            self._unpriced.add(coin)
            logger.warning("fee_coin_without_price", coin=coin)


def _fraction(at_ms: int) -> Decimal:
    return quotient(Decimal(at_ms % MINUTE_MS), Decimal(MINUTE_MS))


def _minutes(rows: Iterable[list[Any]]) -> dict[int, Minute]:
    """What is told last of each minute, by when it opens; rows that tell no price are left out."""
    found: dict[int, Minute] = {}
    for open_ms, opened, _high, _low, close, _volume in rows:
        if None not in (open_ms, opened, close):
            minute = Minute(exact(opened), exact(close))
            if min(minute) > 0:
                found[open_ms - open_ms % MINUTE_MS] = minute
    return found
