"""Finishes requests that a server left unfinished when it died, without executing stale ones."""

from collections.abc import Callable
from datetime import timedelta

import structlog
from pydantic import ValidationError

from engine.platform.errors import DatabaseUnavailable, UpstreamUnavailable
from engine.store.store import Store
from engine.store.webhook_rows import UnfinishedRequest
from webhook_server.clock import Clock
from webhook_server.execution.pipeline import Pipeline
from webhook_server.execution.results import (
    Result,
    Retryable,
    build_outcome_unknown,
    build_unavailable,
    get_outcome,
)
from webhook_server.metrics import Metrics
from webhook_server.reconciliation.unavailable_accounts import UnavailableAccounts

logger = structlog.get_logger()


class Recovery:
    """Finishes all unfinished requests at the start, and later those whose sender no longer retries."""

    def __init__(self, store: Store, pipeline: Pipeline, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._pipeline = pipeline
        self._clock = clock
        self._metrics = metrics

    def run(self, min_age_s: float = 0.0, should_continue: Callable[[], bool] = lambda: True) -> int:
        """Resumes every unfinished request older than `min_age_s`, until `should_continue` is False; returns how many
        are finished.

        A live order that reached the venue is booked. Paper orders, and live ones that never reached the venue, are
        executed unless they are stale by now. Raises UpstreamUnavailable when the database is away.
        """
        latest = self._clock.now() - timedelta(seconds=min_age_s)
        rows = [row for row in self._store.list_unfinished_requests() if row.created_at <= latest]
        unavailable, finished_count = UnavailableAccounts(), 0
        for row in rows:
            if should_continue() and not unavailable.should_skip(row.user_id, row.exchange):
                finished_count += self._finish(row, unavailable)
        return finished_count

    def _finish(self, row: UnfinishedRequest, unavailable: UnavailableAccounts) -> bool:
        result = self._resume(row, unavailable)
        outcome = get_outcome(result)
        self._metrics.recovered.labels(outcome).inc()
        logger.info("request_recovered", signal=row.request_id, outcome=outcome, error=result.error)
        return not isinstance(result, Retryable)

    def _resume(self, row: UnfinishedRequest, unavailable: UnavailableAccounts) -> Result:
        try:
            return self._pipeline.resume(row)
        except UpstreamUnavailable as error:
            if isinstance(error, DatabaseUnavailable):
                raise
            unavailable.add(row.user_id, row.exchange)  # its other requests would only time out too
            return build_unavailable(error, row.exchange)
        except Exception as error:
            logger.exception("recovery_failed", signal=row.request_id)
            if row.may_have_traded:  # an order may be at the venue, so the request stays open and is tried again
                return build_outcome_unknown(row.exchange)
            is_unreadable = isinstance(error, ValidationError)
            return self._pipeline.give_up(
                row, "its stored payload cannot be read by this version" if is_unreadable else type(error).__name__
            )
