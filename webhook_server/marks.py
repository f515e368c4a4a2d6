"""Keeps open positions at the market's price and sees to stops and targets: one thread, one round at a time.

On paper this is what executes them. At a live venue orders wait for the price, which `Watch` sees to; should they not
be there, this closes the position none the less.
"""

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Final

import structlog

from engine.errors import SparkyError, UpstreamUnavailable
from engine.store.store import Store
from engine.types import Position
from webhook_server import reconciliation, sizing
from webhook_server.clock import Clock
from webhook_server.exits import Exits
from webhook_server.metrics import Metrics
from webhook_server.reconciliation import Reconciliation
from webhook_server.recovery import Recovery
from webhook_server.venues import Venues
from webhook_server.watch import Watch

logger = structlog.get_logger()

EQUITY_EVERY_S: Final = 60.0
SWEEP_EVERY_S: Final = 30.0
ABANDONED_AFTER_S: Final = 60.0  # a request open for longer has no sender that still retries


class Marks:
    """One round: price every symbol that anybody holds, write it to the books, exit what has met its stop or target."""

    def __init__(self, store: Store, venues: Venues, exits: Exits, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._venues = venues
        self._exits = exits
        self._clock = clock
        self._metrics = metrics
        self._unpriced: set[tuple[str, str]] = set()

    def round(self) -> None:
        """Raises UpstreamUnavailable when the database is away; a symbol without a price is counted and left out."""
        positions = self._store.open_positions()
        self._metrics.open_positions.set(len(positions))
        for (exchange, symbol), held in by_symbol(positions):
            price = self._price(exchange, symbol)
            if price is not None:
                self._store.mark_positions(exchange, symbol, price)
                self._exit_triggered(held, price)
        self._metrics.last_mark.set(self._clock.now().timestamp())

    def _price(self, exchange: str, symbol: str) -> Decimal | None:
        key = (exchange, symbol)
        try:
            price = self._venues.quotes(exchange).quote(symbol).last
        except SparkyError as error:
            self._metrics.mark_errors.labels(exchange, symbol).inc()
            if key not in self._unpriced:
                logger.warning("no_price", exchange=exchange, symbol=symbol, reason=str(error))
            self._unpriced.add(key)
            return None
        self._unpriced.discard(key)
        return price

    def _exit_triggered(self, positions: Iterable[Position], price: Decimal) -> None:
        for position in positions:
            reason = sizing.triggered(position, price)
            if reason is not None:
                self._exits.exit(position, reason)


class Housekeeping:
    """The server's own thread: recovers what a dead server left half done, then marks, and sweeps now and then.

    Only while `is_active`: what is kept here is kept by one server at a time.
    """

    def __init__(
        self,
        store: Store,
        marks: Marks,
        watch: Watch,
        recovery: Recovery,
        reconciliation: Reconciliation,
        clock: Clock,
        interval_s: float,
        is_active: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = store
        self._marks = marks
        self._watch = watch
        self._recovery = recovery
        self._reconciliation = reconciliation
        self._is_active = is_active
        self._clock = clock
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(grace_s)

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        due = _Due(self._clock)
        while not self._stopping.is_set():
            try:
                if self._is_active():
                    self._round(due)
                else:
                    due = _Due(self._clock)  # a server that takes over starts from the beginning
            except UpstreamUnavailable as error:
                logger.warning("housekeeping_waits", reason=str(error))
            except Exception:
                logger.exception("housekeeping_failed")  # the next round is another try; the thread must live
            self._stopping.wait(self._interval_s)

    def _round(self, due: "_Due") -> None:
        if due.is_first("recovery"):
            self._recovery.run(0.0)
        if due.now("recovery", SWEEP_EVERY_S):
            self._recovery.run(ABANDONED_AFTER_S)
            self._watch.run()
        self._marks.round()
        if due.now("equity", EQUITY_EVERY_S):
            self._store.record_equity(EQUITY_EVERY_S / 2)
        if due.now("reconciliation", reconciliation.EVERY_S):
            self._reconciliation.run()


class _Due:
    """What is to be done every so often."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._done: dict[str, float] = {}

    def is_first(self, name: str) -> bool:
        return name not in self._done

    def now(self, name: str, every_s: float) -> bool:
        now = self._clock.monotonic()
        is_due = name not in self._done or now - self._done[name] >= every_s
        if is_due:
            self._done[name] = now
        return is_due


def by_symbol(positions: Iterable[Position]) -> Iterator[tuple[tuple[str, str], list[Position]]]:
    """Positions grouped by (exchange, symbol), so that each is priced once."""

    def key(position: Position) -> tuple[str, str]:
        return position.exchange, position.symbol

    for name, group in itertools.groupby(sorted(positions, key=key), key):
        yield name, list(group)
