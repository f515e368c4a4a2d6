"""Finds live positions that orders waiting at the venue cannot protect in full, with the reason."""

from decimal import Decimal

from engine.domain.decimals import format_plain, product
from engine.domain.positions import Position, get_sign
from engine.risk.exit_quantities import find_netted_dust, max_order_quantity, min_order_quantity
from engine.venues.instrument import Instrument
from engine.venues.venue import LiveVenue


def find_protection_gap(account: LiveVenue, position: Position, instrument: Instrument) -> str | None:
    """Why protective orders cannot cover all of `position`; None where they can. Raises what the venue raises."""
    return _check_max_quantity(position, instrument) or _check_netting(account, position, instrument)


def describe_too_small(position: Position, instrument: Instrument) -> str:
    """The sentence for a position that is smaller than the venue's smallest order."""
    minimum = format_plain(min_order_quantity(instrument))
    return f"no order can be for {format_plain(position.quantity)} held: the minimum is {minimum}"


def fetch_net_quantity(account: LiveVenue, symbol: str) -> Decimal:
    """The account's net quantity in `symbol` (base asset, negative when short). Raises what the venue raises."""
    positions = account.fetch_positions(symbol)
    return next((position.net for position in positions if position.symbol == symbol), Decimal(0))


def _check_max_quantity(position: Position, instrument: Instrument) -> str | None:
    """The venue's maximum of one order; the rest is closed by `MarkToMarket` when the price is reached."""
    max_quantity = max_order_quantity(instrument)
    if max_quantity is None or instrument.floor_to_lot(position.quantity) <= max_quantity:
        return None
    return f"one protective order may be for {format_plain(max_quantity)} of {format_plain(position.quantity)} held"


def _check_netting(account: LiveVenue, position: Position, instrument: Instrument) -> str | None:
    """Other strategies may hold the opposite side in the same account, which nets them.

    Then the exit does not reduce the account's position, so the venue applies the filters of an entry to it. The
    account is queried only where those filters would refuse the exit.
    """
    reason = _find_entry_filter_obstacle(position, instrument)
    if reason is None or fetch_net_quantity(account, position.symbol) * get_sign(position.side) >= position.quantity:
        return None
    return f"opposite positions of the account cover it, and {reason}"


def _find_entry_filter_obstacle(position: Position, instrument: Instrument) -> str | None:
    if not instrument.is_trading:
        return f"it is not traded now (the venue's list: {instrument.status})"
    price = position.current_price or position.entry_price
    usd = product(position.quantity, price)
    if usd >= instrument.min_notional or find_netted_dust(position.quantity, price, instrument) is not None:
        return None
    return f"its {usd:.2f} USD are below the minimum notional of {format_plain(instrument.min_notional)}"
