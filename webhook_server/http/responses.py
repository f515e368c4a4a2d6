"""Every answer that a sender can get: turns a result of the server into status, headers and body."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final
from uuid import UUID

from engine.domain import decimals
from engine.domain.positions import Position
from engine.platform.errors import UpstreamUnavailable
from engine.risk.limit_breach import LimitBreach
from engine.risk.sizing import increase_position
from engine.store.webhook_rows import Fill
from webhook_server.execution.results import (
    Booked,
    Closed,
    Conflict,
    EntryResult,
    Failed,
    Invalid,
    NotExecuted,
    Opened,
    Pnl,
    Refused,
    Rejected,
    Repeated,
    Result,
    Retryable,
    Skipped,
    Stamp,
    StoredAnswer,
    Undone,
    Unprotected,
    build_unavailable,
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


def render(result: Result) -> WebhookResponse:
    """The answer to a signal that ended as `result`."""
    return _RENDERERS[type(result)](result)


def encode_for_store(result: Result) -> StoredAnswer:
    """The answer without its headers, as a repetition of the signal will get it."""
    answer = render(result)
    return StoredAnswer(answer.status, dict(answer.body))


def authentication_failure(error: str, hint: str = AUTHENTICATION_HINT) -> WebhookResponse:
    """401: `hint` says how a sender proves which user it is."""
    return WebhookResponse(401, {"success": False, "error": error, "hint": hint})


def body_too_large(limit_bytes: int) -> WebhookResponse:
    return WebhookResponse(413, {"success": False, "error": f"The body is larger than {limit_bytes} bytes"})


def body_timeout(timeout_s: float) -> WebhookResponse:
    return WebhookResponse(408, {"success": False, "error": f"The body did not arrive within {timeout_s:g} s"})


def too_many_requests(retry_after_s: float) -> WebhookResponse:
    """429 of our own, without a `limitType`: the same signal may be sent again later."""
    body = {
        "success": False,
        "error": "Too many requests",
        "message": "One user sends too many entries",
    }
    return WebhookResponse(429, body, {"Retry-After": str(max(1, math.ceil(retry_after_s)))})


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
    body = {
        "success": False,
        "error": result.error,
        "field": result.field_name,
        "fields": list(result.fields or (result.field_name,)),
    }
    return WebhookResponse(400, body | ({"hint": result.hint} if result.hint else {}))


def _render_conflict(result: Conflict) -> WebhookResponse:
    message = f"signal_id {result.request_id} was used before for another body; a new signal needs a new id"
    return WebhookResponse(409, {"success": False, "error": "Conflict", "message": message})


def _render_refused(result: Refused) -> WebhookResponse:
    """429; `limitType` is one of `limit_breach.LimitType`."""
    return WebhookResponse(429, _breach_body(result.breach))


def _breach_body(breach: LimitBreach) -> dict[str, Any]:
    data = {"limitType": breach.limit_type.value, "current": to_json(breach.current), "limit": to_json(breach.limit)}
    return {"success": False, "error": "Risk limit exceeded", "message": breach.message, "data": data}


def _render_retryable(result: Retryable) -> WebhookResponse:
    headers = {"Retry-After": str(int(result.retry_after_s))}
    return WebhookResponse(503, {"success": False, "error": result.reason}, headers)


def _render_failed(result: Failed) -> WebhookResponse:
    """500: our own fault; says nothing about its inside."""
    return WebhookResponse(500, {"success": False, "error": "Internal error", "duration": result.duration_ms})


def _render_booked(result: Booked) -> WebhookResponse:
    return WebhookResponse(200, result.body)


def _render_repeated(result: Repeated) -> WebhookResponse:
    return WebhookResponse(result.status, result.body, REPLAY_HEADERS)


def _render_skipped(result: Skipped) -> WebhookResponse:
    body = {"success": True, "action": "skipped", "reason": result.reason}
    return _finish(body, result.stamp, result.closed, is_paper=result.is_paper)


def _render_rejected(result: Rejected) -> WebhookResponse:
    return _finish(_rejected_body(result.reason), result.stamp, result.closed, is_paper=result.is_paper)


def _rejected_body(reason: str) -> dict[str, Any]:
    return {"success": False, "action": "rejected", "error": reason, "reason": reason}


def _render_undone(result: Undone) -> WebhookResponse:
    undo = result.undo
    undone = {**_fill_fields(result.fill), "exitPrice": undo.price, "exit_order_id": undo.order_id}
    body = {**_rejected_body(result.error), "undone": undone}
    return _finish(body, result.stamp, result.closed, is_paper=result.is_paper)


def _render_unprotected(result: Unprotected) -> WebhookResponse:
    reason = result.error
    body = {"success": False, "action": "unprotected", "error": reason, "reason": reason, **_fill_fields(result.fill)}
    return _finish(body, result.stamp, result.closed, is_paper=result.is_paper)


def _render_opened(result: Opened) -> WebhookResponse:
    """`quantity`, `fill_price` and `position_size_usd` beside `position` are of this order alone."""
    entry, fill = result.entry, result.entry.fill
    body = {
        "success": True,
        "action": "opened",
        "position": _position_fields(entry, result.position),
        **_fill_fields(fill),
        "position_size_usd": decimals.product(fill.quantity, fill.price),
        "requested_usd": entry.requested_usd,
        "allowed_usd": entry.allowed_usd,
        "reduced_by": list(entry.reduced_by),
    }
    return _finish(body, result.stamp, entry.closed, is_paper=result.is_paper)


def _position_fields(entry: EntryResult, position: Position | None) -> dict[str, Any]:
    fill, before = entry.fill, entry.before
    quantity, entry_price, cost_usd = increase_position(before, fill)
    stop = fill.stop_loss_price or (before and before.stop_loss_price)
    target = fill.take_profit_price or (before and before.take_profit_price)
    if position is not None:
        quantity, entry_price, cost_usd = position.quantity, position.entry_price, position.position_size_usd
        stop, target = position.stop_loss_price, position.take_profit_price
    return {
        "symbol": fill.symbol,
        "side": fill.side.value,
        "quantity": quantity,
        "entry_price": entry_price,
        "position_size_usd": cost_usd,
        "leverage": fill.leverage,
        "stop_loss_price": stop,
        "take_profit_price": target,
    }


def _render_closed(result: Closed) -> WebhookResponse:
    """Where `pnl` is not known yet the store adds it."""
    fill = result.fill
    body = {"success": True, "action": "closed", **_fill_fields(fill), "exitPrice": fill.price}
    dust = fill.quantity if fill.kind == "dust" else fill.dust or Decimal(0)
    body["remaining_quantity"] = result.held - fill.quantity - (fill.dust or Decimal(0))
    if dust:
        body["dust"] = {"quantity": dust, "usd": _round_to_cents(decimals.product(dust, fill.price))}
    if result.still_open:
        body["still_open"] = [
            {"side": each.side.value, "quantity": each.quantity, "paper": each.is_paper} for each in result.still_open
        ]
    body["closeOrder"] = {"orderId": fill.order_id, "price": fill.price, "quantity": fill.quantity}
    if isinstance(result.refusal, LimitBreach):
        body["entryRefused"] = _breach_body(result.refusal)
    elif result.refusal is not None:
        body["entryRefused"] = {"success": False, "message": result.refusal}
    answer = _finish(body, result.stamp, is_paper=result.is_paper)
    return answer if result.pnl is None else WebhookResponse(200, {**answer.body, "pnl": _pnl_fields(result.pnl)})


def _finish(
    body: Mapping[str, Any], stamp: Stamp, closed: Closed | None = None, *, is_paper: bool | None
) -> WebhookResponse:
    """200 with `body`, the exit that was made before, and what every final answer says of its request."""
    whole = {**body, "signal_id": stamp.signal_id, "duration": stamp.duration_ms}
    if closed is not None:
        whole = {**body, "closed": _closed_leg_fields(closed), **whole}
    return WebhookResponse(200, to_json(whole if is_paper is None else {**whole, "paper": is_paper}))


def _pnl_fields(pnl: Pnl) -> dict[str, Any]:
    fields: dict[str, Any] = to_json({"usd": _round_to_cents(pnl.usd), "percent": _round_to_cents(pnl.percent)})
    return fields


def _round_to_cents(value: Decimal) -> Decimal:
    """Half-even whatever the thread's decimal context says: ccxt leaves another rounding in it."""
    return value.quantize(Decimal("0.01"), ROUND_HALF_EVEN)


