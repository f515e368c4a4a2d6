"""What is asked of an account beside its orders, by clients of their own: an exit never waits for these answers."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final

from engine.domain.errors import VenueRefused
from engine.domain.positions import MarginMode
from engine.platform.errors import UpstreamUnavailable
from engine.venues.ccxt_client.aster import CLIENT_NUMBER
from engine.venues.ccxt_client.errors import translated
from engine.venues.live.account_queries import CcxtRecord
from engine.venues.live.conditional_orders import ConditionalOrders
from engine.venues.live.leverage import Leverage
from engine.venues.live.margin_mode import MarginModes, arrange, is_arranged
from engine.venues.market_data.coin_prices import CoinPrices
from engine.venues.market_data.instruments import market_of
from engine.venues.venue import OrderRequest

RECORD: Final = 1  # 0 is the one that sends orders
ENTRIES: Final = 2


class SideRecord(CcxtRecord):
    """The part of an account's record that is read for the books alone."""

    def __init__(self, exchange: Any) -> None:
        self._exchange = exchange
        self._conditional = ConditionalOrders(exchange)
        self._coins = CoinPrices(exchange, exchange.session.backoff.monotonic)
        self._lock = threading.RLock()

    def worth_usd(self, asset: str, amount: Decimal, at_ms: int) -> Decimal | None:
        """As `AccountRecord`'s, by a list of markets that this client has not been given before, perhaps."""
        with self._asking():
            self._exchange.listing.bring(self._exchange)
        return super().worth_usd(asset, amount, at_ms)

    def close(self) -> None:
        self._exchange.session.close()

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            with self._lock, translated(self._exchange):
                yield
        except VenueRefused as refusal:  # there is nothing to refuse in a question: the venue is not itself
            raise UpstreamUnavailable("venue", str(refusal)) from refusal


class Arranging:
    """The margin modes and leverages of one account, set for its entries."""

    def __init__(self, exchange: Any) -> None:
        self._exchange = exchange
        self.leverage = Leverage(exchange)
        self.margin_modes = MarginModes(exchange)
        self._lock = threading.RLock()

    def prepare(self, entry: OrderRequest, *, is_flat: bool) -> bool:
        """Margin mode and leverage of `entry`; see `Venue.prepare`."""
        with self.taking_turns() as exchange:
            market = market_of(exchange, entry.symbol)
            if is_flat:
                self.margin_modes.forget(market)
            if is_arranged(market, entry, self.margin_modes, self.leverage):
                return False
            arrange(market, entry, self.margin_modes, self.leverage)
            return True

    def margin_mode(self, symbol: str) -> MarginMode | None:
        """The symbol's mode, read now; None where the venue does not tell."""
        with self.taking_turns() as exchange:
            return self.margin_modes.told(market_of(exchange, symbol))

    @contextmanager
    def taking_turns(self) -> Iterator[Any]:
        """The client, while no other thread asks it."""
        with self._lock, translated(self._exchange):
            yield self._exchange

    def close(self) -> None:
        self._exchange.session.close()


class Beside:
    """Both, for one account; each is opened when it is needed first, with a client from `open_client`."""

    def __init__(self, open_client: Callable[[], Any]) -> None:
        self._open_client = open_client
        self._lock = threading.Lock()
        self._record: SideRecord | None = None
        self._entries: Arranging | None = None

    @property
    def record(self) -> SideRecord:
        with self._lock:
            if self._record is None:
                self._record = SideRecord(self._opened(RECORD))
            return self._record

    @property
    def entries(self) -> Arranging:
        with self._lock:
            if self._entries is None:
                self._entries = Arranging(self._opened(ENTRIES))
            return self._entries

    def _opened(self, number: int) -> Any:
        exchange = self._open_client()
        exchange.options[CLIENT_NUMBER] = number
        return exchange

    def close(self) -> None:
        for each in (self._record, self._entries):
            if each is not None:
                each.close()
