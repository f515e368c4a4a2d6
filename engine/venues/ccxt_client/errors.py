"""Translates ccxt's exceptions into ours; used by all clients of venues."""

import decimal
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import ccxt
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from engine.domain.errors import (
    ClockRejected,
    OrderOutcomeUnknown,
    OrderRejected,
    OutsidePriceBand,
    RejectionKind,
    StrategyFault,
    VenueUnavailable,
)
from engine.platform.errors import CredentialsError, SparkyError
from engine.platform.http.retry_after import retry_after_s
from engine.venues.ccxt_client import error_codes
from engine.venues.ccxt_client.error_text import ErrorTextReader, find_code
from engine.venues.ccxt_client.venue_clock import describe_measured_offset

REJECTION_TYPES: Final = (
    ccxt.InsufficientFunds,
    ccxt.InvalidOrder,
    ccxt.OperationRejected,
    ccxt.BadRequest,
    ccxt.ArgumentsRequired,
    ccxt.NotSupported,
)
RATE_LIMIT_TYPES: Final = (ccxt.DDoSProtection, ccxt.RateLimitExceeded)
# What ccxt's parsers raise on an answer that has another shape than they expect.
PARSE_ERROR_TYPES: Final = (
    TypeError,
    KeyError,
    AttributeError,
    ValueError,
    IndexError,
    ArithmeticError,
    RecursionError,
)


@contextmanager
def translate_errors(exchange: Any, *, ordering: bool = False) -> Iterator[None]:
    """Turns what ccxt raises inside the block into our errors. With `ordering`, no answer means OrderOutcomeUnknown.

    Restores the thread's decimal context, because ccxt changes its rounding and traps.
    """
    try:
        with decimal.localcontext():
            yield
    except SparkyError:
        raise
    except ccxt.BaseError as error:
        raise to_domain_error(
            error, _build_reason(exchange, error), _parse_retry_after_s(exchange), ordering=ordering
        ) from error
    except PARSE_ERROR_TYPES as error:
        reason = f"{exchange.id} sent an answer that cannot be read ({type(error).__name__})"
        raise _build_no_answer_error(reason, ordering=ordering) from error


def is_listing_change(error: BaseException) -> bool:
    """Whether the venue's code means that its list has changed."""
    return _has_code(error, error_codes.LISTING_CHANGED)


def is_margin_mode_locked(error: BaseException) -> bool:
    """Whether the venue's code means that something in the symbol keeps its margin mode."""
    return _has_code(error, error_codes.MARGIN_MODE_LOCKED)


def _has_code(error: BaseException, wanted: Collection[str]) -> bool:
    """Whether one of our errors, or what it was raised from, has one of these codes of the venue's."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ccxt.BaseError) and find_code(cause) in wanted:
            return True
        cause = cause.__cause__
    return False


def to_domain_error(error: ccxt.BaseError, reason: str, wait_s: float | None, *, ordering: bool) -> SparkyError:
    """The error that names the caller's next move, for one of ccxt's errors with the venue's `reason`.

    `wait_s` is the Retry-After of the last response.
    """
    decided = _find_error_for_code(find_code(error), reason, wait_s, ordering=ordering)
    if decided is not None:
        return decided
    if isinstance(error, RATE_LIMIT_TYPES):
        return VenueUnavailable(reason, wait_s)
    if isinstance(error, ccxt.InvalidNonce) or _has_never_connected(error):
        return VenueUnavailable(reason)
    return _to_rejection(error, reason) or _build_no_answer_error(reason, ordering=ordering)


def _find_error_for_code(code: str | None, reason: str, wait_s: float | None, *, ordering: bool) -> SparkyError | None:
    """The error that the venue's code alone decides; None if it does not."""
    if code in error_codes.OUTCOME_UNKNOWN:
        return _build_no_answer_error(reason, ordering=ordering)
    if code == error_codes.CLOCK:
        return ClockRejected(reason, wait_s)
    if code in error_codes.RETRY_LATER:
        return VenueUnavailable(reason, wait_s)
    if code in error_codes.CREDENTIALS:
        return _build_credentials_error(reason)
    if code == error_codes.PRICE_BAND:
        return OutsidePriceBand(reason)
    kind = error_codes.REFUSAL_KINDS.get(code or "")
    return None if kind is None else OrderRejected(reason, kind)


def _to_rejection(error: ccxt.BaseError, reason: str) -> SparkyError | None:
    """The error for a request that the venue understood and declined; None for others."""
    if isinstance(error, ccxt.AuthenticationError):
        return _build_credentials_error(reason)
    if isinstance(error, ccxt.BadSymbol):
        return StrategyFault(f"the venue does not list the symbol: {reason}")
    if isinstance(error, REJECTION_TYPES) or _is_coded_refusal(error):
        return OrderRejected(reason, _find_rejection_kind(error))
    return None


def _build_credentials_error(reason: str) -> CredentialsError:
    return CredentialsError(f"The venue does not accept the credentials: {reason}.")


def _is_coded_refusal(error: ccxt.BaseError) -> bool:
    """A code of the venue's that ccxt has no name for: still an answer, and a 4xx, as `StrictResponseMixin` has taken
    the 5xx out."""
    return type(error) is ccxt.ExchangeError and find_code(error) is not None


def _find_rejection_kind(error: ccxt.BaseError) -> RejectionKind:
    return "funds" if isinstance(error, ccxt.InsufficientFunds) else "rejected"


def _build_reason(exchange: Any, error: ccxt.BaseError) -> str:
    """The venue's text, then what a person can do about it, if that is known."""
    code = find_code(error)
    clock = describe_measured_offset(exchange) if code == error_codes.CLOCK else None
    parts = (ErrorTextReader(exchange).from_error(error), clock, error_codes.ADVICE.get(code or ""))
    return ": ".join(part for part in parts if part)


def _build_no_answer_error(reason: str, *, ordering: bool) -> SparkyError:
    """The error for a request whose outcome is unknown: only an order may have had an effect."""
    return OrderOutcomeUnknown(reason) if ordering else VenueUnavailable(reason)


def _has_never_connected(error: BaseException) -> bool:
    """True when no connection was made, so that nothing can have been sent."""
    cause: Any = error.__cause__
    inner = cause.args[0] if cause is not None and cause.args else None
    return isinstance(getattr(inner, "reason", inner), (NewConnectionError, ConnectTimeoutError))


def _parse_retry_after_s(exchange: Any) -> float | None:
    return retry_after_s((exchange.last_response_headers or {}).get("Retry-After"), datetime.now(UTC))
