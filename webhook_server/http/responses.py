"""Renders every response of the server: a result value becomes status, headers and body."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from engine.platform.errors import UpstreamUnavailable
from webhook_server.execution.results import (
    Booked,
    Closed,
    Conflict,
    Failed,
    Invalid,
    NotExecuted,
    Opened,
    Refused,
    Rejected,
    Repeated,
    Result,
    Retryable,
    Skipped,
    StoredAnswer,
    Undone,
    Unprotected,
    build_unavailable,
)
from webhook_server.http import executed_bodies
from webhook_server.http.body_types import Body
from webhook_server.http.response_models import (
    ConflictBody,
    ErrorBody,
    FailedBody,
    HintedErrorBody,
    InvalidBody,
    LimitBreachBody,
    TooManyRequestsBody,
)

_CREATION_HINT: Final = "`sparky credentials set webhook --new` makes one."
AUTHENTICATION_HINT: Final = (
    "Send the webhook secret of this user as `secret`, or sign the request per Standard Webhooks. " + _CREATION_HINT
)
READ_AUTHENTICATION_HINT: Final = "Send the webhook secret in the header X-Webhook-Secret. " + _CREATION_HINT
ROUTING_HINTS: Final = {  # by status, for the sender and for the log
    404: "there is nothing at this path; signals go to /webhook or /webhook/ai-signal by POST",
    405: "this path has another method; signals go to /webhook or /webhook/ai-signal by POST",
}
REPLAY_HEADERS: Final = {
    "Idempotent-Replayed": "true"
}  # the name that Stripe gave to the header of a repeated response
_LOG_FIELDS: Final = {
    "done": "action",
    "side": "side",
    "quantity": "quantity",
    "price": "fill_price",
    "fee_usd": "fee_usd",
    "error": "error",
    "reason": "reason",
    "took_ms": "duration",
}


@dataclass(frozen=True)
class WebhookResponse:
    """Status, body and extra headers, such as Retry-After (seconds).

    `body` is JSON, as a model rendered it or as the database stored it.
    """

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


def respond(status: int, body: Body, headers: Mapping[str, str] | None = None) -> WebhookResponse:
    """A response with the JSON of `body`."""
    return WebhookResponse(status, body.to_json(), headers or {})


def render(result: Result) -> WebhookResponse:
    """The response to a signal that ended as `result`."""
    kind = type(result)
    if kind in _BODY_BUILDERS:
        return respond(200, _BODY_BUILDERS[kind](result))
    return _RENDERERS[kind](result)


def encode_for_store(result: Result) -> StoredAnswer:
    """The response without its headers, as the database keeps it for repetitions of the signal."""
    response = render(result)
    return StoredAnswer(response.status, dict(response.body))


def render_authentication_failure(error: str, hint: str = AUTHENTICATION_HINT) -> WebhookResponse:
    """401: `hint` says how a sender proves which user it is."""
    return respond(401, HintedErrorBody(success=False, error=error, hint=hint))


def render_routing_failure(status: int, error: str) -> WebhookResponse:
    """404 and 405 in the shape of every other refusal."""
    hint = ROUTING_HINTS.get(status)
    if hint is None:
        return respond(status, ErrorBody(success=False, error=error))
    return respond(status, HintedErrorBody(success=False, error=error, hint=hint))


def render_body_too_large(limit_bytes: int) -> WebhookResponse:
    return respond(413, ErrorBody(success=False, error=f"The body is larger than {limit_bytes} bytes"))


def render_body_timeout(timeout_s: float) -> WebhookResponse:
    return respond(408, ErrorBody(success=False, error=f"The body did not arrive within {timeout_s:g} s"))


def render_rate_limited(retry_after_s: float) -> WebhookResponse:
    """429 of the user rate limiter: without a `limitType`, since the same signal may be sent again later."""
    body = TooManyRequestsBody(success=False, error="Too many requests", message="One user sends too many entries")
    return respond(429, body, {"Retry-After": str(max(1, math.ceil(retry_after_s)))})


def render_unavailable(error: UpstreamUnavailable, exchange: str | None = None) -> WebhookResponse:
    """503 with Retry-After; see `build_unavailable`."""
    return render(build_unavailable(error, exchange))


def to_log_fields(response: WebhookResponse) -> dict[str, object]:
    """The response's fields for the log: action, quantity, price, fee, P&L, error. None is left out."""
    body = response.body
    fields = {key: body.get(name) for key, name in _LOG_FIELDS.items()}
    pnl = body.get("pnl")
    fields["pnl_usd"] = pnl.get("usd") if isinstance(pnl, Mapping) else None
    return {key: value for key, value in fields.items() if value is not None}


def _render_invalid(result: Invalid) -> WebhookResponse:
    fields = result.fields or (result.field_name,)
    body = InvalidBody(
        success=False, error=result.error, field=result.field_name, fields=fields, hint=result.hint or None
    )
    return respond(400, body)


def _render_conflict(result: Conflict) -> WebhookResponse:
    message = f"signal_id {result.request_id} was used before for another body; a new signal needs a new id"
    return respond(409, ConflictBody(success=False, error="Conflict", message=message))


def _render_refused(result: Refused) -> WebhookResponse:
    breach = result.breach
    body = LimitBreachBody(
        success=False,
        error="Risk limit exceeded",
        message=breach.message,
        data=executed_bodies.build_limit_data(breach),
    )
    return respond(429, body)


def _render_retryable(result: Retryable) -> WebhookResponse:
    headers = {"Retry-After": str(int(result.retry_after_s))}
    return respond(503, ErrorBody(success=False, error=result.reason), headers)


def _render_failed(result: Failed) -> WebhookResponse:
    # The body tells no cause: an exception's text may hold a secret or a query. The log has the traceback.
    return respond(500, FailedBody(success=False, error="Internal error", duration=result.duration_ms))


def _render_booked(result: Booked) -> WebhookResponse:
    return WebhookResponse(200, result.body)


def _render_repeated(result: Repeated) -> WebhookResponse:
    return WebhookResponse(result.status, result.body, REPLAY_HEADERS)


# Status 200, also of what the venue rejected: the signal is settled, and a sender must not retry it. `success` says
# whether the signal did what it asked for.
_BODY_BUILDERS: Final[dict[type[Result], Callable[[Any], Body]]] = {
    Closed: executed_bodies.build_closed,
    Opened: executed_bodies.build_opened,
    Rejected: executed_bodies.build_rejected,
    Skipped: executed_bodies.build_skipped,
    Undone: executed_bodies.build_rejected,
    Unprotected: executed_bodies.build_unprotected,
}
_RENDERERS: Final[dict[type[Result], Callable[[Any], WebhookResponse]]] = {
    Booked: _render_booked,
    Conflict: _render_conflict,
    Failed: _render_failed,
    Invalid: _render_invalid,
    NotExecuted: _render_retryable,
    Refused: _render_refused,
    Repeated: _render_repeated,
    Retryable: _render_retryable,
}
