"""Changes to ccxt's Aster: perpetuals only, microsecond nonces that do not clash between clients."""

from typing import Any, Final

import ccxt

from engine.venues.ccxt_client.book_time import OlderBookTimeMixin
from engine.venues.ccxt_client.exchange_info import parse_perpetuals
from engine.venues.ccxt_client.venue_clock import get_venue_time_us

CLIENT_NUMBER: Final = "clientNumber"  # our option: the number of this client among those of its account
MAX_CLIENTS: Final = 4  # per account
DUPLICATE_ID_ERRORS: Final = {"-4116": ccxt.DuplicateOrderId}  # ccxt knows -4115


class Aster(OlderBookTimeMixin, ccxt.aster):  # type: ignore[misc] # ccxt has no types
    """ccxt's Aster without its spot side, its builder fee and its millisecond nonces (two in one millisecond clash)."""

    def describe(self) -> Any:
        return self.deep_extend(super().describe(), {"exceptions": {"exact": DUPLICATE_ID_ERRORS}})

    def fetch_markets(self, params: Any = None) -> Any:
        """Perpetuals only: one request instead of ccxt's three. Passes the rate limit on to the session's limiter."""
        return self.parse_markets(
            parse_perpetuals(self.fapiPublicGetV3ExchangeInfo(params or {}), self.session.limiter)
        )

    def sign(self, path: str, api: Any = "public", method: str = "GET", params: Any = None, *rest: Any) -> Any:
        """ccxt lets parameters override the nonce (µs), the user and the signer that it would fill in itself."""
        given = dict(params or {})
        if api[0] == "fapiPrivate":
            given = {"nonce": str(self._generate_nonce()), **self.options.get("identity", {}), **given}
        return super().sign(path, api, method, given, *rest)

    def _generate_nonce(self) -> int:
        """Unique over the account's clients, because each has its own remainder modulo `MAX_CLIENTS`."""
        now_us = get_venue_time_us(self)
        now_us += int(self.options.get(CLIENT_NUMBER, 0)) - now_us % MAX_CLIENTS
        self.options["lastNonce"] = max(self.options.get("lastNonce", 0) + MAX_CLIENTS, now_us)
        return int(self.options["lastNonce"])
