"""The margin mode of a symbol is read, set where it differs, and read back: a venue may accept a change and drop it."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import ccxt

from engine.domain.errors import VenueRefused
from engine.domain.positions import MarginMode
from engine.venues.ccxt_client.error_text import code_of
from engine.venues.live.account_setup_query import MARGIN, SOURCES, margin_type
from engine.venues.live.leverage import Leverage
from engine.venues.venue import OrderRequest

REMEMBERED_S: Final = 60.0
NO_CHANGE: Final = "-4046"
REFUSED: Final = "-4067"  # by its words of another setting; some answer it to a change that is none
# Where one symbol's mode is read: at Binance `symbolConfig`, since its newer positionRisk does not tell it.
ENDPOINTS: Final[Mapping[str, str]] = {
    "aster": "fapiPrivateGetV3PositionRisk",
    "binance": "fapiPrivateGetSymbolConfig",
    "binanceusdm": "fapiPrivateGetSymbolConfig",
}


class MarginModes:
    """The margin modes of one account's symbols. Call it under the account's lock; raises ccxt's errors too."""

    def __init__(self, exchange: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._exchange = exchange
        self._monotonic = monotonic
        self._seen: dict[str, tuple[MarginMode, float]] = {}

    def ensure(self, market: Mapping[str, Any], mode: MarginMode) -> bool:
        """Whether it had to be changed, which may have changed the symbol's leverage too.

        Raises VenueRefused ``leverage`` unless the venue itself says that it now is `mode`.
        """
        symbol = str(market["symbol"])
        if self.remembers(market, mode):
            return False
        self._seen.pop(symbol, None)
        told = self._read(market)
        is_changed = told is not mode
        if is_changed:
            self._change(market, mode, told)
        self._seen[symbol] = (mode, self._monotonic())
        return is_changed

    def remembers(self, market: Mapping[str, Any], mode: MarginMode) -> bool:
        """Whether `ensure` need not ask the venue."""
        seen, at = self._seen.get(str(market["symbol"]), (None, 0.0))
        return seen is mode and self._monotonic() - at < REMEMBERED_S

    def told(self, market: Mapping[str, Any]) -> MarginMode | None:
        """The symbol's mode, read now; None where the venue does not tell."""
        return self._read(market) or self._of_account(market)

    def forget(self, market: Mapping[str, Any]) -> None:
        """It is read again before the next entry."""
        self._seen.pop(str(market["symbol"]), None)

    def _change(self, market: Mapping[str, Any], mode: MarginMode, told: MarginMode | None) -> None:
        """Where the venue has not `told` the mode, a refusal may be of a change that is none."""
        try:
            self._changed(market, mode)
        except ccxt.ExchangeError as refusal:
            if told is not None or isinstance(refusal, ccxt.AuthenticationError):
                raise
            known = self._of_account(market)
            if known is mode:
                return
            if known is not None or code_of(refusal) != REFUSED:
                raise
            raise VenueRefused(
                f"{market['symbol']}: {mode} margin was asked for, the venue refuses the change ({REFUSED}) and does "
                "not tell which margin mode it has: set it at the venue, or leave the strategy's margin mode out",
                "leverage",
            ) from refusal

    def _changed(self, market: Mapping[str, Any], mode: MarginMode) -> None:
        if not self._set(market, mode):
            return  # it was so, and the venue does not show it
        actual = self._read(market)
        # A venue that does not show the mode of what is not held says -4046 to the same change when it was made.
        is_made = actual is mode if actual is not None else not self._set(market, mode)
        if not is_made:
            what = "the venue does not make the change" if actual is None else f"{actual} is set"
            advice = f"set it on the venue's page, or trade without {mode} margin"
            raise VenueRefused(f"{market['id']}: {mode} margin was asked for and {what}: {advice}", "leverage")

    def _set(self, market: Mapping[str, Any], mode: MarginMode) -> bool:
        """Whether the venue accepted a change; False where there was none to make."""
        try:
            answer = self._exchange.set_margin_mode(mode.value, market["symbol"])
        except ccxt.NoChange:
            return False
        return not (isinstance(answer, dict) and str(answer.get("code")) == NO_CHANGE)  # ccxt makes it an answer

    def _read(self, market: Mapping[str, Any]) -> MarginMode | None:
        """None where the venue does not tell."""
        endpoint = ENDPOINTS.get(self._exchange.id)
        if endpoint is None:
            return None
        rows = getattr(self._exchange, endpoint)({"symbol": market["id"]})
        told = {margin_type(row) for row in rows if row.get("symbol") == market["id"]}
        return MarginMode(told.pop()) if len(told) == 1 else None

    def _of_account(self, market: Mapping[str, Any]) -> MarginMode | None:
        """As `_read`, by the account as a whole, which may show more and weighs more."""
        sources = SOURCES.get(self._exchange.id, {}).get(MARGIN)
        if not sources:
            return None
        source = sources[-1]
        found = source.read(getattr(self._exchange, source.endpoint)())["margin"].get(market["id"])
        return None if found is None else MarginMode(found)


def arrange(market: Mapping[str, Any], entry: OrderRequest, modes: MarginModes, leverages: Leverage) -> None:
    """Margin mode and leverage of an entry, in this order, as the first may change the second. Raises as both do."""
    if entry.margin_mode is not None and modes.ensure(market, entry.margin_mode):
        leverages.forget(market)
    if entry.leverage is not None:
        leverages.ensure(market, entry.leverage)


def is_arranged(market: Mapping[str, Any], entry: OrderRequest, modes: MarginModes, leverages: Leverage) -> bool:
    """Whether `arrange` need not ask the venue."""
    has_mode = entry.margin_mode is None or modes.remembers(market, entry.margin_mode)
    return has_mode and (entry.leverage is None or leverages.remembers(market, entry.leverage))
