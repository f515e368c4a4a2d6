"""Open orders of accounts as listed in one round, so that one listing serves many positions."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Final
from uuid import UUID

from engine.domain.errors import StrategyFault
from engine.domain.positions import Position
from engine.platform.errors import SparkyError
from engine.venues.account_state import OpenOrder
from engine.venues.instrument import GONE, Instrument
from engine.venues.venue import LiveVenue, Quotes

MAX_SYMBOL_LISTINGS: Final = 40  # at Aster and Binance a listing of one symbol weighs 1, and one of all symbols 40
OrdersByClientId = dict[str | None, OpenOrder]


class OpenOrderCache:
    """`held` are the live positions of the round. An account with more than 40 symbols has its orders listed at once
    for all of them."""

    def __init__(self, held: Iterable[Position]) -> None:
        self._symbols: dict[tuple[UUID, str], set[str]] = {}
        for position in held:
            self._symbols.setdefault((position.user_id, position.exchange), set()).add(position.symbol)
        self._by_symbol: dict[tuple[UUID, str, str], OrdersByClientId] = {}

    def get(self, account: LiveVenue, position: Position) -> tuple[OrdersByClientId, bool]:
        """The open orders in the symbol of `position`, and whether they were listed by this call. Raises what the
        account raises."""
        key = (position.user_id, position.exchange, position.symbol)
        if key in self._by_symbol:
            return self._by_symbol[key], False
        symbols = self._symbols.get(key[:2], set())
        if len(symbols) <= MAX_SYMBOL_LISTINGS:
            return self.refresh(account, position), True
        all_orders = account.fetch_open_orders()
        for symbol in symbols | {position.symbol}:
            own = (order for order in all_orders if order.symbol == symbol)
            self._by_symbol[*key[:2], symbol] = {order.client_order_id: order for order in own}
        return self._by_symbol[key], True

    def refresh(self, account: LiveVenue, position: Position) -> OrdersByClientId:
        """Lists the open orders in the symbol of `position` anew. Raises what the account raises."""
        orders = {order.client_order_id: order for order in account.fetch_open_orders(position.symbol)}
        self._by_symbol[position.user_id, position.exchange, position.symbol] = orders
        return orders


def is_delisted(quotes: Quotes, symbol: str) -> bool:
    """Whether the venue lists `symbol` no more, by a fresh list of instruments. Raises UpstreamUnavailable."""
    with suppress(SparkyError):  # a refused quote makes the client read its list of instruments again
        quotes.fetch_quote(symbol)
    return find_listed_instrument(quotes, symbol) is None


def find_listed_instrument(quotes: Quotes, symbol: str) -> Instrument | None:
    """The instrument of `symbol`; None where the venue lists it no more. Raises UpstreamUnavailable."""
    try:
        instrument = quotes.fetch_instrument(symbol)
    except StrategyFault:
        return None
    return None if instrument.status == GONE else instrument
