"""Builds the bodies of executed signals from their results."""

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from engine.domain import decimals
from engine.domain.positions import Position
from engine.risk.limit_breach import LimitBreach
from engine.risk.sizing import increase_position
from engine.store.webhook_rows import Fill
from webhook_server.execution.results import (
    Closed,
    EntryResult,
    Opened,
    Pnl,
    Rejected,
    Skipped,
    Stamp,
    Undone,
    Unprotected,
)
from webhook_server.http import response_models as bodies


def build_opened(result: Opened) -> bodies.OpenedBody:
    entry, fill = result.entry, result.entry.fill
    return bodies.OpenedBody(
        success=True,
        action="opened",
        position=_build_whole_position(entry, result.position),
        **_fill_fields(fill),
        position_size_usd=decimals.product(fill.quantity, fill.price),
        requested_usd=entry.requested_usd,
        allowed_usd=entry.allowed_usd,
        reduced_by=entry.reduced_by,
        closed=_build_closed_leg(entry.closed),
        **_request_fields(result.stamp),
        paper=result.is_paper,
    )


def build_closed(result: Closed) -> bodies.UnbookedClosedBody | bodies.ClosedBody:
    """Without `pnl` for an exit that is not booked yet: the database adds it in the transaction that books it."""
    fill = result.fill
    fields: dict[str, Any] = {
        "success": True,
        "action": "closed",
        **_fill_fields(fill),
        "exitPrice": fill.price,
        "remaining_quantity": result.held - fill.quantity - (fill.dust or Decimal(0)),
        "dust": _build_dust(fill),
        "still_open": tuple(map(_build_still_open, result.still_open)) or None,
        "closeOrder": bodies.CloseOrderBody(orderId=fill.order_id, price=fill.price, quantity=fill.quantity),
        "entryRefused": _build_entry_refused(result.refusal),
        **_request_fields(result.stamp),
        "paper": result.is_paper,
    }
    if result.pnl is None:
        return bodies.UnbookedClosedBody(**fields)
    return bodies.ClosedBody(**fields, pnl=_build_pnl(result.pnl))


def build_skipped(result: Skipped) -> bodies.SkippedBody:
    return bodies.SkippedBody(success=True, action="skipped", reason=result.reason, **_closing_fields(result))


def build_rejected(result: Rejected | Undone) -> bodies.RejectedBody:
    return bodies.RejectedBody(
        success=False,
        action="rejected",
        error=result.error,
        reason=result.error,
        undone=_build_undone(result) if isinstance(result, Undone) else None,
        **_closing_fields(result),
    )


def build_unprotected(result: Unprotected) -> bodies.UnprotectedBody:
    return bodies.UnprotectedBody(
        success=False,
        action="unprotected",
        error=result.error,
        reason=result.error,
        **_fill_fields(result.fill),
        **_closing_fields(result),
    )


def build_limit_data(breach: LimitBreach) -> bodies.LimitData:
    return bodies.LimitData(limitType=breach.limit_type, current=breach.current, limit=breach.limit)


def _fill_fields(fill: Fill) -> dict[str, Any]:
    return {
        "exchange": fill.exchange,
        "symbol": fill.symbol,
        "side": fill.side,
        "order_id": fill.order_id,
        "orderId": fill.order_id,
        "fill_price": fill.price,
        "quantity": fill.quantity,
        "fee_usd": fill.fee_usd,
    }


def _request_fields(stamp: Stamp) -> dict[str, Any]:
    return {"signal_id": stamp.signal_id, "duration": stamp.duration_ms}


def _closing_fields(result: Skipped | Rejected | Undone | Unprotected) -> dict[str, Any]:
    """The last keys of a body: the exit that came before the entry, the request's id and duration, and the book."""
    closed = _build_closed_leg(result.closed)
    return {"closed": closed, **_request_fields(result.stamp), "paper": result.is_paper}


def _build_whole_position(entry: EntryResult, position: Position | None) -> bodies.WholePositionBody:
    """The position as booked where that was read, else as the books will have it after the entry."""
    fill, before = entry.fill, entry.before
    quantity, entry_price, cost_usd = increase_position(before, fill)
    stop = fill.stop_loss_price or (before and before.stop_loss_price)
    target = fill.take_profit_price or (before and before.take_profit_price)
    if position is not None:
        quantity, entry_price, cost_usd = position.quantity, position.entry_price, position.position_size_usd
        stop, target = position.stop_loss_price, position.take_profit_price
    return bodies.WholePositionBody(
        symbol=fill.symbol,
        side=fill.side,
        quantity=quantity,
        entry_price=entry_price,
        position_size_usd=cost_usd,
        leverage=fill.leverage,
        stop_loss_price=stop,
        take_profit_price=target,
    )


def _build_closed_leg(closed: Closed | None) -> bodies.ClosedLegBody | None:
    if closed is None:
        return None
    fill = closed.fill
    return bodies.ClosedLegBody(
        order_id=fill.order_id,
        fill_price=fill.price,
        quantity=fill.quantity,
        fee_usd=fill.fee_usd,
        pnl=None if closed.pnl is None else _build_pnl(closed.pnl),
    )


def _build_undone(result: Undone) -> bodies.UndoneBody:
    undo = result.undo
    return bodies.UndoneBody(**_fill_fields(result.fill), exitPrice=undo.price, exit_order_id=undo.order_id)


def _build_dust(fill: Fill) -> bodies.DustBody | None:
    dust = fill.quantity if fill.kind == "dust" else fill.dust
    return bodies.DustBody(quantity=dust, usd=_round_to_cents(decimals.product(dust, fill.price))) if dust else None


def _build_still_open(position: Position) -> bodies.StillOpenBody:
    return bodies.StillOpenBody(side=position.side, quantity=position.quantity, paper=position.is_paper)


def _build_entry_refused(refusal: LimitBreach | str | None) -> bodies.EntryRefusedBody | None:
    if refusal is None:
        return None
    if isinstance(refusal, str):
        return bodies.EntryRefusedBody(success=False, message=refusal)
    return bodies.EntryRefusedBody(
        success=False, error="Risk limit exceeded", message=refusal.message, data=build_limit_data(refusal)
    )


def _build_pnl(pnl: Pnl) -> bodies.PnlBody:
    return bodies.PnlBody(usd=_round_to_cents(pnl.usd), percent=_round_to_cents(pnl.percent))


def _round_to_cents(value: Decimal) -> Decimal:
    """Half-even whatever the thread's decimal context says: ccxt leaves another rounding in it."""
    return value.quantize(Decimal("0.01"), ROUND_HALF_EVEN)
