"""A stop-loss and a take-profit as two waiting orders: both or none, found again before they are ever sent again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final, Literal, Protocol

from engine.domain import decimals
from engine.domain.errors import OutcomeUnknown
from engine.domain.positions import Side
from engine.platform.errors import SparkyError, UpstreamUnavailable
from engine.venues.venue import Instrument, OrderRequest, OrderResult, OrderStatus, Protection

ASK_AGAIN_S: Final = (0.1, 0.4)
Trigger = Literal["stopLossPrice", "takeProfitPrice"]  # as ccxt calls them


@dataclass(frozen=True)
class Leg:
    """One waiting order: at the market once the last price has reached `price`."""

    order: OrderRequest
    trigger: Trigger
    price: Decimal


class Desk(Protocol):
    """The part of an account that protection needs."""

    def order_by_client_id(self, symbol: str, client_order_id: str) -> OrderResult | None: ...

    def cancel(self, symbol: str, client_order_id: str) -> OrderResult | None: ...


def legs_of(protection: Protection, instrument: Instrument) -> tuple[Leg, ...]:
    """The orders of `protection`, stop-loss first. Raises VenueRefused for a quantity that the venue does not take."""
    quantity = instrument.whole_lots(protection.quantity)
    wanted: tuple[tuple[Trigger, str, Decimal | None], ...] = (
        ("stopLossPrice", protection.stop_loss_id, protection.stop_loss_price),
        ("takeProfitPrice", protection.take_profit_id, protection.take_profit_price),
    )
    return tuple(
        Leg(_order(protection, name, quantity), trigger, trigger_price(instrument, protection.side, trigger, price))
        for trigger, name, price in wanted
        if price is not None
    )


def refitted(leg: Leg, instrument: Instrument) -> Leg:
    """`leg` as the filters of now take it. Raises VenueRefused for a quantity that they do not take."""
    side = Side.SHORT if leg.order.is_buy else Side.LONG
    quantity = instrument.whole_lots(leg.order.quantity)
    order = leg.order.model_copy(update={"quantity": quantity})
    return Leg(order, leg.trigger, trigger_price(instrument, side, leg.trigger, leg.price))


def trigger_price(instrument: Instrument, side: Side, trigger: Trigger, price: Decimal) -> Decimal:
    """`price` on the tick nearer to the market: a long's stop and a short's target go up, the other two down."""
    goes_up = (trigger == "stopLossPrice") is (side is Side.LONG)
    return max(decimals.stepped(price, instrument.tick, ROUND_CEILING if goes_up else ROUND_FLOOR), instrument.tick)


def place_all(
    desk: Desk, legs: Sequence[Leg], send: Callable[[Leg], OrderResult], sleep: Callable[[float], None], *, again: bool
) -> tuple[OrderResult, ...]:
    """Places every leg; when one cannot be placed, none stays. Raises what `send` raises.

    OutcomeUnknown when a leg may be there and could not be cancelled.
    """
    tried: list[Leg] = []
    done: list[OrderResult] = []
    try:
        for leg in legs:
            tried.append(leg)
            known = _known(desk, leg) if again else None
            done.append(known or _placed(desk, leg, send, sleep))
    except SparkyError as error:
        _undo(desk, tried, error)
        raise
    return tuple(done)


def _order(protection: Protection, name: str, quantity: Decimal) -> OrderRequest:
    return OrderRequest(
        client_order_id=name,
        symbol=protection.symbol,
        is_buy=protection.side is Side.SHORT,
        quantity=quantity,
        reduce_only=protection.reduce_only,
    )


def _placed(desk: Desk, leg: Leg, send: Callable[[Leg], OrderResult], sleep: Callable[[float], None]) -> OrderResult:
    """Sends; on silence asks, and sends once more only when the venue says that it has none.

    An order that arrives after all is no harm: the venue takes an id only once among open orders.
    """
    try:
        return send(leg)
    except OutcomeUnknown as unknown:
        return _found(desk, leg, sleep, unknown) or send(leg)


def _found(desk: Desk, leg: Leg, sleep: Callable[[float], None], unknown: OutcomeUnknown) -> OrderResult | None:
    for wait_s in ASK_AGAIN_S:
        sleep(wait_s)
        try:
            known = _known(desk, leg)
        except UpstreamUnavailable as error:
            raise OutcomeUnknown(f"{unknown}, then {error}") from error
        if known is not None:
            return known
    return None


def _known(desk: Desk, leg: Leg) -> OrderResult | None:
    """The leg's order if it waits or has filled; one that was cancelled protects nobody."""
    known = desk.order_by_client_id(leg.order.symbol, leg.order.client_order_id)
    return None if known is None or known.status is OrderStatus.REJECTED else known


def _undo(desk: Desk, tried: Sequence[Leg], reason: SparkyError) -> None:
    for leg in tried:
        try:
            desk.cancel(leg.order.symbol, leg.order.client_order_id)
        except SparkyError as error:
            name = leg.order.client_order_id
            raise OutcomeUnknown(f"{reason}; and whether {name} waits is not known: {error}") from error
