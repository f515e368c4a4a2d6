"""What exchangeInfo of a Binance-shaped venue tells: its perpetuals, and how much may be asked."""

from collections.abc import Mapping
from typing import Any, Final

from engine.exchanges.backoff import Backoff

PERPETUAL: Final = "PERPETUAL"  # and TRADIFI_PERPETUAL; a dated contract has the perpetual's base and quote


def perpetuals(listed: Mapping[str, Any], backoff: Backoff) -> list[Any]:
    """The rows of `listed` that are perpetuals. `backoff` learns the weight per minute."""
    for rule in listed.get("rateLimits") or []:
        if (rule.get("rateLimitType"), rule.get("interval")) == ("REQUEST_WEIGHT", "MINUTE"):
            backoff.learn(int(rule["limit"]) // int(rule["intervalNum"]))
    return [row for row in listed["symbols"] if row.get("baseAsset") and _is_perpetual(row)]


def _is_perpetual(row: Mapping[str, Any]) -> bool:
    return str(row.get("contractType") or PERPETUAL).endswith(PERPETUAL)
