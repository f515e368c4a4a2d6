"""Events of an account outside its API: manual trades, liquidation, auto-deleveraging, funding.

Refusals, delays and partial fills of `/_control/market` apply to orders of the API only.
"""

from decimal import ROUND_FLOOR, Decimal
from typing import Final, Literal

from simulator.venue.commissions import split_quantity
from simulator.venue.trading_account import ZERO, Account, AutoClose, Order
from simulator.venue.venue import SimulatedVenue

PERCENT: Final = Decimal(100)
INSURANCE_PERCENT: Final = Decimal("0.5")  # of the notional of a liquidation
AVERAGE_STEP: Final = Decimal("1e-8")  # venues report average prices rounded


def trade_manually(
    venue: SimulatedVenue, user: str, symbol: str, side: Literal["BUY", "SELL"], quantity: Decimal
) -> Order:
    """A market order from the venue's page; it may cross zero. Raises VenueApiError as for any order."""
    given = {"symbol": symbol, "side": side, "type": "MARKET", "quantity": f"{quantity:f}"}
    order = venue.build_order(given)
    order.client_order_id = f"{'web' if order.order_id % 2 else 'ios'}_{order.order_id}"
    order.fill_at_ms, order.unfilled = None, ZERO
    venue.get_account(user).accept(order, *venue.get_best_bid_ask(symbol))
    return order


def close_manually(venue: SimulatedVenue, user: str, symbol: str) -> Order | None:
    """Closes the whole net position from the venue's page; None if there is none."""
    amount = venue.get_account(user).get_holding(symbol).amount
    if not amount:
        return None
    return trade_manually(venue, user, symbol, "SELL" if amount > 0 else "BUY", abs(amount))


def trade_with_itself(venue: SimulatedVenue, user: str, symbol: str, quantity: Decimal) -> None:
    """A manual market order sells into a limit order of the same account: one trade id on both sides."""
    account, (bid, _) = venue.get_account(user), venue.get_best_bid_ask(symbol)
    shared: int | None = None
    for side, kind in (("BUY", "LIMIT"), ("SELL", "MARKET")):
        given = {"symbol": symbol, "side": side, "type": kind, "quantity": f"{quantity:f}", "price": f"{bid:f}"}
        order = venue.build_order(given)
        order.fill_at_ms, order.unfilled, order.status = None, ZERO, "FILLED"
        account.orders[order.order_id] = order
        account.unsaved_orders.append(order)
        fill = account.trade(order, quantity, bid, order.created_ms, is_maker=kind == "LIMIT", trade_id=shared)
        shared = fill.trade_id


def liquidate(
    venue: SimulatedVenue,
    user: str,
    symbol: str,
    quantity: Decimal | None = None,
    pieces: int = 1,
    fee_percent: Decimal = INSURANCE_PERCENT,
    *,
    keeps_orders: bool = False,
) -> Order | None:
    """Closes up to `quantity` (None: all) in `pieces` trades, a tick apart; cancels the symbol's orders first.

    The insurance fee is taken from the balance. None if there is no position.
    """
    account = venue.get_account(user)
    if not keeps_orders:
        cancel_all(venue, user, symbol)
    order = _force_close(venue, account, symbol, quantity, "LIQUIDATION", pieces)
    if order is not None and fee_percent:
        notional = sum((f.quantity * f.price for f in account.fills if f.order is order), ZERO)
        account.pay("INSURANCE_CLEAR", symbol, -notional * fee_percent / PERCENT, order.updated_ms)
    return order


def auto_deleverage(
    venue: SimulatedVenue, user: str, symbol: str, quantity: Decimal | None = None, pieces: int = 1
) -> Order | None:
    """Auto-deleveraging: as `liquidate`, without a fee; open orders stay."""
    return _force_close(venue, venue.get_account(user), symbol, quantity, "ADL", pieces)


def cancel_all(venue: SimulatedVenue, user: str, symbol: str) -> None:
    account, now_ms = venue.get_account(user), venue.clock.now_ms()
    for order in account.open_orders(symbol):
        account.cancel(order, now_ms)


def pay_funding(venue: SimulatedVenue, user: str, symbol: str, rate: Decimal) -> None:
    """Longs pay `rate` of the position's value, shorts receive it; nothing without a position."""
    account = venue.get_account(user)
    fee = -account.get_holding(symbol).amount * venue.get_price(symbol) * rate
    account.receive_funding(symbol, fee, venue.clock.now_ms())


def calculate_position_part(venue: SimulatedVenue, user: str, symbol: str, percent: Decimal) -> Decimal:
    """`percent` of the position in whole lots, at least one."""
    lot = Decimal(1).scaleb(-venue.get_market(symbol).lot_decimals)
    amount = abs(venue.get_account(user).get_holding(symbol).amount)
    return max(lot, (amount * percent / PERCENT).quantize(lot, ROUND_FLOOR))


def _force_close(
    venue: SimulatedVenue, account: Account, symbol: str, quantity: Decimal | None, cause: AutoClose, pieces: int
) -> Order | None:
    amount = account.get_holding(symbol).amount
    closed = abs(amount) if quantity is None else min(abs(amount), quantity)
    if not closed:
        return None
    is_buy, tick = amount < 0, Decimal(1).scaleb(-venue.get_market(symbol).decimals)
    bid, ask = venue.get_best_bid_ask(symbol)
    order = _build_auto_close_order(venue, symbol, cause, ask if is_buy else bid, closed, is_buy=is_buy)
    account.orders[order.order_id] = order
    account.unsaved_orders.append(order)
    for step, piece in enumerate(split_quantity(closed, pieces, venue.get_market(symbol).lot_decimals)):
        price = order.price + step * tick if is_buy else max(tick, order.price - step * tick)
        account.trade(order, piece, price, order.created_ms, is_maker=False)
    order.average, order.status = round(order.average, -AVERAGE_STEP.as_tuple().exponent), "FILLED"  # type: ignore[operator] # finite
    return order


def _build_auto_close_order(
    venue: SimulatedVenue, symbol: str, cause: AutoClose, price: Decimal, quantity: Decimal, *, is_buy: bool
) -> Order:
    order_id, now_ms = venue.create_order_id(), venue.clock.now_ms()
    is_liquidation = cause == "LIQUIDATION"
    return Order(
        order_id=order_id,
        client_order_id=f"autoclose-{now_ms}{order_id:06}" if is_liquidation else "adl_autoclose",
        symbol=symbol,
        kind="LIMIT",
        is_buy=is_buy,
        quantity=quantity,
        reduce_only=False,
        close_position=False,
        price=price,
        stop_price=ZERO,
        created_ms=now_ms,
        updated_ms=now_ms,
        rests=not is_liquidation,
        auto_close=cause,
    )
