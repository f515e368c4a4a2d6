"""With which margin an entry is made, and whether it can be made so: others of its account, and its own stop."""

from decimal import Decimal

from engine import booked
from engine.errors import VenueRefused
from engine.exchanges.venue import Instrument
from engine.liquidation import Stake, rate_of
from engine.store.margin_rows import EntryMargin
from engine.types import MarginMode
from webhook_server import sizing
from webhook_server.account_checks import AccountFault
from webhook_server.trade import Trade


class MarginFault(AccountFault):
    """The entry would not have the margin that it asks for, or could not be protected with it; nothing was sent."""


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


def check_free(trade: Trade, found: EntryMargin, size_usd: Decimal) -> None:
    """Raises VenueRefused where an entry of `size_usd` on paper needs more initial margin than its strategy has free,
    as a venue does (-2019)."""
    free_usd, wanted_usd = found.paper_free_usd, booked.quotient(size_usd, Decimal(trade.order.leverage))
    if trade.is_paper and free_usd is not None and wanted_usd > free_usd:
        raise VenueRefused(
            f"{trade.order.symbol}: Margin is insufficient: {wanted_usd:.2f} USD of initial margin are needed, and "
            f"{max(free_usd, Decimal(0)):.2f} USD of the strategy's equity are free: trade less, or with more leverage",
            "funds",
        )


def check_stop(
    trade: Trade, mode: MarginMode | None, instrument: Instrument, quantity: Decimal, price: Decimal
) -> None:
    """Raises MarginFault where an isolated entry of `quantity` at `price` would be liquidated before its stop acts."""
    order, held = trade.order, trade.held if trade.adds() else None
    stop, _ = sizing.protective_prices(order, price, instrument.tick)
    if stop is None and held is not None:
        stop = held.stop_loss_price
    if mode is not MarginMode.ISOLATED or stop is None:
        return
    whole = booked.total((quantity, *(() if held is None else (held.quantity,))))
    cost = booked.total((booked.product(quantity, price), *(() if held is None else (held.position_size_usd,))))
    stake = Stake(order.side, whole, cost, rate_of(instrument.maintenance_rate, order.leverage))
    at = stake.liquidation_price(booked.quotient(cost, Decimal(order.leverage)))
    if at is not None and (stop - at) * stake.sign <= 0:
        told = booked.digits(booked.stepped(at, instrument.tick, "ROUND_HALF_EVEN"))
        raise MarginFault(
            f"{order.symbol}: the stop at {booked.digits(stop)} could never act, as isolated margin at a leverage of "
            f"{order.leverage} is liquidated at about {told}: take a nearer stop, less leverage or cross margin"
        )
