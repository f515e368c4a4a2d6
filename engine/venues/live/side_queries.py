"""Clients of an account for queries and entry settings, so that an exit never waits for their answers."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final

from engine.domain.errors import OrderRejected, VenueUnavailable
from engine.venues.ccxt_client.aster import CLIENT_NUMBER
from engine.venues.ccxt_client.errors import translate_errors
from engine.venues.live.account_queries import CcxtAccountQueries
from engine.venues.live.conditional_orders import TriggerOrders
from engine.venues.live.entry_settings import EntrySettings
from engine.venues.market_data.coin_prices import CoinPrices

RECORD_CLIENT: Final = 1  # 0 is the one that sends orders
ENTRY_CLIENT: Final = 2


class BackgroundAccountQueries(CcxtAccountQueries):
    """The part of an account's record that is read for the books alone."""

    def __init__(self, exchange: Any) -> None:
        self._exchange = exchange
        self._trigger_orders = TriggerOrders(exchange)
        self._coin_prices = CoinPrices(exchange, exchange.session.limiter.monotonic)
        self._lock = threading.RLock()

    def convert_to_usd(self, asset: str, amount: Decimal, at_ms: int) -> Decimal | None:
        """As `AccountRecord.convert_to_usd`; first gives this client the list of markets."""
        with self._query():
            self._exchange.listing.update_client(self._exchange)
        return super().convert_to_usd(asset, amount, at_ms)

    def close(self) -> None:
        self._exchange.session.close()

    @contextmanager
    def _query(self) -> Iterator[None]:
        try:
            with self._lock, translate_errors(self._exchange):
                yield
        except OrderRejected as refusal:  # because a query cannot be rejected as an order is
            raise VenueUnavailable(str(refusal)) from refusal


class SideClients:
    """Both side clients of one account, opened on first use with a client from `open_client`."""

    def __init__(self, open_client: Callable[[], Any]) -> None:
        self._open_client = open_client
        self._lock = threading.Lock()
        self._record: BackgroundAccountQueries | None = None
        self._entries: EntrySettings | None = None

    @property
    def record(self) -> BackgroundAccountQueries:
        with self._lock:
            if self._record is None:
                self._record = BackgroundAccountQueries(self._open_numbered_client(RECORD_CLIENT))
            return self._record

    @property
    def entries(self) -> EntrySettings:
        with self._lock:
            if self._entries is None:
                self._entries = EntrySettings(self._open_numbered_client(ENTRY_CLIENT))
            return self._entries

    def _open_numbered_client(self, number: int) -> Any:
        exchange = self._open_client()
        exchange.options[CLIENT_NUMBER] = number
        return exchange

    def close(self) -> None:
        for client in (self._record, self._entries):
            if client is not None:
                client.close()
