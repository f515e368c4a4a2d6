"""The open orders of accounts, as they were listed in one round of looks: one list serves many positions."""

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

# At Aster and Binance a list of one symbol weighs 1, and one of all symbols 40.
MAX_SYMBOL_LISTINGS: Final = 40
OrdersByClientId = dict[str | None, OpenOrder]  # by client order id


class OpenOrderCache:
    """`held` are the live positions of the round: with more than 40 symbols on an account its orders are listed once
    for all."""

    def __init__(self, held: Iterable[Position]) -> None:
        self._symbols: dict[tuple[UUID, str], set[str]] = {}
        for each in held:
            self._symbols.setdefault((each.user_id, each.exchange), set()).add(each.symbol)
        self._by_symbol: dict[tuple[UUID, str, str], OrdersByClientId] = {}

    def get(self, account: LiveVenue, position: Position) -> tuple[OrdersByClientId, bool]:
        """The orders that waited in the symbol of `position`, and whether they were listed just now."""
        key = (position.user_id, position.exchange, position.symbol)
        if key in self._by_symbol:
            return self._by_symbol[key], False
        symbols = self._symbols.get(key[:2], set())
        if len(symbols) <= MAX_SYMBOL_LISTINGS:
            return self.refresh(account, position), True
        all_orders = account.fetch_open_orders()
        for symbol in symbols | {position.symbol}:
            own = (each for each in all_orders if each.symbol == symbol)
            self._by_symbol[*key[:2], symbol] = {each.client_order_id: each for each in own}
        return self._by_symbol[key], True

    def refresh(self, account: LiveVenue, position: Position) -> OrdersByClientId:
        """The orders that wait in the symbol of `position` now."""
        found = {each.client_order_id: each for each in account.fetch_open_orders(position.symbol)}
        self._by_symbol[position.user_id, position.exchange, position.symbol] = found
        return found


def is_delisted(quotes: Quotes, symbol: str) -> bool:
    """Whether the venue lists it no more, after an answer that may mean that: a price that it refuses to tell has the
    list read again."""
    with suppress(SparkyError):
        quotes.fetch_quote(symbol)
    return find_listed_instrument(quotes, symbol) is None


def find_listed_instrument(quotes: Quotes, symbol: str) -> Instrument | None:
    """What is listed of `symbol`; None where the venue lists it no more. Raises UpstreamUnavailable."""
    try:
        instrument = quotes.fetch_instrument(symbol)
    except StrategyFault:
        return None
    return None if instrument.status == GONE else instrument