def _fill_fields(fill: Fill) -> dict[str, Any]:
    return {
        "exchange": fill.exchange,
        "symbol": fill.symbol,
        "side": fill.side.value,
        "order_id": fill.order_id,
        "orderId": fill.order_id,
        "fill_price": fill.price,
        "quantity": fill.quantity,
        "fee_usd": fill.fee_usd,
    }


def _closed_leg_fields(closed: Closed) -> dict[str, Any]:
    body = render(closed).body
    return {name: body.get(name) for name in ("order_id", "fill_price", "quantity", "fee_usd", "pnl")}


def to_json(value: Any) -> Any:
    """`value` as JSON carries it: Decimals become numbers (whole ones integers), ids and moments text."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and abs(value) < 10**15 else float(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {key: to_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(inner) for inner in value]
    return value


_RENDERERS: Final[dict[type[Result], Callable[[Any], WebhookResponse]]] = {
    Booked: _render_booked,
    Closed: _render_closed,
    Conflict: _render_conflict,
    Failed: _render_failed,
    Invalid: _render_invalid,
    NotExecuted: _render_retryable,
    Opened: _render_opened,
    Refused: _render_refused,
    Rejected: _render_rejected,
    Repeated: _render_repeated,
    Retryable: _render_retryable,
    Skipped: _render_skipped,
    Undone: _render_undone,
    Unprotected: _render_unprotected,
}
