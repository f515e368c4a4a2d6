"""Reads from a venue how an account is set up, part by part."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

from engine.errors import CredentialsRefused, SparkyError
from engine.exchanges.account_state import AccountState
from engine.exchanges.listing import exact
from engine.exchanges.readings import DOLLARS

Asking = Callable[[], AbstractContextManager[None]]
WITHIN_S: Final = 10.0  # no further part is asked for after that

MODE: Final = "the position mode"
ASSETS: Final = "the multi-assets mode"
ACCOUNT: Final = "the balance"


@dataclass(frozen=True)
class Endpoints:
    """ccxt's names of a venue's endpoints."""

    mode: str
    assets: str
    account: str


_BINANCE: Final = Endpoints(
    "fapiPrivateGetPositionSideDual", "fapiPrivateGetMultiAssetsMargin", "fapiPrivateV2GetAccount"
)
ENDPOINTS: Final[Mapping[str, Endpoints]] = {
    "aster": Endpoints(
        "fapiPrivateGetV3PositionSideDual", "fapiPrivateGetV3MultiAssetsMargin", "fapiPrivateGetV3Account"
    ),
    "binance": _BINANCE,
    "binanceusdm": _BINANCE,
}


def read_state(exchange: Any, asking: Asking, monotonic: Callable[[], float] = time.monotonic) -> AccountState:
    """Asks for each part on its own (weights 30, 30 and 5), so that one that fails hides no other. Never raises.

    `asking` translates what ccxt raises, and is left between the parts.
    """
    endpoints = ENDPOINTS.get(exchange.id)
    if endpoints is None:
        return AccountState(unknown={"the account": f"it cannot be looked at on {exchange.id}"})
    parts: Mapping[str, Callable[[], dict[str, Any]]] = {
        MODE: lambda: {"hedge_mode": _truth(getattr(exchange, endpoints.mode)()["dualSidePosition"])},
        ASSETS: lambda: {"multi_assets": _truth(getattr(exchange, endpoints.assets)()["multiAssetsMargin"])},
        ACCOUNT: lambda: _account(getattr(exchange, endpoints.account)()),
    }
    read: dict[str, Any] = {}
    unknown: dict[str, SparkyError] = {}
    started = monotonic()
    for part, ask in parts.items():
        if monotonic() - started > WITHIN_S:
            unknown[part] = SparkyError("not asked, as the venue is slow")
            continue
        try:
            with asking():
                read |= ask()
        except SparkyError as error:
            unknown[part] = error
    reasons = {part: str(error) for part, error in unknown.items()}
    is_refused = not read and all(isinstance(error, CredentialsRefused) for error in unknown.values())
    return AccountState(refusal=reasons[MODE] if is_refused else None, unknown=reasons, **read)


def _account(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Raises ValueError for an answer that tells nothing of what is looked for."""
    free = [exact(row["availableBalance"]) for row in raw.get("assets") or () if row["asset"] in DOLLARS]
    can_trade = None if raw.get("canTrade") is None else _truth(raw["canTrade"])
    if can_trade is None and not free:
        raise ValueError("neither a balance nor a right")
    margin = {str(row["symbol"]): _margin_type(row) for row in raw.get("positions") or ()}
    return {"can_trade": can_trade, "available_usd": max(free, default=None), "margin": margin}


def _margin_type(position: Mapping[str, Any]) -> str:
    told = position.get("isolated")
    is_isolated = str(position.get("marginType")).lower() == "isolated" if told is None else _truth(told)
    return "isolated" if is_isolated else "cross"


def _truth(value: Any) -> bool:
    """Raises ValueError for what is neither true nor false, in JSON or as text."""
    text = str(value).lower()
    if text not in {"true", "false"}:
        raise ValueError("neither true nor false")
    return text == "true"
