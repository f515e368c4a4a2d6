"""What the server says about itself and about the engine; every answer can be a bad one."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from engine.platform.errors import SparkyError
from engine.store.store import Store
from webhook_server.clock import Clock
from webhook_server.http.responses import WebhookResponse, to_json
from webhook_server.metrics import Metrics

MAX_COUNT_AGE_S: Final = 300.0  # positions are counted in every round of marking, on the server that executes
_UNKNOWN_FIELDS: Final = {"activeStrategies": None, "lastCycle": None, "metrics": {"signalsPending": None}}


class Health:
    def __init__(self, store: Store, clock: Clock, metrics: Metrics, is_active: Callable[[], bool]) -> None:
        self._store = store
        self._is_active = is_active
        self._clock = clock
        self._metrics = metrics
        self._started = clock.monotonic()

    def server_health(self) -> WebhookResponse:
        """200 while the database answers a query and can be written, else 503."""
        uptime_s = round(self._clock.monotonic() - self._started, 3)
        body: dict[str, Any] = {
            "status": "ok",
            "uptime": uptime_s,
            "uptimeFormatted": str(timedelta(seconds=int(uptime_s))),
            "apiStatus": "connected",
            "openPositions": self._count_open_positions(),
            "timestamp": self._clock.now().isoformat(),
        }
        try:
            is_read_only = self._store.get_database_health().read_only
        except SparkyError:
            return WebhookResponse(
                503, body | {"status": "unhealthy", "apiStatus": "database unavailable", "openPositions": None}
            )
        if is_read_only:
            return WebhookResponse(503, body | {"status": "unhealthy", "apiStatus": "database is read-only"})
        return WebhookResponse(200, body)

    def _count_open_positions(self) -> int | None:
        """As of the last round of marking; None when this server has counted none lately."""
        sample = self._metrics.registry.get_sample_value
        counted_at = sample("sparky_webhook_last_mark_timestamp_seconds") or 0.0
        held = sample("sparky_webhook_open_positions")
        if held is None or self._clock.now().timestamp() - counted_at > MAX_COUNT_AGE_S:
            return None
        return int(held)

    def lease_status(self) -> WebhookResponse:
        """200 on the server that executes, as of its last look at the lease."""
        is_active = self._is_active()
        body = {"status": "executing" if is_active else "standing by", "timestamp": self._clock.now().isoformat()}
        return WebhookResponse(200 if is_active else 503, body)

    def engine_health(self) -> WebhookResponse:
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
        last_at = at if isinstance(at, datetime) else None  # text is a moment that Python lacks
        cadences_s = [row.cadence_seconds for row in running]
        status = "unknown" if cadences_s and isinstance(at, str) else engine_status(now, last_at, cadences_s)
        body = {
            "status": status,
            "activeStrategies": len(running),
            "lastCycle": None if last_at is None else last_at.isoformat(),
            "metrics": {"signalsPending": pending},
            "timestamp": now.isoformat(),
        }
        return WebhookResponse(503 if status in ("stalled", "unknown") else 200, to_json(body))


def _build_unknown(reason: str, now: datetime) -> WebhookResponse:
    return WebhookResponse(
        503, {"status": "unhealthy", "error": reason, **_UNKNOWN_FIELDS, "timestamp": now.isoformat()}
    )


def engine_status(now: datetime, last_at: datetime | None, cadences_s: Sequence[float]) -> str:
    """idle (nothing runs), waiting (no decision ever), ok, or stalled."""
    if not cadences_s:
        return "idle"
    if last_at is None:
        return "waiting"
    max_age = timedelta(seconds=3 * max(cadences_s) + 60)
    return "stalled" if now - last_at > max_age else "ok"
