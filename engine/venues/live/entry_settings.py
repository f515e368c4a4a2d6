"""Leverage and margin mode of an account's symbols: set before an entry where they differ, and read back.

They are read back because a venue may cap the leverage or drop a change without an error, and a person may change both
on the venue's page.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import ccxt

from engine.domain.errors import OrderRejected
from engine.domain.positions import MarginMode
from engine.venues.ccxt_client.error_text import find_code
from engine.venues.ccxt_client.errors import translate_errors
from engine.venues.ccxt_client.venue_classes import BINANCE_SHAPED
from engine.venues.live.account_setup_query import MARGIN_TYPE, SOURCES, parse_margin_type
from engine.venues.live.parsers import parse_leverage
from engine.venues.market_data.instruments import get_market
from engine.venues.orders import OrderRequest

# A read-back costs an entry a request; a change on the venue's page is noticed after this time at the latest.
CACHE_TTL_S: Final = 60.0
NO_CHANGE: Final = "-4046"
REFUSAL: Final = "-4067"  # by its text about another setting; some venues send it for a mode that is set already
# Where one symbol's mode is read: at Binance `symbolConfig`, because its newer positionRisk lacks the mode.
ENDPOINTS: Final[Mapping[str, str]] = {
    "aster": "fapiPrivateGetV3PositionRisk",
    "binance": "fapiPrivateGetSymbolConfig",
    "binanceusdm": "fapiPrivateGetSymbolConfig",
}


class LeverageControl:
    """The leverage of one account's symbols. Call it under the account's lock; raises ccxt's errors too."""

    def __init__(self, exchange: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._exchange = exchange
        self._monotonic = monotonic
        self._cache: dict[str, tuple[int, float]] = {}

    def ensure_leverage(self, market: Mapping[str, Any], leverage: int) -> None:
        """Raises OrderRejected ``leverage`` unless the venue then reports `leverage`."""
        symbol = str(market["symbol"])
        if self.is_cached(market, leverage):
            return
        self._cache.pop(symbol, None)
        actual = self._set_leverage(market, leverage)
        if actual != leverage:
            what = "its answer cannot be read back" if actual is None else f"{actual} is set"
            advice = "set it on the venue's page, or ask for another leverage"
            raise OrderRejected(f"{market['id']}: leverage {leverage} was asked for and {what}: {advice}", "leverage")
        self._cache[symbol] = (leverage, self._monotonic())

    def is_cached(self, market: Mapping[str, Any], leverage: int) -> bool:
        """Whether the setting is cached and needs no request."""
        seen, at = self._cache.get(str(market["symbol"]), (None, 0.0))
        return seen == leverage and self._monotonic() - at < CACHE_TTL_S

    def forget(self, market: Mapping[str, Any]) -> None:
        """Drops the cached value."""
        self._cache.pop(str(market["symbol"]), None)

    def _set_leverage(self, market: Mapping[str, Any], leverage: int) -> int | None:
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


class MarginModeControl:
    """The margin modes of one account's symbols. Call it under the account's lock; raises ccxt's errors too."""

    def __init__(self, exchange: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._exchange = exchange
        self._monotonic = monotonic
        self._cache: dict[str, tuple[MarginMode, float]] = {}

    def ensure_mode(self, market: Mapping[str, Any], mode: MarginMode) -> bool:
        """True if the mode was changed, which may have changed the symbol's leverage too.

        Raises OrderRejected ``leverage`` unless the venue then reports `mode`.
        """
        symbol = str(market["symbol"])
        if self.is_cached(market, mode):
            return False
        self._cache.pop(symbol, None)
        current = self._read_symbol_mode(market)
        is_changed = current is not mode
        if is_changed:
            self._change(market, mode, current)
        self._cache[symbol] = (mode, self._monotonic())
        return is_changed

    def is_cached(self, market: Mapping[str, Any], mode: MarginMode) -> bool:
        """Whether the setting is cached and needs no request."""
        seen, at = self._cache.get(str(market["symbol"]), (None, 0.0))
        return seen is mode and self._monotonic() - at < CACHE_TTL_S

    def fetch_mode(self, market: Mapping[str, Any]) -> MarginMode | None:
        """The symbol's mode, read now; None where the venue does not publish it."""
        return self._read_symbol_mode(market) or self._read_account_mode(market)

    def forget(self, market: Mapping[str, Any]) -> None:
        """Drops the cached value."""
        self._cache.pop(str(market["symbol"]), None)

    def _change(self, market: Mapping[str, Any], mode: MarginMode, current: MarginMode | None) -> None:
        """If the venue does not publish the mode (`current` is None), it may refuse the change only because the mode is
        set already."""
        try:
            self._change_and_verify(market, mode)
        except ccxt.ExchangeError as refusal:
            if current is not None or isinstance(refusal, ccxt.AuthenticationError):
                raise
            account_mode = self._read_account_mode(market)
            if account_mode is mode:
                return
            if account_mode is not None or find_code(refusal) != REFUSAL:
                raise
            raise OrderRejected(
                f"{market['symbol']}: {mode} margin was asked for, the venue refuses the change ({REFUSAL}) and does "
                "not tell which margin mode it has: set it at the venue, or leave the strategy's margin mode out",
                "leverage",
            ) from refusal

    def _change_and_verify(self, market: Mapping[str, Any], mode: MarginMode) -> None:
        if not self._set_mode(market, mode):
            return  # the mode was set already, and the venue does not show it
        actual = self._read_symbol_mode(market)
        # A venue that shows no mode without a position answers -4046 (no change) to a repeated change that was made.
        is_made = actual is mode if actual is not None else not self._set_mode(market, mode)
        if not is_made:
            what = "the venue does not make the change" if actual is None else f"{actual} is set"
            advice = f"set it on the venue's page, or trade without {mode} margin"
            raise OrderRejected(f"{market['id']}: {mode} margin was asked for and {what}: {advice}", "leverage")

    def _set_mode(self, market: Mapping[str, Any], mode: MarginMode) -> bool:
        """Whether the venue accepted a change; False where there was none to make."""
        try:
            answer = self._exchange.set_margin_mode(mode.value, market["symbol"])
        except ccxt.NoChange:
            return False
        return not (isinstance(answer, dict) and str(answer.get("code")) == NO_CHANGE)  # ccxt makes it an answer

    def _read_symbol_mode(self, market: Mapping[str, Any]) -> MarginMode | None:
        """None where the venue does not publish it."""
        endpoint = ENDPOINTS.get(self._exchange.id)
        if endpoint is None:
            return None
        rows = getattr(self._exchange, endpoint)({"symbol": market["id"]})
        modes = {parse_margin_type(row) for row in rows if row.get("symbol") == market["id"]}
        return MarginMode(modes.pop()) if len(modes) == 1 else None

    def _read_account_mode(self, market: Mapping[str, Any]) -> MarginMode | None:
        """As `_read_symbol_mode`, from the whole account, which may show more and weighs more."""
        sources = SOURCES.get(self._exchange.id, {}).get(MARGIN_TYPE)
        if not sources:
            return None
        source = sources[-1]
        found = source.parse(getattr(self._exchange, source.endpoint)())["margin"].get(market["id"])
        return None if found is None else MarginMode(found)


def apply_entry_settings(
    market: Mapping[str, Any], entry: OrderRequest, modes: MarginModeControl, leverages: LeverageControl
) -> None:
    """Sets margin mode, then leverage of an entry, because the first may change the second. Raises as both do."""
    if entry.margin_mode is not None and modes.ensure_mode(market, entry.margin_mode):
        leverages.forget(market)
    if entry.leverage is not None:
        leverages.ensure_leverage(market, entry.leverage)


def has_entry_settings(
    market: Mapping[str, Any], entry: OrderRequest, modes: MarginModeControl, leverages: LeverageControl
) -> bool:
    """Whether `apply_entry_settings` needs no request."""
    has_mode = entry.margin_mode is None or modes.is_cached(market, entry.margin_mode)
    return has_mode and (entry.leverage is None or leverages.is_cached(market, entry.leverage))


class EntrySettings:
    """The margin modes and leverages of one account, set for its entries."""

    def __init__(self, exchange: Any) -> None:
        self._exchange = exchange
        self.leverage = LeverageControl(exchange)
        self.margin_modes = MarginModeControl(exchange)
        self._lock = threading.RLock()

    def prepare_entry(self, entry: OrderRequest, *, is_flat: bool) -> bool:
        """Margin mode and leverage of `entry`; see `Venue.prepare_entry`."""
        with self.acquire_client() as exchange:
            market = get_market(exchange, entry.symbol)
            if is_flat:
                self.margin_modes.forget(market)
            if has_entry_settings(market, entry, self.margin_modes, self.leverage):
                return False
            apply_entry_settings(market, entry, self.margin_modes, self.leverage)
            return True

    def fetch_margin_mode(self, symbol: str) -> MarginMode | None:
        """The symbol's mode, read now; None where the venue does not publish it."""
        with self.acquire_client() as exchange:
            return self.margin_modes.fetch_mode(get_market(exchange, symbol))

    @contextmanager
    def acquire_client(self) -> Iterator[Any]:
        """The client, locked for this thread."""
        with self._lock, translate_errors(self._exchange):
            yield self._exchange

    def close(self) -> None:
        self._exchange.session.close()
