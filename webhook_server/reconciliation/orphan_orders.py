"""Cancels protective orders that outlive their position: each would close a position that is opened later.

An exit cancels the orders of its position, yet one can be left over: the venue did not list it then, or accepted it
later than it said. In symbols where a position ended lately, every order that is ours by its client order id, and
belongs to no position, is cancelled.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid5

import structlog

from engine.platform.errors import DatabaseUnavailable, SparkyError
from engine.store.store import Store
from engine.store.venue_record import EndedSymbol
from engine.venues.ccxt_client.request_weight import low_priority
from engine.venues.orders import PROTECTIVE_LETTERS, build_client_order_id
from engine.venues.venue import LiveVenue
from webhook_server.clock import Clock
from webhook_server.metrics import Metrics
from webhook_server.protection.position_protection import protective_order_ids
from webhook_server.reconciliation.open_order_cache import find_listed_instrument
from webhook_server.reconciliation.symbol_comparison import SymbolKey
from webhook_server.venue_registry import Venues

logger = structlog.get_logger()

LOOKBACK_S: Final = 86_400.0
RECHECK_FOR: Final = timedelta(seconds=90)  # after an exit; venues were seen to hide an order for up to 40 s


class OrphanOrderCleanup:
    """`may_send` is asked right before each order is cancelled: whether this server still holds the lease."""

    def __init__(
        self, store: Store, venues: Venues, clock: Clock, metrics: Metrics, may_send: Callable[[], bool]
    ) -> None:
        self._store = store
        self._venues = venues
        self._clock = clock
        self._metrics = metrics
        self._may_send = may_send
        self._checked_exits: dict[SymbolKey, datetime] = {}

    def run(self, should_continue: Callable[[], bool] = lambda: True) -> None:
        """Checks symbols where a position ended since the last check, and for 90 s after it. Raises UpstreamUnavailable
        for the database only."""
        now = self._clock.now()
        for ended in self._store.list_ended_live_symbols(LOOKBACK_S):
            key = (ended.user_id, ended.exchange, ended.symbol)
            is_new = self._checked_exits.get(key) != ended.last_exit or now - ended.last_exit < RECHECK_FOR
            if is_new and should_continue() and self._try_cancel_orphans(ended):
                self._checked_exits[key] = ended.last_exit

    def _try_cancel_orphans(self, ended: EndedSymbol) -> bool:
        """Whether the symbol is checked and all left-over orders are cancelled."""
        try:
            return self._cancel_orphans(ended)
        except SparkyError as error:
            if isinstance(error, DatabaseUnavailable):
                raise
            logger.warning("orphan_order_check_failed", symbol=ended.symbol, reason=str(error))
            return False

    def _cancel_orphans(self, ended: EndedSymbol) -> bool:
        credentials = self._store.get_venue_credentials(ended.user_id, ended.exchange)
        if credentials is None:
            return True
        account: LiveVenue = self._venues.live(ended.exchange, credentials)
        if find_listed_instrument(account, ended.symbol) is None:
            return True  # the venue has cancelled its orders
        # Orders before books: every order listed here belongs to a position or request that the books know by now.
        with low_priority():
            waiting = account.fetch_open_orders(ended.symbol)
        facts = self._store.get_symbol_facts(ended.user_id, ended.exchange, ended.symbol)
        if facts.unsettled:
            return False
        needed_ids = {name for position in facts.positions for name in protective_order_ids(position)}
        own_ids = _build_order_ids(ended)
        for order in waiting:
            name = order.client_order_id
            if name is not None and name in own_ids and name not in needed_ids and self._may_send():
                account.cancel_order(ended.symbol, name)
                self._metrics.orphan_orders.inc()
                logger.warning("orphan_order_cancelled", symbol=ended.symbol, order=name)
        return True


def _build_order_ids(ended: EndedSymbol) -> frozenset[str]:
    """Client order ids of all protective orders that the symbol's entries may have placed."""
    orders = (uuid5(ended.user_id, request_id) for request_id in ended.request_ids)
    return frozenset(build_client_order_id(order, letter) for order in orders for letter in PROTECTIVE_LETTERS)
