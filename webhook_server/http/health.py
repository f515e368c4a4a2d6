"""Health of the server and of the engine, for load balancers, supervisors and alerts.

Each check can fail: 503 where a sender would get no execution, or the engine makes no decisions.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from pydantic import ValidationError

from engine.platform.errors import SparkyError
from engine.store.store import Store
from webhook_server.clock import Clock
from webhook_server.http.read_models import (
    EngineHealthBody,
    EngineStatus,
    EngineUnknownBody,
    LeaseStatusBody,
    ServerHealthBody,
    SignalQueueBody,
)
from webhook_server.http.responses import WebhookResponse, respond
from webhook_server.metrics import Metrics

MAX_COUNT_AGE_S: Final = 300.0  # positions are counted in every round of marking, on the server that executes
_CONNECTED: Final = "connected"


class Health:
    """The checks. `is_active` says whether this server holds the lease to execute."""

    def __init__(self, store: Store, clock: Clock, metrics: Metrics, is_active: Callable[[], bool]) -> None:
        self._store = store
        self._is_active = is_active
        self._clock = clock
        self._metrics = metrics
        self._started = clock.monotonic()

    def check_server(self) -> WebhookResponse:
        """200 while the database answers a query and can be written, else 503."""
        open_positions = self._count_open_positions()
        try:
            is_read_only = self._store.get_database_health().read_only
        except SparkyError:
            return self._build_server_health("database unavailable", None)
        if is_read_only:
            return self._build_server_health("database is read-only", open_positions)
        return self._build_server_health(_CONNECTED, open_positions)

    def _build_server_health(self, database_status: str, open_positions: int | None) -> WebhookResponse:
        uptime_s = round(self._clock.monotonic() - self._started, 3)
        is_healthy = database_status == _CONNECTED
        body = ServerHealthBody(
            status="ok" if is_healthy else "unhealthy",
            uptime=uptime_s,
            uptimeFormatted=str(timedelta(seconds=int(uptime_s))),
            apiStatus=database_status,
            openPositions=open_positions,
            timestamp=self._clock.now(),
        )
        return respond(200 if is_healthy else 503, body)

    def _count_open_positions(self) -> int | None:
        """As of the last round of marking; None when this server has run none for MAX_COUNT_AGE_S.

        From the metrics and not from the database: health is polled, and counting would cost a query each time.
        """
        sample = self._metrics.registry.get_sample_value
        counted_at = sample("sparky_webhook_last_mark_timestamp_seconds") or 0.0
        held = sample("sparky_webhook_open_positions")
        if held is None or self._clock.now().timestamp() - counted_at > MAX_COUNT_AGE_S:
            return None
        return int(held)

    def check_lease(self) -> WebhookResponse:
        """200 on the server that executes, as of its last renewal of the lease; makes no query."""
        is_active = self._is_active()
        body = LeaseStatusBody(status="executing" if is_active else "standing by", timestamp=self._clock.now())
        return respond(200 if is_active else 503, body)

    def check_engine(self) -> WebhookResponse:
        """503 when strategies run and none has decided for three of the slowest cadences, or that is not known."""
        now = self._clock.now()
        try:
            running = self._store.list_running_strategies()
            last = self._store.list_decisions(None, 1)
            pending = self._store.count_pending_signals()
        except SparkyError:
            return _build_unknown("database unavailable", now)
        except ValidationError:
            return _build_unknown("a row cannot be read", now)
        at = last[0].created_at if last else None
        last_at = at if isinstance(at, datetime) else None  # the store leaves moments beyond Python's years as text
        cadences_s = [row.cadence_seconds for row in running]
        status = "unknown" if cadences_s and isinstance(at, str) else classify_engine(now, last_at, cadences_s)
        body = EngineHealthBody(
            status=status,
            activeStrategies=len(running),
            lastCycle=last_at,
            metrics=SignalQueueBody(signalsPending=pending),
            timestamp=now,
        )
        return respond(503 if status in ("stalled", "unknown") else 200, body)


def _build_unknown(reason: str, now: datetime) -> WebhookResponse:
    body = EngineUnknownBody(
        status="unhealthy",
        error=reason,
        activeStrategies=None,
        lastCycle=None,
        metrics=SignalQueueBody(signalsPending=None),
        timestamp=now,
    )
    return respond(503, body)


def classify_engine(now: datetime, last_at: datetime | None, cadences_s: Sequence[float]) -> EngineStatus:
    """idle: nothing runs; waiting: no decision yet; stalled: none for three of the slowest cadences and 60 s."""
    if not cadences_s:
        return "idle"
    if last_at is None:
        return "waiting"
    max_age = timedelta(seconds=3 * max(cadences_s) + 60)
    return "stalled" if now - last_at > max_age else "ok"
