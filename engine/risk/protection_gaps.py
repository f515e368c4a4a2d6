"""Which live positions no order at the venue can protect or close, and why."""

from decimal import Decimal

from engine.domain.decimals import format_plain, product
from engine.domain.positions import Position, sign_of
from engine.risk.exit_quantities import find_netted_dust, max_order_quantity, min_order_quantity
from engine.venues.instrument import Instrument
from engine.venues.venue import LiveVenue


def find_protection_gap(account: LiveVenue, position: Position, instrument: Instrument) -> str | None:
    """Why orders that wait do not protect all of `position`; None where they can. Raises what the venue raises."""
    return _check_max_quantity(position, instrument) or _check_netting(account, position, instrument)


def describe_too_small(position: Position, instrument: Instrument) -> str:
    """Of a position that is too little for any order."""
    least = format_plain(min_order_quantity(instrument))
    return f"no order can be for {format_plain(position.quantity)} held: the least is {least}"


def fetch_net(account: LiveVenue, symbol: str) -> Decimal:
    """What the account holds of `symbol`. Raises what the venue raises."""
    return next((held.net for held in account.fetch_positions(symbol) if held.symbol == symbol), Decimal(0))


def _check_max_quantity(position: Position, instrument: Instrument) -> str | None:
    """One order may be for less than is held; `MarkToMarket` closes it in time."""
    most = max_order_quantity(instrument)
    if most is None or instrument.floor_to_lot(position.quantity) <= most:
        return None
    return f"one protective order may be for {format_plain(most)} of {format_plain(position.quantity)} held"


def _check_netting(account: LiveVenue, position: Position, instrument: Instrument) -> str | None:
    """While others hold the opposite side, its exit is no reduction of the account, which the venue would always take.

    The account is asked only where the venue would refuse such an exit.
    """
    reason = _why_no_own_order(position, instrument)
    if reason is None or fetch_net(account, position.symbol) * sign_of(position.side) >= position.quantity:
        return None
    return f"opposite positions of the account cover it, and {reason}"


def _why_no_own_order(position: Position, instrument: Instrument) -> str | None:
    if not instrument.is_trading:
        return f"it is not traded now (the venue's list: {instrument.status})"
    price = position.current_price or position.entry_price
    usd = product(position.quantity, price)
    if usd >= instrument.min_notional or find_netted_dust(position.quantity, price, instrument) is not None:
        return None
    return f"its {usd:.2f} USD are below the least of {format_plain(instrument.min_notional)} of an order"
