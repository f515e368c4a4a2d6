"""What ccxt's Aster does otherwise than we need: one request less, one nonce more."""

import time
from typing import Any

import ccxt


class Aster(ccxt.aster):  # type: ignore[misc] # ccxt has no types
    """ccxt's Aster without its spot side, its builder fee and its millisecond nonces (two in one millisecond clash)."""

    def fetch_markets(self, params: Any = None) -> Any:
        """Perpetuals only: one request instead of the three of ccxt. Its rate limit is passed on to the session."""
        listed = self.fapiPublicGetV3ExchangeInfo(params or {})
        for rule in listed.get("rateLimits") or []:
            if (rule.get("rateLimitType"), rule.get("interval")) == ("REQUEST_WEIGHT", "MINUTE"):
                self.session.backoff.learn(int(rule["limit"]) // int(rule["intervalNum"]))
        return self.parse_markets([row for row in listed["symbols"] if row.get("baseAsset")])

    def sign(self, path: str, api: Any = "public", method: str = "GET", params: Any = None, *rest: Any) -> Any:
        """ccxt lets parameters override the nonce (µs), the user and the signer that it would fill in itself."""
        given = dict(params or {})
        if api[0] == "fapiPrivate":
            given = {"nonce": str(self._next_nonce()), **self.options.get("identity", {}), **given}
        return super().sign(path, api, method, given, *rest)

    def _next_nonce(self) -> int:
        self.options["lastNonce"] = max(self.options.get("lastNonce", 0) + 1, time.time_ns() // 1_000)
        return int(self.options["lastNonce"])
