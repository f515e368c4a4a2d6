"""Exits that the server starts itself. They take the way of any signal: one request, one close, one booking."""

import hashlib
from typing import Final

import structlog

from engine.domain.positions import Position
from engine.domain.signal import SignalAction
from engine.platform.errors import DatabaseUnavailable, UpstreamUnavailable
from webhook_server.clock import Clock
from webhook_server.execution.execution_context import SERVER_EXIT_PREFIX, Request
from webhook_server.execution.pipeline import Pipeline
from webhook_server.execution.results import Closed, get_outcome
from webhook_server.intake.schemas import ExitTerms, WebhookSignal
from webhook_server.metrics import Metrics

logger = structlog.get_logger()

# An exit that the venue has refused is tried again in the next window: the cause may be over by then (a person has
# closed an opposite position), and meanwhile no order protects the position.
RETRY_WINDOW_S: Final = 20


class ProtectiveExits:
    """Closes a position whose stop-loss or take-profit was reached, or books the close that the venue has made."""

    def __init__(self, pipeline: Pipeline, clock: Clock, metrics: Metrics) -> None:
        self._pipeline = pipeline
        self._clock = clock
        self._metrics = metrics

    def exit(self, position: Position, reason: str, terms: ExitTerms | None = None) -> None:
        """Exits `position` with the exit reason `reason`; one on paper at `terms`, where they are given.

        An exit that fails is tried again in a later round. Raises UpstreamUnavailable for the database and nothing
        else, so that the caller goes on with other positions.
        """
        log = logger.bind(position=str(position.id), symbol=position.symbol)
        try:
            self._execute(self._build_request(position, reason, terms), reason, log)
        except UpstreamUnavailable as error:
            if isinstance(error, DatabaseUnavailable):
                raise
            log.warning("protective_exit_waits", reason=str(error))
        except Exception:
            log.exception("protective_exit_failed")

    def _execute(self, request: Request, reason: str, log: structlog.stdlib.BoundLogger) -> None:
        result = self._pipeline.execute_once(request, hashlib.sha256(request.id.encode()).hexdigest())
        outcome = get_outcome(result)
        if outcome == Closed.outcome:
            self._metrics.protective_exits.labels(reason).inc()
        fields = {"reason": reason, "outcome": outcome, "error": result.error}
        log.info("protective_exit", signal=request.id, **fields)

    def _build_request(self, position: Position, reason: str, terms: ExitTerms | None) -> Request:
        """The same request for all rounds of one RETRY_WINDOW_S while the quantity is the same, so that a refusal is
        repeated from the books and not asked of the venue again."""
        now = self._clock.now()
        signal = WebhookSignal(
            exchange=position.exchange,
            symbol=position.symbol,
            action=SignalAction.CLOSE,
            strategy_id=position.strategy_id,
            source=reason,
            exit_terms=terms,
        )
        return Request(
            f"{SERVER_EXIT_PREFIX}{reason}/{position.id}/{position.quantity:f}/"
            f"{int(now.timestamp() // RETRY_WINDOW_S)}",
            position.user_id,
            signal,
            now,
            self._clock.monotonic(),
            exit_reason=reason,
            position_id=position.id,
        )
