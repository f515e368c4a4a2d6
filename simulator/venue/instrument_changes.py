"""Lists new symbols at a simulated venue, and settles and delists symbols, while clients run."""

from decimal import Decimal
from typing import Final, Literal

from simulator.market.market import Market
from simulator.venue.account_events import cancel_all
from simulator.venue.api_error import VenueApiError
from simulator.venue.instrument_rules import InstrumentRules
from simulator.venue.trading_account import ZERO, Account, Order
from simulator.venue.venue import SimulatedVenue

SettlementRecord = Literal["trades", "REALIZED_PNL", "DELIVERED_SETTELMENT", "nothing"]
# Client order id of an order by which the venue settles a position of a contract that it delivers or delists.
SETTLEMENT_ID_PREFIX: Final = "settlement_autoclose-"


def add_symbol(
    venue: SimulatedVenue,
    symbol: str,
    like: str,
    jump_percent: float = 0,
    *,
    contract_type: str | None = "PERPETUAL",
    first: bool = False,
) -> None:
    """Lists `symbol`, which trades as `like` does, `jump_percent` higher; before all others with `first`.

    Raises VenueApiError if it is listed already, or `like` is not.
    """
    if symbol in venue.markets:
        raise VenueApiError(-1121, f"{symbol} is listed already.")
    market = Market(venue.get_market(like).series)
    if jump_percent:
        market.jump(0, jump_percent)
    others = dict(venue.markets)
    venue.markets.clear()
    venue.markets.update({symbol: market, **others} if first else {**others, symbol: market})
    venue.delisted.discard(symbol)
    rules: InstrumentRules = venue.get_rules(symbol)
    rules.contract_type = contract_type


def remove_symbol(venue: SimulatedVenue, symbol: str, settled: SettlementRecord, price: Decimal | None = None) -> None:
    """Cancels the symbol's orders, settles its positions at `price` (None: the last one), and lists it no more.

    With "trades" the settlement is shown as orders and trades; with a kind of income as income alone; with "nothing"
    it changes the balance only. Raises VenueApiError for a symbol that is not listed.
    """
    venue.get_market(symbol)
    settlement_price = venue.get_price(symbol) if price is None else price
    for user in venue.list_users():
        cancel_all(venue, user, symbol)
        _settle(venue, venue.get_account(user), symbol, settled, settlement_price)
        venue.save_account(user, is_read_only=False)
    del venue.markets[symbol]
    venue.forget_rules(symbol)
    venue.delisted.add(symbol)


def _settle(venue: SimulatedVenue, account: Account, symbol: str, settled: SettlementRecord, price: Decimal) -> None:
    holding, now_ms = account.get_holding(symbol), venue.clock.now_ms()
    if not holding.amount:
        return
    if settled == "trades":
        order = _build_settlement_order(venue, symbol, holding.amount)
        account.orders[order.order_id] = order
        account.unsaved_orders.append(order)
        account.trade(order, order.quantity, price, now_ms, is_maker=False)
        order.status = "FILLED"
        return
    profit = holding.amount * (price - holding.entry_price)
    holding.amount, holding.entry_price, holding.changed_ms = ZERO, ZERO, now_ms
    if settled == "nothing":
        account.balance += profit
    else:
        account.pay(settled, symbol, profit, now_ms)


def _build_settlement_order(venue: SimulatedVenue, symbol: str, amount: Decimal) -> Order:
    """An order of the venue itself, to which no filter applies."""
    order_id, now_ms = venue.create_order_id(), venue.clock.now_ms()
    return Order(
        order_id=order_id,
        client_order_id=f"{SETTLEMENT_ID_PREFIX}{now_ms}{order_id:03}"[:36],
        symbol=symbol,
        kind="MARKET",
        is_buy=amount < 0,
        quantity=abs(amount),
        reduce_only=True,
        close_position=False,
        price=ZERO,
        stop_price=ZERO,
        created_ms=now_ms,
        updated_ms=now_ms,
    )
