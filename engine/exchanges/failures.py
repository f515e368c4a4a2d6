"""The one place where ccxt's exceptions become ours."""

import decimal
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import ccxt
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from engine.errors import (
    CredentialsRefused,
    OutcomeUnknown,
    RefusalKind,
    SparkyError,
    StrategyFault,
    UpstreamUnavailable,
    VenueRefused,
)
from engine.retry_after import retry_after_s

# Binance-shaped codes whose meaning is "the execution status is unknown".
UNKNOWN_CODES: Final = {"-1000", "-1001", "-1006", "-1007"}
REFUSALS: Final = (
    ccxt.InsufficientFunds,
    ccxt.InvalidOrder,
    ccxt.OperationRejected,
    ccxt.BadRequest,
    ccxt.ArgumentsRequired,
    ccxt.NotSupported,
)
# Binance's error codes, as Aster documents them too.
FILTERS: Final = (
    -1013,
    -1111,
    -4001,
    -4002,
    -4003,
    -4004,
    -4005,
    -4006,
    -4007,
    -4013,
    -4014,
    -4016,
    -4023,
    -4024,
    -4164,
)
KIND_OF_CODE: Final[Mapping[str, RefusalKind]] = {
    **{str(code): "filter" for code in FILTERS},
    **dict.fromkeys(("-2022", "-4118"), "reduce_only"),
    **dict.fromkeys(("-2027", "-2028", "-4028"), "leverage"),
    "-2021": "would_trigger",
}
# ccxt takes these for rate limits, but waiting does not help: the account has as many open orders as it may have.
TOO_MANY_OPEN: Final = {"-2025", "-4032", "-4045"}
TOO_MANY: Final = (ccxt.DDoSProtection, ccxt.RateLimitExceeded)
# What ccxt's parsers raise on an answer that has another shape than they expect.
UNREADABLE: Final = (TypeError, KeyError, AttributeError, ValueError, IndexError, ArithmeticError)


@contextmanager
def translated(exchange: Any, *, ordering: bool = False) -> Iterator[None]:
    """Turns what ccxt raises inside the block into our errors. With `ordering`, silence means OutcomeUnknown.

    ccxt changes rounding and traps of the thread's decimal context; here that ends with the block.
    """
    try:
        with decimal.localcontext():
            yield
    except SparkyError:
        raise
    except ccxt.BaseError as error:
        raise ours(error, _retry_after_s(exchange), ordering=ordering) from error
    except UNREADABLE as error:
        reason = f"{exchange.id} sent an answer that cannot be read ({type(error).__name__})"
        raise _silence(reason, ordering=ordering) from error


def ours(error: ccxt.BaseError, wait_s: float | None, *, ordering: bool) -> SparkyError:
    """The caller's next move for one of ccxt's errors; `wait_s` is what the last response asked for."""
    reason = said(error)
    if ordering and _code(error) in UNKNOWN_CODES:
        return OutcomeUnknown(reason)
    if _code(error) in TOO_MANY_OPEN:
        return VenueRefused(reason)
    if isinstance(error, TOO_MANY):
        return UpstreamUnavailable("venue", reason, wait_s)
    if isinstance(error, ccxt.InvalidNonce) or _never_connected(error):
        return UpstreamUnavailable("venue", reason)
    return _verdict(error, reason) or _silence(reason, ordering=ordering)


def _verdict(error: ccxt.BaseError, reason: str) -> SparkyError | None:
    """What the venue decided, if the error says that it understood and decided."""
    if isinstance(error, ccxt.AuthenticationError):
        return CredentialsRefused(f"The venue does not accept the credentials: {reason}.")
    if isinstance(error, ccxt.BadSymbol):
        return StrategyFault(f"the venue does not list the symbol: {reason}")
    if isinstance(error, REFUSALS) or _is_coded_refusal(error):
        return VenueRefused(reason, _kind(error))
    return None


def _is_coded_refusal(error: ccxt.BaseError) -> bool:
    """A code of the venue's that ccxt has no name for: still an answer, and a 4xx, as `Plain` has taken the 5xx out."""
    return type(error) is ccxt.ExchangeError and _code(error) is not None


def _kind(error: ccxt.BaseError) -> RefusalKind:
    if isinstance(error, ccxt.InsufficientFunds):
        return "funds"
    return KIND_OF_CODE.get(_code(error) or "", "rejected")


def said(error: ccxt.BaseError) -> str:
    """The venue's own words where it had some; else ccxt's, without the query (it holds a signature)."""
    answer = _answer(error)
    if answer:
        return f"{answer.get('msg', '')} ({answer.get('code')})".strip()
    return f"{str(error).partition('?')[0][:200]} ({type(error).__name__})"


def _silence(reason: str, *, ordering: bool) -> SparkyError:
    return OutcomeUnknown(reason) if ordering else UpstreamUnavailable("venue", reason)


def _answer(error: ccxt.BaseError) -> dict[str, Any]:
    start = str(error).find("{")
    try:
        answer = json.loads(str(error)[start:]) if start >= 0 else {}
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) and "code" in answer else {}


def _code(error: ccxt.BaseError) -> str | None:
    return str(_answer(error).get("code")) if _answer(error) else None


def _never_connected(error: BaseException) -> bool:
    """True when no connection was made, so that nothing can have been sent."""
    cause: Any = error.__cause__
    inner = cause.args[0] if cause is not None and cause.args else None
    return isinstance(getattr(inner, "reason", inner), (NewConnectionError, ConnectTimeoutError))


def _retry_after_s(exchange: Any) -> float | None:
    return retry_after_s((exchange.last_response_headers or {}).get("Retry-After"), datetime.now(UTC))
