"""Every answer a sender can get, in the words its clients already know; the pipeline only chooses among them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final
from uuid import UUID

from engine.domain import decimals
from engine.domain.errors import ClockRejected, VenueUnavailable
from engine.domain.positions import Position
from engine.platform.errors import UpstreamUnavailable
from engine.platform.plain_text import one_line
from engine.risk.execution_plan import ExecutionPlan
from engine.risk.limit_breach import LimitBreach
from engine.risk.sizing import increase_position
from engine.store.webhook_rows import Fill

_CREATION_HINT: Final = "`sparky credentials set webhook --new` makes one."
AUTHENTICATION_HINT: Final = (
    "Send the webhook secret of this user as `secret`, or sign the request per Standard Webhooks. " + _CREATION_HINT
)
READ_AUTHENTICATION_HINT: Final = "Send the webhook secret in the header X-Webhook-Secret. " + _CREATION_HINT
NO_CREDENTIALS_HINT: Final = (
    "Add credentials of this exchange for the user (`sparky credentials set EXCHANGE`), or leave `environment` out to "
    "trade on paper."
)
ROUTING_HINTS: Final = {  # by status, for the sender and for the log
    404: "there is nothing at this path; signals go to /webhook or /webhook/ai-signal by POST",
    405: "this path has another method; signals go to /webhook or /webhook/ai-signal by POST",
}
REPLAY_HEADERS: Final = {"Idempotent-Replayed": "true"}  # Stripe's header for an answer that is given again
ID_CONFLICT_REASON: Final = (
    "its id was used before for another body"  # the log's reason of a 409, which tells the id beside it
)
RETRY_SOON_S = 1
RETRY_LATER_S = 5
MAX_REASON_LENGTH: Final = 400


@dataclass(frozen=True)
class WebhookResponse:
    """An HTTP answer: `body` is JSON with money as numbers, `headers` are extra ones such as Retry-After (seconds)."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


def bad_request(
    field_name: str, message: str, hint: str | None = None, fields: tuple[str, ...] = ()
) -> WebhookResponse:
    """400: the sender must change `field_name`, a field's name or ``body``: the first of `fields`, if there are
    more."""
    body = {
        "success": False,
        "error": f"{field_name}: {message}",
        "field": field_name,
        "fields": list(fields or (field_name,)),
    }
    return WebhookResponse(400, body | ({"hint": hint} if hint else {}))


def authentication_failure(error: str, hint: str = AUTHENTICATION_HINT) -> WebhookResponse:
    """401: `hint` says how to prove who asks."""
    return WebhookResponse(401, {"success": False, "error": error, "hint": hint})


def id_conflict(request_id: str) -> WebhookResponse:
    message = f"signal_id {request_id} was used before for another body; a new signal needs a new id"
    return WebhookResponse(409, {"success": False, "error": "Conflict", "message": message})


def body_too_large(limit_bytes: int) -> WebhookResponse:
    return WebhookResponse(413, {"success": False, "error": f"The body is larger than {limit_bytes} bytes"})


def body_timeout(timeout_s: float) -> WebhookResponse:
    return WebhookResponse(408, {"success": False, "error": f"The body did not arrive within {timeout_s:g} s"})


def limit_exceeded(breach: LimitBreach) -> WebhookResponse:
    """429: a risk limit of the user; `limitType` is one of `limit_breach.LimitType`."""
    data = {"limitType": breach.limit_type.value, "current": to_json(breach.current), "limit": to_json(breach.limit)}
    message = breach.message
    return WebhookResponse(429, {"success": False, "error": "Risk limit exceeded", "message": message, "data": data})


def already_in_progress() -> WebhookResponse:
    return _retry_later(
        "This signal, or one before it of the same strategy or account, is being executed", RETRY_SOON_S
    )


def overload() -> WebhookResponse:
    return _retry_later("Too many signals are under way", RETRY_SOON_S)


def server_stopping() -> WebhookResponse:
    return _retry_later("This webhook server is stopping", RETRY_SOON_S)


def standby() -> WebhookResponse:
    return _retry_later("Another webhook server executes; this one stands by", RETRY_SOON_S)


def blocked_by_unsettled() -> WebhookResponse:
    return _retry_later("What an earlier signal did at the venue is not known yet; this one waits for it", RETRY_SOON_S)


def too_many_requests(retry_after_s: float) -> WebhookResponse:
    """429 of our own, without a `limitType`: the same signal may be sent again later."""
    body = {
        "success": False,
        "error": "Too many requests",
        "message": "One user sends too many entries",
    }
    return WebhookResponse(429, body, {"Retry-After": str(max(1, math.ceil(retry_after_s)))})


def upstream_unavailable(error: UpstreamUnavailable, exchange: str | None = None) -> WebhookResponse:
    """503. What the venue said is told to the sender; why our own services are away is in the log alone."""
    wait_s = RETRY_LATER_S if error.retry_after_s is None else max(1, math.ceil(error.retry_after_s))
    if not isinstance(error, VenueUnavailable):
        return _retry_later(f"The {error.service} is unavailable", wait_s)
    if isinstance(error, ClockRejected):
        message = f"{exchange or 'the venue'} refuses this host's clock: {error.reason}"
    else:
        message = f"{_name_venue(exchange)} is unavailable: {error.reason}"
    return _retry_later(one_line(message, MAX_REASON_LENGTH), wait_s)


