"""The open orders of accounts, as they were listed in one round of looks: one list serves many positions."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Final
from uuid import UUID

from engine.domain.errors import StrategyFault
from engine.domain.positions import Position
from engine.platform.errors import SparkyError
from engine.venues.venue import GONE, Account, Instrument, OpenOrder, Quotes

# At Aster and Binance a list of one symbol weighs 1, and one of all symbols 40.
MOST_SYMBOLS: Final = 40
Orders = dict[str | None, OpenOrder]  # by client order id


class Listed:
    """`held` are the live positions of the round: with more than 40 symbols on an account its orders are listed once
    for all."""

    def __init__(self, held: Iterable[Position]) -> None:
        self._symbols: dict[tuple[UUID, str], set[str]] = {}
        for each in held:
            self._symbols.setdefault((each.user_id, each.exchange), set()).add(each.symbol)
        self._of_symbol: dict[tuple[UUID, str, str], Orders] = {}

    def orders(self, account: Account, position: Position) -> tuple[Orders, bool]:
        """The orders that waited in the symbol of `position`, and whether they were listed just now."""
        key = (position.user_id, position.exchange, position.symbol)
        if key in self._of_symbol:
            return self._of_symbol[key], False
        symbols = self._symbols.get(key[:2], set())
        if len(symbols) <= MOST_SYMBOLS:
            return self.read(account, position), True
        everything = account.orders_open()
        for symbol in symbols | {position.symbol}:
            own = (each for each in everything if each.symbol == symbol)
            self._of_symbol[*key[:2], symbol] = {each.client_order_id: each for each in own}
        return self._of_symbol[key], True

    def read(self, account: Account, position: Position) -> Orders:
        """The orders that wait in the symbol of `position` now."""
        found = {each.client_order_id: each for each in account.orders_open(position.symbol)}
        self._of_symbol[position.user_id, position.exchange, position.symbol] = found
        return found


def is_gone_by_now(quotes: Quotes, symbol: str) -> bool:
    """Whether the venue lists it no more, after an answer that may mean that: a price that it refuses to tell has the
    list read again."""
    with suppress(SparkyError):
        quotes.quote(symbol)
    return listed_instrument(quotes, symbol) is None


def listed_instrument(quotes: Quotes, symbol: str) -> Instrument | None:
    """What is listed of `symbol`; None where the venue lists it no more. Raises UpstreamUnavailable."""
    try:
        instrument = quotes.instrument(symbol)
    except StrategyFault:
        return None
    return None if instrument.status == GONE else instrument
