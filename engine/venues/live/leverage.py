"""Sets leverage and reads it back before an entry: a venue may cap it silently, and a person may change it."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import ccxt

from engine.domain.errors import OrderRejected
from engine.venues.ccxt_client.venue_classes import BINANCE_SHAPED
from engine.venues.live.parsers import parse_leverage

CACHE_TTL_S: Final = 60.0


class LeverageControl:
    """The leverage of one account's symbols. Call it under the account's lock; raises ccxt's errors too."""

    def __init__(self, exchange: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._exchange = exchange
        self._monotonic = monotonic
        self._cache: dict[str, tuple[int, float]] = {}

    def ensure(self, market: Mapping[str, Any], leverage: int) -> None:
        """Raises OrderRejected ``leverage`` unless the venue then reports `leverage`."""
        symbol = str(market["symbol"])
        if self.is_cached(market, leverage):
            return
        self._cache.pop(symbol, None)
        actual = self._set(market, leverage)
        if actual != leverage:
            what = "its answer cannot be read back" if actual is None else f"{actual} is set"
            advice = "set it on the venue's page, or ask for another leverage"
            raise OrderRejected(f"{market['id']}: leverage {leverage} was asked for and {what}: {advice}", "leverage")
        self._cache[symbol] = (leverage, self._monotonic())

    def is_cached(self, market: Mapping[str, Any], leverage: int) -> bool:
        """Whether `ensure` needs no request."""
        seen, at = self._cache.get(str(market["symbol"]), (None, 0.0))
        return seen == leverage and self._monotonic() - at < CACHE_TTL_S

    def forget(self, market: Mapping[str, Any]) -> None:
        """Drops the cached value."""
        self._cache.pop(str(market["symbol"]), None)

    def _set(self, market: Mapping[str, Any], leverage: int) -> int | None:
        try:
            answer = self._exchange.set_leverage(leverage, market["symbol"])
        except ccxt.NoChange:
            answer = {"leverage": leverage}
        return self._read_back(market, answer)

    def _read_back(self, market: Mapping[str, Any], answer: Any) -> int | None:
        symbol, can = market["symbol"], self._exchange.has
        if self._exchange.id in BINANCE_SHAPED:  # one symbol weighs less than all
            found = self._exchange.fetch_leverages([symbol], {"symbol": market["id"]}).get(symbol)
            if found is not None:  # a symbol without position may be left out; then the answer to the change counts
                return parse_leverage(found)
        elif can.get("fetchLeverage"):
            return parse_leverage(self._exchange.fetch_leverage(symbol))
        elif can.get("fetchLeverages"):
            return parse_leverage(self._exchange.fetch_leverages([symbol])[symbol])
        found = answer.get("leverage") if isinstance(answer, dict) else None
        return None if found is None else int(found)
