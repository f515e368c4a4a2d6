"""Reads from a venue how an account is set up, part by part, so that one answer that fails hides no other."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any, Final, NamedTuple

from engine.platform.errors import CredentialsRefused, SparkyError
from engine.venues.account_setup import AccountState
from engine.venues.live.parsers import DOLLARS
from engine.venues.market_data.instruments import exact

Asking = Callable[[], AbstractContextManager[None]]
WITHIN_S: Final = 10.0  # nothing more is asked for after that


AMOUNTS: Final = ("availableBalance", "walletBalance")  # of an asset


class Source(NamedTuple):
    """One of ccxt's endpoints, and how fields of AccountState are read from its answer."""

    endpoint: str
    read: Callable[[Any], dict[str, Any]]


def _mode(raw: Any) -> dict[str, Any]:
    return {"hedge_mode": _truth(raw["dualSidePosition"])}


def _assets(raw: Any) -> dict[str, Any]:
    return {"multi_assets": _truth(raw["multiAssetsMargin"])}


def _rights(raw: Any) -> dict[str, Any]:
    return {"can_trade": _truth(raw["canTrade"])}


def _money(raw: Any) -> dict[str, Any]:
    """Raises ValueError where no asset at all is told."""
    rows = raw["assets"]
    if not rows:
        raise ValueError("the account tells no assets")
    dollars = [exact(row["availableBalance"]) for row in rows if row["asset"] in DOLLARS]
    others = [row for row in rows if row["asset"] not in DOLLARS]
    amounts = [raw.get("availableBalance"), *(row.get(field) for row in others for field in AMOUNTS)]
    return {
        "available_usd": max(dollars, default=Decimal(0)),
        "has_other_assets": any(exact(amount or 0) > 0 for amount in amounts),
    }


def _margin(raw: Any) -> dict[str, Any]:
    rows = raw["positions"] if isinstance(raw, dict) else raw
    return {"margin": {str(row["symbol"]): margin_type(row) for row in rows}}


def margin_type(row: Mapping[str, Any]) -> str:
    """``isolated`` or ``cross``, of a row of an account, a position or a symbol's settings."""
    if "isolated" in row:
        return "isolated" if _truth(row["isolated"]) else "cross"
    return "isolated" if row["marginType"].lower() == "isolated" else "cross"


def _truth(value: Any) -> bool:
    """Raises ValueError for what is neither true nor false, in JSON or as text."""
    text = str(value).lower()
    if text not in {"true", "false"}:
        raise ValueError("neither true nor false")
    return text == "true"


Sources = Mapping[str, tuple[Source, ...]]  # by part, as a sentence names it; of each the first that can be read
MODE: Final = "the position mode"
ASSETS: Final = "the multi-assets mode"
RIGHTS: Final = "whether it may trade"
MONEY: Final = "the balance"
MARGIN: Final = "the margin type"

# At Binance accountConfig and symbolConfig weigh 5 each; the two older questions for the modes weigh 30 each.
_BINANCE: Final[Sources] = {
    MODE: (Source("fapiPrivateGetAccountConfig", _mode), Source("fapiPrivateGetPositionSideDual", _mode)),
    ASSETS: (Source("fapiPrivateGetAccountConfig", _assets), Source("fapiPrivateGetMultiAssetsMargin", _assets)),
    RIGHTS: (Source("fapiPrivateGetAccountConfig", _rights), Source("fapiPrivateV2GetAccount", _rights)),
    MONEY: (Source("fapiPrivateV3GetAccount", _money), Source("fapiPrivateV2GetAccount", _money)),
    MARGIN: (Source("fapiPrivateGetSymbolConfig", _margin), Source("fapiPrivateV2GetAccount", _margin)),
}
SOURCES: Final[Mapping[str, Sources]] = {
    "aster": {
        MODE: (Source("fapiPrivateGetV3PositionSideDual", _mode),),
        ASSETS: (Source("fapiPrivateGetV3MultiAssetsMargin", _assets),),
        RIGHTS: (Source("fapiPrivateGetV3Account", _rights),),
        MONEY: (Source("fapiPrivateGetV3Account", _money),),
        MARGIN: (Source("fapiPrivateGetV3Account", _margin),),
    },
    "binance": _BINANCE,
    "binanceusdm": _BINANCE,
}


def read_state(exchange: Any, asking: Asking, monotonic: Callable[[], float] = time.monotonic) -> AccountState:
    """How the account of `exchange`, a ccxt client, is set up. Raises nothing: what cannot be read is not known.

    `asking` translates what ccxt raises; it is left between two questions, so that others who wait for it get in.
    """
    sources = SOURCES.get(exchange.id)
    if sources is None:
        return AccountState(unknown={"how it is set up": f"that cannot be looked at on {exchange.id}"})
    reader = _Reader(exchange, asking, monotonic)
    read: dict[str, Any] = {}
    unknown: dict[str, SparkyError] = {}
    for part, choices in sources.items():
        try:
            read |= reader.first(choices)
        except SparkyError as error:
            unknown[part] = error
    reasons = {part: str(error) for part, error in unknown.items()}
    is_refused = not read and all(isinstance(error, CredentialsRefused) for error in unknown.values())
    return AccountState(refusal=reasons[MODE] if is_refused else None, unknown=reasons, **read)


class _Reader:
    """Asks every endpoint once, and keeps what it answered."""

    def __init__(self, exchange: Any, asking: Asking, monotonic: Callable[[], float]) -> None:
        self._exchange = exchange
        self._asking = asking
        self._monotonic = monotonic
        self._until = monotonic() + WITHIN_S
        self._answers: dict[str, Any] = {}

    def first(self, choices: tuple[Source, ...]) -> dict[str, Any]:
        """What the first source tells that can be read. Raises what the first raised when none can."""
        failures = []
        for source in choices:
            try:
                answer = self._answer(source.endpoint)
                with self._asking():
                    return source.read(answer)
            except SparkyError as error:
                failures.append(error)
        raise failures[0]

    def _answer(self, endpoint: str) -> Any:
        if endpoint not in self._answers:
            self._answers[endpoint] = self._asked(endpoint)
        answer = self._answers[endpoint]
        if isinstance(answer, SparkyError):
            raise answer
        return answer

    def _asked(self, endpoint: str) -> Any:
        if self._monotonic() > self._until:
            return SparkyError("not asked, as the venue is slow")
        try:
            with self._asking():
                return getattr(self._exchange, endpoint)()
        except SparkyError as error:
            return error
