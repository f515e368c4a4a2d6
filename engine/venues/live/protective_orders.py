"""Places a stop-loss and a take-profit as two conditional orders: both or none, and never twice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final, Literal, Protocol

from engine.domain import decimals
from engine.domain.errors import OrderOutcomeUnknown
from engine.domain.positions import Side
from engine.platform.errors import SparkyError, UpstreamUnavailable
from engine.venues.instrument import Instrument
from engine.venues.orders import OrderRequest, OrderResult, OrderStatus, Protection

RETRY_WAITS_S: Final = (0.1, 0.4)
TriggerKind = Literal["stopLossPrice", "takeProfitPrice"]  # as ccxt calls them


@dataclass(frozen=True)
class TriggerOrderRequest:
    """One conditional order: fills at the market once the last price has reached `price`."""

    order: OrderRequest
    trigger: TriggerKind
    price: Decimal


class OrderGateway(Protocol):
    """The part of an account that protection needs."""

    def find_order(self, symbol: str, client_order_id: str) -> OrderResult | None: ...

    def cancel_order(self, symbol: str, client_order_id: str) -> OrderResult | None: ...


def build_trigger_orders(protection: Protection, instrument: Instrument) -> tuple[TriggerOrderRequest, ...]:
    """The orders of `protection`, stop-loss first. Raises OrderRejected for a quantity that the venue does not
    accept."""
    quantity = instrument.require_lot_quantity(protection.quantity)
    wanted: tuple[tuple[TriggerKind, str, Decimal | None], ...] = (
        ("stopLossPrice", protection.stop_loss_id, protection.stop_loss_price),
        ("takeProfitPrice", protection.take_profit_id, protection.take_profit_price),
    )
    return tuple(
        TriggerOrderRequest(
            _build_order(protection, name, quantity),
            trigger,
            round_trigger_price(instrument, protection.side, trigger, price),
        )
        for trigger, name, price in wanted
        if price is not None
    )


def refit_trigger_order(trigger_order: TriggerOrderRequest, instrument: Instrument) -> TriggerOrderRequest:
    """`trigger_order` fitted to `instrument`. Raises OrderRejected for a quantity that it does not accept."""
    side = Side.SHORT if trigger_order.order.is_buy else Side.LONG
    quantity = instrument.require_lot_quantity(trigger_order.order.quantity)
    order = trigger_order.order.model_copy(update={"quantity": quantity})
    return TriggerOrderRequest(
        order, trigger_order.trigger, round_trigger_price(instrument, side, trigger_order.trigger, trigger_order.price)
    )


def round_trigger_price(instrument: Instrument, side: Side, trigger: TriggerKind, price: Decimal) -> Decimal:
    """`price` on the tick nearer to the market: a long's stop and a short's target go up, the other two down."""
    goes_up = (trigger == "stopLossPrice") is (side is Side.LONG)
    return max(
        decimals.round_to_step(price, instrument.tick, ROUND_CEILING if goes_up else ROUND_FLOOR), instrument.tick
    )


def place_all_or_none(
    gateway: OrderGateway,
    trigger_orders: Sequence[TriggerOrderRequest],
    send: Callable[[TriggerOrderRequest], OrderResult],
    sleep: Callable[[float], None],
    *,
    reuse_existing: bool,
) -> tuple[OrderResult, ...]:
    """Places every order; when one cannot be placed, cancels the others. Raises what `send` raises.

    Raises OrderOutcomeUnknown when an order may exist and could not be cancelled. `reuse_existing` is as in
    `engine.venues.venue.Venue.place_protection`.
    """
    attempted: list[TriggerOrderRequest] = []
    placed: list[OrderResult] = []
    try:
        for trigger_order in trigger_orders:
            attempted.append(trigger_order)  # before it is sent: one that fails may still have arrived
            existing = _find_live_order(gateway, trigger_order) if reuse_existing else None
            placed.append(existing or _place_order(gateway, trigger_order, send, sleep))
    except SparkyError as error:
        _cancel_all(gateway, attempted, error)
        raise
    return tuple(placed)


def _build_order(protection: Protection, name: str, quantity: Decimal) -> OrderRequest:
    return OrderRequest(
        client_order_id=name,
        symbol=protection.symbol,
        is_buy=protection.side is Side.SHORT,
        quantity=quantity,
        reduce_only=protection.reduce_only,
    )


def _place_order(
    gateway: OrderGateway,
    trigger_order: TriggerOrderRequest,
    send: Callable[[TriggerOrderRequest], OrderResult],
    sleep: Callable[[float], None],
) -> OrderResult:
    """Sends; without an answer it queries, and sends once more only when the venue has no such order.

    A late arrival of the first does no harm, because the venue accepts an id only once among open orders.
    """
    try:
        return send(trigger_order)
    except OrderOutcomeUnknown as unknown:
        return _await_order(gateway, trigger_order, sleep, unknown) or send(trigger_order)


def _await_order(
    gateway: OrderGateway,
    trigger_order: TriggerOrderRequest,
    sleep: Callable[[float], None],
    unknown: OrderOutcomeUnknown,
) -> OrderResult | None:
    for wait_s in RETRY_WAITS_S:
        sleep(wait_s)
        try:
            order = _find_live_order(gateway, trigger_order)
        except UpstreamUnavailable as error:
            raise OrderOutcomeUnknown(f"{unknown}, then {error}") from error
        if order is not None:
            return order
    return None


def _find_live_order(gateway: OrderGateway, trigger_order: TriggerOrderRequest) -> OrderResult | None:
    """The order if it is open or filled; None if it was cancelled, or there is none."""
    order = gateway.find_order(trigger_order.order.symbol, trigger_order.order.client_order_id)
    return None if order is None or order.status is OrderStatus.REJECTED else order


def _cancel_all(gateway: OrderGateway, attempted: Sequence[TriggerOrderRequest], reason: SparkyError) -> None:
    for trigger_order in attempted:
        try:
            gateway.cancel_order(trigger_order.order.symbol, trigger_order.order.client_order_id)
        except SparkyError as error:
            name = trigger_order.order.client_order_id
            raise OrderOutcomeUnknown(f"{reason}; and whether {name} waits is not known: {error}") from error
