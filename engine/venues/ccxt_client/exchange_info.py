"""Parses exchangeInfo of Binance-shaped venues: perpetuals, and the request weight per minute."""

from collections.abc import Mapping
from typing import Any, Final

from engine.venues.ccxt_client.request_weight import RequestWeightLimiter

# Also in TRADIFI_PERPETUAL, and in PERPETUAL_DELIVERING of one that is being settled.
PERPETUAL: Final = "PERPETUAL"
DATED_ID_SEPARATOR: Final = "_"  # in the id of a dated contract, which has the perpetual's base and quote


def parse_perpetuals(listed: Mapping[str, Any], limiter: RequestWeightLimiter) -> list[Any]:
    """The rows of `listed` that are perpetuals, under that name; one for each pair of base and quote.

    Sets the weight per minute of `limiter`.
    """
    for rule in listed.get("rateLimits") or []:
        if (rule.get("rateLimitType"), rule.get("interval")) == ("REQUEST_WEIGHT", "MINUTE"):
            limiter.set_limit(int(rule["limit"]) // int(rule["intervalNum"]))
    row_by_pair: dict[str, Any] = {}
    for row in listed["symbols"]:
        if row.get("baseAsset") and row.get("quoteAsset") and is_perpetual(row):
            pair = _build_pair(row)
            if pair not in row_by_pair or row["symbol"] == pair:
                # ccxt takes one without a kind for a spot market or for a dated contract.
                row_by_pair[pair] = {**row, "contractType": PERPETUAL}
    return list(row_by_pair.values())


def is_perpetual(row: Mapping[str, Any]) -> bool:
    """By its id, and by its contract type where the venue gives one."""
    kind, name = str(row.get("contractType") or ""), str(row["symbol"])
    if DATED_ID_SEPARATOR in name:
        return False
    return PERPETUAL in kind if kind else name == _build_pair(row)


def _build_pair(row: Mapping[str, Any]) -> str:
    return f"{row['baseAsset']}{row['quoteAsset']}"
