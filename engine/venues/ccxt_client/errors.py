"""The one place where ccxt's exceptions become ours."""

import decimal
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import ccxt
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from engine.domain.errors import (
    ClockRefused,
    OutcomeUnknown,
    OutsidePriceBand,
    RefusalKind,
    StrategyFault,
    VenueRefused,
)
from engine.platform.errors import CredentialsRefused, SparkyError, UpstreamUnavailable
from engine.platform.http.retry_after import retry_after_s
from engine.venues.ccxt_client import error_codes
from engine.venues.ccxt_client.error_text import Words, code_of
from engine.venues.ccxt_client.venue_clock import difference

REFUSALS: Final = (
    ccxt.InsufficientFunds,
    ccxt.InvalidOrder,
    ccxt.OperationRejected,
    ccxt.BadRequest,
    ccxt.ArgumentsRequired,
    ccxt.NotSupported,
)
TOO_MANY: Final = (ccxt.DDoSProtection, ccxt.RateLimitExceeded)
# What ccxt's parsers raise on an answer that has another shape than they expect.
UNREADABLE: Final = (TypeError, KeyError, AttributeError, ValueError, IndexError, ArithmeticError, RecursionError)


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
        raise ours(error, _reason(exchange, error), _retry_after_s(exchange), ordering=ordering) from error
    except UNREADABLE as error:
        reason = f"{exchange.id} sent an answer that cannot be read ({type(error).__name__})"
        raise _silence(reason, ordering=ordering) from error


def means_other_listing(error: BaseException) -> bool:
    """Whether the venue's code means that its list has changed."""
    return _has_code(error, error_codes.CHANGED)


def means_margin_held(error: BaseException) -> bool:
    """Whether the venue's code means that something in the symbol keeps its margin mode."""
    return _has_code(error, error_codes.MARGIN_HELD)


def _has_code(error: BaseException, wanted: Collection[str]) -> bool:
    """Whether one of our errors, or what it was raised from, has one of these codes of the venue's."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ccxt.BaseError) and code_of(cause) in wanted:
            return True
        cause = cause.__cause__
    return False


def ours(error: ccxt.BaseError, reason: str, wait_s: float | None, *, ordering: bool) -> SparkyError:
    """The caller's next move for one of ccxt's errors, which the venue gave `reason` for.

    `wait_s` is what the last response asked for.
    """
    decided = _by_code(code_of(error), reason, wait_s, ordering=ordering)
    if decided is not None:
        return decided
    if isinstance(error, TOO_MANY):
        return UpstreamUnavailable("venue", reason, wait_s)
    if isinstance(error, ccxt.InvalidNonce) or _never_connected(error):
        return UpstreamUnavailable("venue", reason)
    return _verdict(error, reason) or _silence(reason, ordering=ordering)


def _by_code(code: str | None, reason: str, wait_s: float | None, *, ordering: bool) -> SparkyError | None:
    """What the venue's code alone decides."""
    if code in error_codes.UNKNOWN:
        return _silence(reason, ordering=ordering)
    if code == error_codes.CLOCK:
        return ClockRefused(reason, wait_s)
    if code in error_codes.LATER:
        return UpstreamUnavailable("venue", reason, wait_s)
    if code in error_codes.CREDENTIALS:
        return _not_accepted(reason)
    if code == error_codes.PRICE_BAND:
        return OutsidePriceBand(reason)
    kind = error_codes.KIND_OF_CODE.get(code or "")
    return None if kind is None else VenueRefused(reason, kind)


def _verdict(error: ccxt.BaseError, reason: str) -> SparkyError | None:
    """What the venue decided, if the error says that it understood and decided."""
    if isinstance(error, ccxt.AuthenticationError):
        return _not_accepted(reason)
    if isinstance(error, ccxt.BadSymbol):
        return StrategyFault(f"the venue does not list the symbol: {reason}")
    if isinstance(error, REFUSALS) or _is_coded_refusal(error):
        return VenueRefused(reason, _kind(error))
    return None


def _not_accepted(reason: str) -> CredentialsRefused:
    return CredentialsRefused(f"The venue does not accept the credentials: {reason}.")


def _is_coded_refusal(error: ccxt.BaseError) -> bool:
    """A code of the venue's that ccxt has no name for: still an answer, and a 4xx, as `Plain` has taken the 5xx out."""
    return type(error) is ccxt.ExchangeError and code_of(error) is not None


def _kind(error: ccxt.BaseError) -> RefusalKind:
    return "funds" if isinstance(error, ccxt.InsufficientFunds) else "rejected"


def _reason(exchange: Any, error: ccxt.BaseError) -> str:
    """The venue's words, then what a person can do about them, where that is known."""
    code = code_of(error)
    clock = difference(exchange) if code == error_codes.CLOCK else None
    told = (Words(exchange).of_error(error), clock, error_codes.ADVICE.get(code or ""))
    return ": ".join(each for each in told if each)


def _silence(reason: str, *, ordering: bool) -> SparkyError:
    return OutcomeUnknown(reason) if ordering else UpstreamUnavailable("venue", reason)


def _never_connected(error: BaseException) -> bool:
    """True when no connection was made, so that nothing can have been sent."""
    cause: Any = error.__cause__
    inner = cause.args[0] if cause is not None and cause.args else None
    return isinstance(getattr(inner, "reason", inner), (NewConnectionError, ConnectTimeoutError))


def _retry_after_s(exchange: Any) -> float | None:
    return retry_after_s((exchange.last_response_headers or {}).get("Retry-After"), datetime.now(UTC))
