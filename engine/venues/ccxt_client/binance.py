"""What ccxt's Binance does otherwise than we need: its USDⓈ-M futures alone, and their error codes at any address."""

from typing import Any, Final

import ccxt

from engine.venues.ccxt_client.exchange_info import parse_perpetuals
from engine.venues.market_data.order_book_parser import OlderBookTimeMixin

# ccxt loads spot, linear and inverse markets, and margin pairs with the key; here nothing but the futures is asked.
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
        """ccxt knows a market by its host name, which is another one at a proxy or a simulator."""
        return self.exceptions["linear"].get(exactOrBroad, {})

    def fetch_markets(self, params: Any = None) -> Any:
        """Perpetuals only, in one request. Their rate limit is passed on to the session."""
        return self.parse_markets(parse_perpetuals(self.fapiPublicGetExchangeInfo(params or {}), self.session.limiter))

    def fetch_leverages(self, symbols: Any = None, params: Any = None) -> Any:
        """Without the brackets of the one symbol that `params` name, which ccxt would keep as if they were all."""
        return self.parse_leverages(self.fapiPrivateGetSymbolConfig(params or {}), symbols, "symbol")

    def fetch_balance(self, params: Any = None) -> Any:
        """ccxt's total has the unrealised profit in it; this one is the wallet."""
        rows = self.fapiPrivateV3GetBalance(params or {})
        told = {row["asset"]: {"total": row["balance"], "free": row["availableBalance"]} for row in rows}
        return self.safe_balance({"info": rows, **told})
