"""What the server says about itself and about the engine; every answer can be a bad one."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from engine.errors import SparkyError
from engine.store.store import Store
from webhook_server.answers import Answer, plain
from webhook_server.clock import Clock
from webhook_server.metrics import Metrics


class Health:
    def __init__(self, store: Store, clock: Clock, metrics: Metrics, is_active: Callable[[], bool]) -> None:
        self._store = store
        self._is_active = is_active
        self._clock = clock
        self._metrics = metrics
        self._started = clock.monotonic()

    def server(self) -> Answer:
        """200 while the database answers a query and can be written, else 503."""
        uptime_s = round(self._clock.monotonic() - self._started, 3)
        body: dict[str, Any] = {
            "status": "ok",
            "uptime": uptime_s,
            "uptimeFormatted": str(timedelta(seconds=int(uptime_s))),
            "apiStatus": "connected",
            "openPositions": int(self._metrics.registry.get_sample_value("sparky_webhook_open_positions") or 0),
            "timestamp": self._clock.now().isoformat(),
        }
        try:
            is_read_only = self._store.health().read_only
        except SparkyError:
            return Answer(503, body | {"status": "unhealthy", "apiStatus": "database unavailable"})
        if is_read_only:
            return Answer(503, body | {"status": "unhealthy", "apiStatus": "database is read-only"})
        return Answer(200, body)

    def role(self) -> Answer:
        """200 on the server that executes, as of its last look at the lease."""
        executes = self._is_active()
        body = {"status": "executing" if executes else "standing by", "timestamp": self._clock.now().isoformat()}
        return Answer(200 if executes else 503, body)

    def ai_worker(self) -> Answer:
        """503 when strategies run and none has decided for three of the slowest cadences, or the database is away."""
        now = self._clock.now()
        try:
            running = self._store.running_strategies()
            last = self._store.decisions(None, 1)
            pending = self._store.outbox_pending()
        except SparkyError:
            return Answer(503, {"status": "unhealthy", "error": "database unavailable", "timestamp": now.isoformat()})
        at = last[0].created_at if last else None
        last_at = at if isinstance(at, datetime) else None  # text is a moment that Python lacks
        status = worker_status(now, last_at, [row.cadence_seconds for row in running])
        body = {
            "status": status,
            "activeStrategies": len(running),
            "lastCycle": None if last_at is None else last_at.isoformat(),
            "metrics": {"signalsPending": pending},
            "timestamp": now.isoformat(),
        }
        return Answer(503 if status == "stalled" else 200, plain(body))


def worker_status(now: datetime, last_at: datetime | None, cadences_s: list[float]) -> str:
    """idle (nothing runs), waiting (no decision ever), ok, or stalled."""
    if not cadences_s:
        return "idle"
    if last_at is None:
        return "waiting"
    patience = timedelta(seconds=3 * max(cadences_s) + 60)
    return "stalled" if now - last_at > patience else "ok"
