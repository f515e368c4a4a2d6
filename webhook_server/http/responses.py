"""Every answer that a sender can get: turns a result of the server into status, headers and body."""

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
REPLAY_HEADERS: Final = {"Idempotent-Replayed": "true"}  # Stripe's header for an answer that is given again
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
    """An HTTP answer: `body` is JSON with money as numbers, `headers` are extra ones such as Retry-After (seconds)."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


def respond(status: int, body: Body, headers: Mapping[str, str] | None = None) -> WebhookResponse:
    """A response with `body`."""
    return WebhookResponse(status, body.to_json(), headers or {})


def render(result: Result) -> WebhookResponse:
    """The answer to a signal that ended as `result`."""
    kind = type(result)
    if kind in _BODY_BUILDERS:
        return respond(200, _BODY_BUILDERS[kind](result))
    return _RENDERERS[kind](result)


def encode_for_store(result: Result) -> StoredAnswer:
    """The answer without its headers, as a repetition of the signal will get it."""
    answer = render(result)
    return StoredAnswer(answer.status, dict(answer.body))


def authentication_failure(error: str, hint: str = AUTHENTICATION_HINT) -> WebhookResponse:
    """401: `hint` says how a sender proves which user it is."""
    return respond(401, HintedErrorBody(success=False, error=error, hint=hint))


def routing_failure(status: int, error: str) -> WebhookResponse:
    """404 and 405 in the shape of every other refusal."""
    hint = ROUTING_HINTS.get(status)
    if hint is None:
        return respond(status, ErrorBody(success=False, error=error))
    return respond(status, HintedErrorBody(success=False, error=error, hint=hint))


def body_too_large(limit_bytes: int) -> WebhookResponse:
    return respond(413, ErrorBody(success=False, error=f"The body is larger than {limit_bytes} bytes"))


def body_timeout(timeout_s: float) -> WebhookResponse:
    return respond(408, ErrorBody(success=False, error=f"The body did not arrive within {timeout_s:g} s"))


def too_many_requests(retry_after_s: float) -> WebhookResponse:
    """429 of our own, without a `limitType`: the same signal may be sent again later."""
    body = TooManyRequestsBody(success=False, error="Too many requests", message="One user sends too many entries")
    return respond(429, body, {"Retry-After": str(max(1, math.ceil(retry_after_s)))})


def upstream_unavailable(error: UpstreamUnavailable, exchange: str | None = None) -> WebhookResponse:
    """503 with Retry-After; see `build_unavailable`."""
    return render(build_unavailable(error, exchange))


def log_fields(answer: WebhookResponse) -> dict[str, object]:
    """What the log shows of an answer: what was done, how much of it, at what price, and what it earned."""
    body = answer.body
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
    """500: our own fault; says nothing about its inside."""
    return respond(500, FailedBody(success=False, error="Internal error", duration=result.duration_ms))


def _render_booked(result: Booked) -> WebhookResponse:
    return WebhookResponse(200, result.body)


def _render_repeated(result: Repeated) -> WebhookResponse:
    return WebhookResponse(result.status, result.body, REPLAY_HEADERS)


# Their status is 200: the signal was worked on to its end, and `success` says whether that did what it asked for.
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
