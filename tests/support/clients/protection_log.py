"""How long what is exposed at a venue is without its stop: sampled from the books and the simulated venue's file."""

import time
from collections.abc import Hashable, Mapping
from uuid import UUID

from engine.domain.positions import Position, Side
from engine.store.store import Store
from simulator.venue.trading_account import Account
from tests.support.clients.venue_file import net_of


class ProtectionLog:
    """`longest` is how long anything has been without its stop, by what it was.

    A position whose side the account does not hold does not count: nothing can wait for it.
    """

    def __init__(self, store: Store, users: Mapping[UUID, str]) -> None:
        self._store = store
        self._users = users
        self._bare_since: dict[Hashable, float] = {}
        self.longest: dict[Hashable, float] = {}

    def sample(self, accounts: Mapping[str, Account]) -> None:
        now = time.monotonic()
        bare = {
            (position.symbol, position.id): now
            for position in self._store.list_open_positions()
            if not position.is_paper and _is_bare(position, accounts[self._users[position.user_id]])
        }
        self._bare_since = {key: self._bare_since.get(key, now) for key in bare}
        for key, since in self._bare_since.items():
            self.longest[key] = max(self.longest.get(key, 0.0), now - since)

    @property
    def is_bare(self) -> bool:
        """Whether something was without its stop in the last sample."""
        return bool(self._bare_since)

    @property
    def worst_s(self) -> float:
        return max(self.longest.values(), default=0.0)


def _is_bare(position: Position, account: Account) -> bool:
    net = net_of(account, position.symbol)
    if net == 0 or (net > 0) is not (position.side is Side.LONG):
        return False
    exits = (order for order in account.open_orders(position.symbol) if order.reduce_only)
    return not any(order.client_order_id == position.stop_loss_client_order_id for order in exits)
