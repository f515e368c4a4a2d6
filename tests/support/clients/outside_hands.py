"""Random events on accounts of a simulated venue beside their API: a person's hands, the venue's force, and jumps."""

import itertools
import random
from collections import Counter
from collections.abc import Callable, Mapping
from decimal import Decimal
from http import HTTPStatus
from typing import Any

import requests

from engine.domain.errors import OrderRejected
from engine.venues.live.ccxt_venue import CcxtVenue
from engine.venues.orders import OrderRequest
from simulator.venue.trading_account import Account
from tests.support.clients.venue_file import VenueFile, net_of
from tests.support.processes.sparky import Sparky

CLOSING = ("close", "part", "part", "liquidate", "liquidate in pieces", "adl", "cancel", "jump", "jump")
ADDING = ("add", "reverse")
JUMPS_PERCENT = (-2.6, -2.2, 2.2, 2.6)


class OutsideHands:
    """One event at a time, by `dice`. In the symbols of `adding` hands also add and reverse, elsewhere they only close.

    `venues` are the accounts by the name that the simulated venue has for each.
    """

    def __init__(
        self,
        product: Sparky,
        venues: Mapping[str, CcxtVenue],
        symbols: tuple[str, ...],
        adding: frozenset[tuple[str, str]],
        dice: random.Random,
    ) -> None:
        self._product = product
        self._venues = venues
        self._symbols = symbols
        self._adding = adding
        self._dice = dice
        self._file = VenueFile(product.home)
        self._numbers = itertools.count(1)
        self._moved: Counter[str] = Counter()
        self.done: Counter[str] = Counter()

    def act(self) -> None:
        """One event; a refusal of the venue is one as well."""
        user, symbol = self._dice.choice(list(self._venues)), self._dice.choice(self._symbols)
        events = CLOSING + ADDING if (user, symbol) in self._adding else CLOSING
        event = self._dice.choice(events)
        try:
            self._happen(event, user, symbol, self._file.accounts()[user])
        except OrderRejected:
            event = f"{event}, refused"
        self.done[event] += 1

    def _happen(self, event: str, user: str, symbol: str, account: Account) -> None:
        net, share = net_of(account, symbol), self._dice.choice((25, 50, 75))
        pieces = self._dice.choice((1, 2, 5))
        events: dict[str, Callable[[], None]] = {
            "close": lambda: self._tell(close=symbol, user=user),
            "part": lambda: self._reduce(user, symbol, net, share),
            "liquidate": lambda: self._tell(liquidate=symbol, user=user),
            "liquidate in pieces": lambda: self._tell(liquidate=symbol, user=user, percent=share, pieces=pieces),
            "adl": lambda: self._tell(adl=symbol, user=user, percent=share),
            "cancel": lambda: self._tell(cancel_all=symbol, user=user),
            "jump": lambda: self._jump(symbol),
            "add": lambda: self._trade(user, symbol, is_buy=net >= 0, quantity=self._some(symbol)),
            "reverse": lambda: self._trade(user, symbol, is_buy=net < 0, quantity=abs(net) + self._some(symbol)),
        }
        events[event]()

    def close_own(self, user: str, symbol: str, difference: Decimal) -> None:
        """A hand takes back what it has beyond the books."""
        if difference:
            self._trade(user, symbol, is_buy=difference < 0, quantity=abs(difference))

    def _reduce(self, user: str, symbol: str, net: Decimal, percent: int) -> None:
        """Reduce-only, so that what trades meanwhile does not make it more than a close."""
        if not net:
            return
        name, quantity = f"web_{next(self._numbers)}", abs(net) * percent / 100
        lot = self._venues[user].fetch_instrument(symbol).lot
        order = OrderRequest(
            client_order_id=name, symbol=symbol, is_buy=net < 0, quantity=max(lot, quantity), reduce_only=True
        )
        self._venues[user].place_market_order(order)

    def _some(self, symbol: str) -> Decimal:
        """A quantity worth about 60 USD."""
        venue = next(iter(self._venues.values()))
        lot = venue.fetch_instrument(symbol).lot
        return (Decimal(60) / venue.fetch_quote(symbol).last // lot + 1) * lot

    def _trade(self, user: str, symbol: str, *, is_buy: bool, quantity: Decimal) -> None:
        side = "BUY" if is_buy else "SELL"
        self._tell(trade={"symbol": symbol, "side": side, "quantity": f"{quantity:f}"}, user=user)

    def _jump(self, symbol: str) -> None:
        """Up and down by turns, so that prices stay where positions are."""
        self._moved[symbol] += 1
        percents = [each for each in JUMPS_PERCENT if (each > 0) is (self._moved[symbol] % 2 == 0)]
        self._product.control("aster", "market", {"symbol": symbol, "jump_percent": self._dice.choice(percents)})

    def _tell(self, **event: Any) -> None:
        try:
            self._product.control("aster", "account", event)
        except requests.HTTPError as error:
            if error.response.status_code != HTTPStatus.BAD_REQUEST:
                raise
            raise OrderRejected(error.response.text, "reduce_only") from error
