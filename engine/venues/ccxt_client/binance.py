"""Changes to ccxt's Binance: USDⓈ-M futures only, with their error codes at any address."""

from typing import Any, Final

import ccxt

from engine.venues.ccxt_client.book_time import OlderBookTimeMixin
from engine.venues.ccxt_client.exchange_info import parse_perpetuals

# because ccxt would load spot, linear and inverse markets, and margin pairs with the key
OPTIONS: Final = {
    "fetchMarkets": {"types": ["linear"]},
    "fetchMargins": False,
    "defaultSubType": "linear",
    "crossMarginPairsData": [],
    "isolatedMarginPairsData": [],
}
NOT_FOUND_ERRORS: Final = {"-20124": ccxt.OrderNotFound}  # "Invalid algo id or it has been completed."
DUPLICATE_ID_ERRORS: Final = dict.fromkeys(
    ("-4115", "-4116", "-20132"), ccxt.DuplicateOrderId
)  # ccxt: any invalid order


class Binance(OlderBookTimeMixin, ccxt.binance):  # type: ignore[misc] # ccxt has no types
    """ccxt's Binance without its spot, margin and coin-margined sides."""

    def describe(self) -> Any:
        more = {"options": OPTIONS, "exceptions": {"linear": {"exact": {**DUPLICATE_ID_ERRORS, **NOT_FOUND_ERRORS}}}}
        return self.deep_extend(super().describe(), more)

    def get_exceptions_by_url(self, url: Any, exactOrBroad: str) -> Any:  # noqa: ARG002, N803 - ccxt's names
        """The futures' codes at any address: ccxt decides by host name, which differs at a proxy or simulator."""
        return self.exceptions["linear"].get(exactOrBroad, {})

    def fetch_markets(self, params: Any = None) -> Any:
        """Perpetuals only, in one request. Passes the rate limit on to the session's limiter."""
        return self.parse_markets(parse_perpetuals(self.fapiPublicGetExchangeInfo(params or {}), self.session.limiter))

    def fetch_leverages(self, symbols: Any = None, params: Any = None) -> Any:
        """Without leverage brackets: ccxt would cache those of the symbol in `params` as if they were all."""
        return self.parse_leverages(self.fapiPrivateGetSymbolConfig(params or {}), symbols, "symbol")

    def fetch_balance(self, params: Any = None) -> Any:
        """The total is the wallet; ccxt's would include unrealised profit."""
        rows = self.fapiPrivateV3GetBalance(params or {})
        balances = {row["asset"]: {"total": row["balance"], "free": row["availableBalance"]} for row in rows}
        return self.safe_balance({"info": rows, **balances})
