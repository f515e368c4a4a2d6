"""With which margin an entry is made, and whether it can be made so: others of its account, and its own stop."""

from collections.abc import Callable
from decimal import Decimal
from typing import Final, NamedTuple

from engine import booked
from engine.exchanges.venue import Instrument
from engine.liquidation import Stake, rate_of
from engine.store.margin_rows import EntryMargin
from engine.types import MarginMode
from webhook_server import sizing
from webhook_server.account_checks import AccountFault
from webhook_server.trade import Trade


class MarginFault(AccountFault):
    """The entry would not have the margin that it asks for, or could not be protected with it; nothing was sent."""


_UNTOLD: Final = ", and the venue does not tell which margin mode the symbol has"


class Prospect(NamedTuple):
    """An entry that is not made yet, and the mark price (None: not known)."""

    quantity: Decimal
    price: Decimal
    mark: Decimal | None


def mode_of(trade: Trade, found: EntryMargin) -> MarginMode | None:
    """The margin mode of the entry of `trade`. None, live only, leaves it as the account has it. On paper it is
    isolated unless the strategy says cross, and what is added to keeps its own."""
    if not trade.is_paper:
        return found.wanted
    if trade.adds() and trade.held is not None and trade.held.margin_mode is not None:
        return trade.held.margin_mode
    return found.wanted or MarginMode.ISOLATED


def check_others(trade: Trade, found: EntryMargin) -> None:
    """Raises MarginFault where another of the account's strategies holds the symbol in another mode: it is the venue's
    for both."""
    wanted = found.wanted
    other = next((each for each in found.others if wanted is not None and each.margin_mode is not wanted), None)
    if trade.is_paper or other is None:
        return
    holder = "the person" if other.strategy_name is None else f"strategy {other.strategy_name}"
    raise MarginFault(
        f"{trade.order.symbol}: {wanted} margin is wanted, and {holder} holds it with {other.margin_mode} margin on "
        f"the same account: wait until that is closed, or give both strategies one margin mode"
    )


def check_liquidation(
    trade: Trade, mode: Callable[[], MarginMode | None], instrument: Instrument, entry: Prospect
) -> None:
    """Raises MarginFault where an isolated `entry` would be liquidated before its stop acts, or at once.

    `mode` is asked for only where that counts; None (the venue does not tell it) may be isolated.
    """
    order, stop = trade.order, _stop_price(trade, instrument, entry)
    stake = _stake(trade, instrument, entry)
    at = stake.liquidation_price(booked.quotient(stake.cost_usd, Decimal(order.leverage)))

    def is_beyond(price: Decimal | None) -> bool:
        return price is not None and at is not None and (price - at) * stake.sign <= 0

    if at is None or not (is_beyond(entry.mark) or is_beyond(stop)):
        return
    actual = mode()
    if actual is MarginMode.CROSS:
        return
    told = booked.digits(booked.stepped(at, instrument.tick, "ROUND_HALF_EVEN"))
    margin = f"isolated margin at a leverage of {order.leverage} is liquidated at about {told}"
    margin += _UNTOLD if actual is None else ""
    if entry.mark is not None and is_beyond(entry.mark):
        mark = f"the mark price of {booked.digits(entry.mark)} is beyond that"
        raise MarginFault(f"{order.symbol}: {margin}, and {mark}: take less leverage or cross margin")
    raise MarginFault(
        f"{order.symbol}: the stop at {booked.digits(stop or at)} could never act, as {margin}: take a nearer stop, "
        "less leverage or cross margin"
    )


def _stop_price(trade: Trade, instrument: Instrument, entry: Prospect) -> Decimal | None:
    stop, _ = sizing.protective_prices(trade.order, entry.price, instrument.tick)
    return trade.held.stop_loss_price if stop is None and trade.adds() and trade.held is not None else stop


def _stake(trade: Trade, instrument: Instrument, entry: Prospect) -> Stake:
    """Of the whole position once the entry is made."""
    quantity, cost = entry.quantity, booked.product(entry.quantity, entry.price)
    if trade.adds() and trade.held is not None:
        quantity = booked.total((quantity, trade.held.quantity))
        cost = booked.total((cost, trade.held.position_size_usd))
    order = trade.order
    return Stake(order.side, quantity, cost, rate_of(instrument.maintenance_rate, order.leverage))
