"""Keeps open positions at the market's price and executes paper stops and targets: one thread, one round at a time."""

import hashlib
import itertools
import threading
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Final

import structlog

from engine.errors import SparkyError, UpstreamUnavailable
from engine.store.store import Store
from engine.types import Position, SignalAction
from webhook_server import sizing
from webhook_server.clock import Clock
from webhook_server.metrics import Metrics
from webhook_server.pipeline import Pipeline
from webhook_server.recovery import Recovery
from webhook_server.schemas import Order
from webhook_server.trade import Request
from webhook_server.venues import Venues

logger = structlog.get_logger()

SWEEP_EVERY_S: Final = 30.0
ABANDONED_AFTER_S: Final = 60.0  # a request open for longer has no sender that still retries


class Marks:
    """One round: price every symbol that anybody holds, write it to the books, exit what has met its stop or target."""

    def __init__(self, store: Store, venues: Venues, pipeline: Pipeline, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._venues = venues
        self._pipeline = pipeline
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
            reason = sizing.triggered(position, price) if position.is_paper else None
            if reason is not None:
                self._exit(position, reason)

    def _exit(self, position: Position, reason: str) -> None:
        """The same way as any signal: one request, one close, one booking."""
        now = self._clock.now()
        name = f"{reason}-{position.id}-{int(now.timestamp())}"
        order = Order(
            exchange=position.exchange,
            symbol=position.symbol,
            action=SignalAction.CLOSE,
            strategy_id=position.strategy_id,
            source=reason,
        )
        request = Request(
            name,
            position.user_id,
            order,
            now,
            self._clock.monotonic(),
            exit_reason=reason,
            position_id=position.id,
        )
        answer = self._pipeline.perform(request, hashlib.sha256(name.encode()).hexdigest())
        self._metrics.protective_exits.labels(reason).inc()
        logger.info("protective_exit", signal=name, symbol=position.symbol, reason=reason, status=answer.status)


class Housekeeping:
    """The server's own thread: recovers what a dead server left half done, then marks, and sweeps now and then."""

    def __init__(self, marks: Marks, recovery: Recovery, clock: Clock, interval_s: float) -> None:
        self._marks = marks
        self._recovery = recovery
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
        swept_at: float | None = None
        while not self._stopping.is_set():
            try:
                now = self._clock.monotonic()
                if swept_at is None or now - swept_at >= SWEEP_EVERY_S:
                    self._recovery.run(0.0 if swept_at is None else ABANDONED_AFTER_S)
                    swept_at = now
                self._marks.round()
            except UpstreamUnavailable as error:
                logger.warning("housekeeping_waits", reason=str(error))
            except Exception:
                logger.exception("housekeeping_failed")  # the next round is another try; the thread must live
            self._stopping.wait(self._interval_s)


def by_symbol(positions: Iterable[Position]) -> Iterator[tuple[tuple[str, str], list[Position]]]:
    """Positions grouped by (exchange, symbol), so that each is priced once."""

    def key(position: Position) -> tuple[str, str]:
        return position.exchange, position.symbol

    for name, group in itertools.groupby(sorted(positions, key=key), key):
        yield name, list(group)