def outcome_unknown(exchange: str, reason: str | None = None) -> WebhookResponse:
    """503: asked again, the answer to the same signal is what became of the order."""
    message = f"{_name_venue(exchange)} did not say whether it took the order; it is asked before anything is sent"
    return _retry_later(message if reason is None else one_line(f"{message}: {reason}", MAX_REASON_LENGTH), 2)


def _name_venue(exchange: str | None) -> str:
    return "The venue" if exchange is None else f"The venue {exchange}"


def internal_error(duration_ms: int) -> WebhookResponse:
    """500: our own fault; says nothing about its inside."""
    return WebhookResponse(500, {"success": False, "error": "Internal error", "duration": duration_ms})


def skipped_body(reason: str, **more: Any) -> dict[str, Any]:
    """200: nothing had to be done, and nothing was."""
    return {"success": True, "action": "skipped", "reason": reason, **more}


def rejected_body(reason: str, **more: Any) -> dict[str, Any]:
    """200 with success false: the venue (or we, on its behalf) said no for good."""
    return {"success": False, "action": "rejected", "error": reason, "reason": reason, **more}


@dataclass(frozen=True)
class EntryResult:
    """An entry that was made: its fill, what its side held before, and `closed`, the first half of a reversal.

    Of `requested_usd` limits allowed `allowed_usd`; `reduced_by` names what made the fill less than was requested.
    """

    fill: Fill
    before: Position | None
    requested_usd: Decimal
    allowed_usd: Decimal
    reduced_by: tuple[str, ...] = ()
    closed: WebhookResponse | None = None


def opened_body(entry: EntryResult, position: Position | None = None) -> dict[str, Any]:
    """200: a position was opened or increased. `position` is the whole of it as the books have it, when that is known;
    `quantity`, `fill_price` and `position_size_usd` beside it are of this order alone."""
    fill = entry.fill
    body = {
        "success": True,
        "action": "opened",
        "position": _position_fields(entry, position),
        **_fill_fields(fill),
        "position_size_usd": decimals.product(fill.quantity, fill.price),
        "requested_usd": entry.requested_usd,
        "allowed_usd": entry.allowed_usd,
        "reduced_by": list(entry.reduced_by),
    }
    return with_closed_leg(body, entry.closed)


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


def undone_body(fill: Fill, undo: Fill, reason: str, closed: WebhookResponse | None) -> dict[str, Any]:
    """200 with success false: an entry whose protection could not be placed was taken back."""
    message = f"the protection that was asked for could not be placed ({reason}), so the entry was undone"
    if undo.quantity < fill.quantity:
        message += f", but for {decimals.format_plain(fill.quantity - undo.quantity)} that the venue did not take back"
    body = rejected_body(
        message, undone={**_fill_fields(fill), "exitPrice": undo.price, "exit_order_id": undo.order_id}
    )
    return with_closed_leg(body, closed)


def unprotected_body(fill: Fill, reason: str, closed: WebhookResponse | None) -> dict[str, Any]:
    """200 with success false: an entry stands without the protection that was asked for, as it could not be undone."""
    message = f"the entry stands without the protection that was asked for, which is tried again: {reason}"
    return with_closed_leg(
        {"success": False, "action": "unprotected", "error": message, "reason": message, **_fill_fields(fill)}, closed
    )


def closed_body(fill: Fill, held: Decimal, plan: ExecutionPlan, still_open: Sequence[Position] = ()) -> dict[str, Any]:
    """200: a position of `held` was closed, wholly or in part; `plan` says why an entry closed only. The store adds
    `pnl`.

    `still_open` are the sender's other positions in the symbol, in the other book.
    """
    body = {"success": True, "action": "closed", **_fill_fields(fill), "exitPrice": fill.price}
    dust = fill.quantity if fill.kind == "dust" else fill.dust or Decimal(0)
    body["remaining_quantity"] = held - fill.quantity - (fill.dust or Decimal(0))
    if dust:
        body["dust"] = {"quantity": dust, "usd": _round_to_cents(decimals.product(dust, fill.price))}
    if still_open:
        body["still_open"] = [
            {"side": each.side.value, "quantity": each.quantity, "paper": each.is_paper} for each in still_open
        ]
    body["closeOrder"] = {"orderId": fill.order_id, "price": fill.price, "quantity": fill.quantity}
    if plan.breach is not None:
        body["entryRefused"] = limit_exceeded(plan.breach).body
    elif plan.reason is not None:
        body["entryRefused"] = {"success": False, "message": plan.reason}
    return body


def with_closed_leg(body: dict[str, Any], closed: WebhookResponse | None) -> dict[str, Any]:
    """The entry of a reversal came to `body` after its exit was made."""
    return body if closed is None else body | {"closed": _closed_leg_fields(closed)}


def with_pnl(body: Mapping[str, Any], usd: Decimal | None, percent: Decimal | None) -> dict[str, Any]:
    """What the store adds to a final answer, for a close that another leg follows."""
    if usd is None or percent is None:
        return dict(body)
    return {**body, "pnl": to_json({"usd": _round_to_cents(usd), "percent": _round_to_cents(percent)})}


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


def _closed_leg_fields(closed: WebhookResponse) -> dict[str, Any]:
    return {name: closed.body.get(name) for name in ("order_id", "fill_price", "quantity", "fee_usd", "pnl")}


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


def _retry_later(error: str, after_s: float) -> WebhookResponse:
    return WebhookResponse(503, {"success": False, "error": error}, {"Retry-After": str(int(after_s))})
