"""Keeps open positions at the market's price and sees to stops and targets, one round at a time.

On paper this is what executes them. At a live venue orders wait for the price, which `ProtectionWatchdog` sees to;
should they not be there, this closes the position none the less.
"""

import itertools
from collections.abc import Iterable, Iterator
from decimal import Decimal

import structlog

from engine.domain.positions import Position
from engine.platform.errors import SparkyError
from engine.platform.metrics import label
from engine.risk import sizing
from engine.store.store import Store
from engine.venues.quotes import Ticker
from webhook_server.background.paper_round import MarketExit, PaperRound, build_exit_terms
from webhook_server.background.protective_exits import ProtectiveExits
from webhook_server.clock import Clock
from webhook_server.metrics import Metrics
from webhook_server.reconciliation.open_order_cache import find_listed_instrument
from webhook_server.reconciliation.outside_exits import DELISTED
from webhook_server.venue_registry import Venues

logger = structlog.get_logger()


class MarkToMarket:
    """One round: price every symbol that anybody holds, write it to the books, exit what has met its stop or target, or
    on paper has no margin left."""

    def __init__(self, store: Store, venues: Venues, exits: ProtectiveExits, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._venues = venues
        self._exits = exits
        self._clock = clock
        self._metrics = metrics
        self._unpriced: set[tuple[str, str]] = set()

    def run_once(self) -> None:
        """Raises UpstreamUnavailable when the database is away; a symbol without a price is counted and left out."""
        positions = self._store.list_open_positions()
        self._metrics.open_positions.set(len(positions))
        has_paper = any(each.is_paper for each in positions)
        paper = PaperRound(self._venues, positions, self._store.list_paper_margins() if has_paper else ())
        for (exchange, symbol), held in group_by_symbol(positions):
            if self._is_delisted(exchange, symbol):
                self._exit_delisted(held)
                continue
            if any(each.is_paper for each in held):
                paper.fetch_mark_price(exchange, symbol)
            ticker = self._fetch_ticker(exchange, symbol)
            if ticker is not None:
                self._store.mark_positions(exchange, symbol, ticker.last)
                self._exit_triggered(held, ticker.last)
                self._exit_ended_by_market(paper.find_exits(exchange, symbol, held, ticker), ticker)
        self._exit_ended_by_market(paper.find_cross_exits())
        self._store.update_margins(paper.build_margin_notes())
        self._metrics.last_mark.set(self._clock.now().timestamp())

    def _fetch_ticker(self, exchange: str, symbol: str) -> Ticker | None:
        key = (exchange, symbol)
        try:
            ticker = self._venues.quotes(exchange).fetch_ticker(symbol)
        except SparkyError as error:
            self._metrics.mark_errors.labels(label(exchange), label(symbol)).inc()
            if key not in self._unpriced:
                logger.warning("price_unavailable", exchange=exchange, symbol=symbol, reason=str(error))
            self._unpriced.add(key)
            return None
        self._unpriced.discard(key)
        return ticker

    def _is_delisted(self, exchange: str, symbol: str) -> bool:
        """False where that is not known."""
        try:
            return find_listed_instrument(self._venues.quotes(exchange), symbol) is None
        except SparkyError:
            return False

    def _exit_delisted(self, positions: Iterable[Position]) -> None:
        """Ends paper positions in a symbol that the exchange lists no more; live ones are settled by their venue."""
        for position in positions:
            if position.is_paper:
                self._exits.exit(position, DELISTED)

    def _exit_triggered(self, positions: Iterable[Position], price: Decimal) -> None:
        """Of live positions, whose orders at the venue come first."""
        for position in positions:
            reason = None if position.is_paper else sizing.find_triggered_exit(position, price)
            if reason is not None:
                self._exits.exit(position, reason)

    def _exit_ended_by_market(self, exits: Iterable[MarketExit], ticker: Ticker | None = None) -> None:
        """Of paper positions."""
        for position, end in exits:
            self._exits.exit(position, end.reason, build_exit_terms(end, ticker))


def group_by_symbol(positions: Iterable[Position]) -> Iterator[tuple[tuple[str, str], list[Position]]]:
    """Positions grouped by (exchange, symbol), so that each is priced once."""

    def key(position: Position) -> tuple[str, str]:
        return position.exchange, position.symbol

    for name, group in itertools.groupby(sorted(positions, key=key), key):
        yield name, list(group)
