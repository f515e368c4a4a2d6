"""Which live positions no order at the venue can protect or close, and why."""

from decimal import Decimal

from engine.domain.decimals import digits, product
from engine.domain.positions import Position
from engine.risk.order_sizes import least_of, most_of, netted_dust
from engine.venues.venue import Account, Instrument
from webhook_server.execution.execution_context import sign_of


def uncovered(account: Account, position: Position, instrument: Instrument) -> str | None:
    """Why orders that wait do not protect all of `position`; None where they can. Raises what the venue raises."""
    return _beyond_most(position, instrument) or _kept_by_others(account, position, instrument)


def no_order(position: Position, instrument: Instrument) -> str:
    """Of a position that is too little for any order."""
    return f"no order can be for {digits(position.quantity)} held: the least is {digits(least_of(instrument))}"


def net_of(account: Account, symbol: str) -> Decimal:
    """What the account holds of `symbol`. Raises what the venue raises."""
    return next((held.net for held in account.positions(symbol) if held.symbol == symbol), Decimal(0))


def _beyond_most(position: Position, instrument: Instrument) -> str | None:
    """One order may be for less than is held; `Marks` closes it in time."""
    most = most_of(instrument)
    if most is None or instrument.floored(position.quantity) <= most:
        return None
    return f"one protective order may be for {digits(most)} of {digits(position.quantity)} held"


def _kept_by_others(account: Account, position: Position, instrument: Instrument) -> str | None:
    """While others hold the opposite side, its exit is no reduction of the account, which the venue would always take.

    The account is asked only where the venue would refuse such an exit.
    """
    reason = _no_order_of_its_own(position, instrument)
    if reason is None or net_of(account, position.symbol) * sign_of(position.side) >= position.quantity:
        return None
    return f"opposite positions of the account cover it, and {reason}"


def _no_order_of_its_own(position: Position, instrument: Instrument) -> str | None:
    if not instrument.is_trading:
        return f"it is not traded now (the venue's list: {instrument.status})"
    price = position.current_price or position.entry_price
    usd = product(position.quantity, price)
    if usd >= instrument.min_notional or netted_dust(position.quantity, price, instrument) is not None:
        return None
    return f"its {usd:.2f} USD are below the least of {digits(instrument.min_notional)} of an order"
