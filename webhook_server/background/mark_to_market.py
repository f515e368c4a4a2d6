"""Marks open positions to the market's price and executes stop-losses and take-profits, one round at a time.

Paper positions end here alone. At a live venue trigger orders wait for the price, which `ProtectionWatchdog` maintains;
where they are missing, this closes the position.
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
    """One round: prices every symbol with an open position, writes the price to the books, and exits positions that
    have reached their stop-loss or take-profit, or on paper have no margin left."""

    def __init__(self, store: Store, venues: Venues, exits: ProtectiveExits, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._venues = venues
        self._exits = exits
        self._clock = clock
        self._metrics = metrics
        self._unpriced: set[tuple[str, str]] = set()

    def run_once(self) -> None:
        """Runs one round. A symbol without a price is counted and left out. Raises UpstreamUnavailable for the database
        only."""
        positions = self._store.list_open_positions()
        self._metrics.open_positions.set(len(positions))
        has_paper = any(position.is_paper for position in positions)
        paper = PaperRound(self._venues, positions, self._store.list_paper_margins() if has_paper else ())
        for (exchange, symbol), held in group_by_symbol(positions):
            if self._is_delisted(exchange, symbol):
                self._exit_delisted(held)
                continue
            if any(position.is_paper for position in held):
                paper.fetch_mark_price(exchange, symbol)
            ticker = self._fetch_ticker(exchange, symbol)
            if ticker is not None:
                # The price first: equity and drawdown need it also where an exit fails.
                self._store.mark_positions(exchange, symbol, ticker.last)
                self._exit_triggered(held, ticker.last)
                self._exit_ended_by_market(paper.find_exits(exchange, symbol, held, ticker), ticker)
        self._exit_ended_by_market(paper.find_cross_exits())
        # After the exits: a server that dies in between compares the same candles again.
        self._store.update_margins(paper.build_margin_updates())
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
        """Whether the venue lists the symbol no more; False where it does not answer, since an exit is final."""
        try:
            return find_listed_instrument(self._venues.quotes(exchange), symbol) is None
        except SparkyError:
            return False

    def _exit_delisted(self, positions: Iterable[Position]) -> None:
        """Exits paper positions in a delisted symbol; a live one is settled by its venue, see `DelistedReconciler`."""
        for position in positions:
            if position.is_paper:
                self._exits.exit(position, DELISTED)

    def _exit_triggered(self, positions: Iterable[Position], price: Decimal) -> None:
        """Exits live positions by the last price. Paper ones have more exact rules, see `PaperRound`."""
        for position in positions:
            reason = None if position.is_paper else sizing.find_triggered_exit(position, price)
            if reason is not None:
                self._exits.exit(position, reason)

    def _exit_ended_by_market(self, exits: Iterable[MarketExit], ticker: Ticker | None = None) -> None:
        """Exits paper positions that the market has ended."""
        for position, end in exits:
            self._exits.exit(position, end.reason, build_exit_terms(end, ticker))


def group_by_symbol(positions: Iterable[Position]) -> Iterator[tuple[tuple[str, str], list[Position]]]:
    """Positions grouped by (exchange, symbol), so that each symbol is priced once."""

    def key(position: Position) -> tuple[str, str]:
        return position.exchange, position.symbol

    for symbol_key, group in itertools.groupby(sorted(positions, key=key), key):
        yield symbol_key, list(group)
