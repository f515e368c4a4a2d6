"""Reads how an account is set up at its venue, part by part, so that one failed request hides no other part."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any, Final, NamedTuple

from engine.domain.decimals import to_decimal
from engine.platform.errors import CredentialsError, SparkyError
from engine.venues.account_setup import AccountSetup
from engine.venues.account_state import USD_ASSETS

QueryScope = Callable[[], AbstractContextManager[None]]
MAX_DURATION_S: Final = 10.0  # no further request is sent after that


AMOUNT_FIELDS: Final = ("availableBalance", "walletBalance")  # of an asset


class Source(NamedTuple):
    """One of ccxt's endpoints, and how fields of AccountSetup are read from its answer."""

    endpoint: str
    parse: Callable[[Any], dict[str, Any]]


def _parse_position_mode(raw: Any) -> dict[str, Any]:
    return {"hedge_mode": _parse_bool(raw["dualSidePosition"])}


def _parse_multi_assets_mode(raw: Any) -> dict[str, Any]:
    return {"multi_assets": _parse_bool(raw["multiAssetsMargin"])}


def _parse_can_trade(raw: Any) -> dict[str, Any]:
    return {"can_trade": _parse_bool(raw["canTrade"])}


def _parse_balance(raw: Any) -> dict[str, Any]:
    """Raises ValueError for an answer without assets."""
    rows = raw["assets"]
    if not rows:
        raise ValueError("the answer has no assets")
    dollars = [to_decimal(row["availableBalance"]) for row in rows if row["asset"] in USD_ASSETS]
    others = [row for row in rows if row["asset"] not in USD_ASSETS]
    amounts = [raw.get("availableBalance"), *(row.get(field) for row in others for field in AMOUNT_FIELDS)]
    return {
        "available_usd": max(dollars, default=Decimal(0)),
        "has_other_assets": any(to_decimal(amount or 0) > 0 for amount in amounts),
    }


def _parse_margin_types(raw: Any) -> dict[str, Any]:
    rows = raw["positions"] if isinstance(raw, dict) else raw
    return {"margin": {str(row["symbol"]): parse_margin_type(row) for row in rows}}


def parse_margin_type(row: Mapping[str, Any]) -> str:
    """``isolated`` or ``cross``, of a row of an account, a position or a symbol's settings."""
    if "isolated" in row:
        return "isolated" if _parse_bool(row["isolated"]) else "cross"
    return "isolated" if row["marginType"].lower() == "isolated" else "cross"


def _parse_bool(value: Any) -> bool:
    """Raises ValueError for what is neither true nor false, in JSON or as text."""
    text = str(value).lower()
    if text not in {"true", "false"}:
        raise ValueError("neither true nor false")
    return text == "true"


Sources = Mapping[str, tuple[Source, ...]]  # by part, as notes name it; the first readable source counts
POSITION_MODE: Final = "the position mode"
MULTI_ASSETS_MODE: Final = "the multi-assets mode"
TRADING_PERMISSION: Final = "whether it may trade"
BALANCE: Final = "the balance"
MARGIN_TYPE: Final = "the margin type"

# At Binance accountConfig and symbolConfig weigh 5 each, the two older requests for the modes 30 each.
_BINANCE: Final[Sources] = {
    POSITION_MODE: (
        Source("fapiPrivateGetAccountConfig", _parse_position_mode),
        Source("fapiPrivateGetPositionSideDual", _parse_position_mode),
    ),
    MULTI_ASSETS_MODE: (
        Source("fapiPrivateGetAccountConfig", _parse_multi_assets_mode),
        Source("fapiPrivateGetMultiAssetsMargin", _parse_multi_assets_mode),
    ),
    TRADING_PERMISSION: (
        Source("fapiPrivateGetAccountConfig", _parse_can_trade),
        Source("fapiPrivateV2GetAccount", _parse_can_trade),
    ),
    BALANCE: (Source("fapiPrivateV3GetAccount", _parse_balance), Source("fapiPrivateV2GetAccount", _parse_balance)),
    MARGIN_TYPE: (
        Source("fapiPrivateGetSymbolConfig", _parse_margin_types),
        Source("fapiPrivateV2GetAccount", _parse_margin_types),
    ),
}
SOURCES: Final[Mapping[str, Sources]] = {
    "aster": {
        POSITION_MODE: (Source("fapiPrivateGetV3PositionSideDual", _parse_position_mode),),
        MULTI_ASSETS_MODE: (Source("fapiPrivateGetV3MultiAssetsMargin", _parse_multi_assets_mode),),
        TRADING_PERMISSION: (Source("fapiPrivateGetV3Account", _parse_can_trade),),
        BALANCE: (Source("fapiPrivateGetV3Account", _parse_balance),),
        MARGIN_TYPE: (Source("fapiPrivateGetV3Account", _parse_margin_types),),
    },
    "binance": _BINANCE,
    "binanceusdm": _BINANCE,
}


def fetch_account_setup(
    exchange: Any, query_scope: QueryScope, monotonic: Callable[[], float] = time.monotonic
) -> AccountSetup:
    """How the account of `exchange`, a ccxt client, is set up. Raises nothing: what cannot be read is unknown.

    `query_scope` locks the account and translates ccxt's errors; it is left between two requests, for other threads.
    """
    sources = SOURCES.get(exchange.id)
    if sources is None:
        return AccountSetup(unknown={"how it is set up": f"that cannot be looked at on {exchange.id}"})
    reader = _EndpointReader(exchange, query_scope, monotonic)
    read: dict[str, Any] = {}
    unknown: dict[str, SparkyError] = {}
    for part, choices in sources.items():
        try:
            read |= reader.parse_first_available(choices)
        except SparkyError as error:
            unknown[part] = error
    reasons = {part: str(error) for part, error in unknown.items()}
    is_refused = not read and all(isinstance(error, CredentialsError) for error in unknown.values())
    return AccountSetup(refusal=reasons[POSITION_MODE] if is_refused else None, unknown=reasons, **read)


class _EndpointReader:
    """Requests every endpoint once, and caches its answer."""

    def __init__(self, exchange: Any, query_scope: QueryScope, monotonic: Callable[[], float]) -> None:
        self._exchange = exchange
        self._query_scope = query_scope
        self._monotonic = monotonic
        self._deadline = monotonic() + MAX_DURATION_S
        self._answers: dict[str, Any] = {}

    def parse_first_available(self, choices: tuple[Source, ...]) -> dict[str, Any]:
        """The fields from the first readable source. Raises the first source's error when none is readable."""
        failures = []
        for source in choices:
            try:
                answer = self._get_answer(source.endpoint)
                with self._query_scope():
                    return source.parse(answer)
            except SparkyError as error:
                failures.append(error)
        raise failures[0]

    def _get_answer(self, endpoint: str) -> Any:
        if endpoint not in self._answers:
            self._answers[endpoint] = self._fetch_answer(endpoint)
        answer = self._answers[endpoint]
        if isinstance(answer, SparkyError):
            raise answer
        return answer

    def _fetch_answer(self, endpoint: str) -> Any:
        if self._monotonic() > self._deadline:
            return SparkyError("not requested, because the venue is slow")
        try:
            with self._query_scope():
                return getattr(self._exchange, endpoint)()
        except SparkyError as error:
            return error
