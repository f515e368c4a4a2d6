"""Exits that the server makes of its own accord: the same way as any signal's, one request, one close, one booking."""

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

# An exit that the venue has refused is not asked for again within the same third of a minute. What it was refused for
# may be over by then (a hand has closed what it held on the opposite side), and no order protects the position.
RETRY_WINDOW_S: Final = 20


class ProtectiveExits:
    """Closes a position because its stop-loss or take-profit was reached, or books that the venue did."""

    def __init__(self, pipeline: Pipeline, clock: Clock, metrics: Metrics) -> None:
        self._pipeline = pipeline
        self._clock = clock
        self._metrics = metrics

    def exit(self, position: Position, reason: str, terms: ExitTerms | None = None) -> None:
        """`reason` is what the trade will show; a position on paper ends at `terms`, where they are given.

        What cannot be done now is tried again in a later round. Raises UpstreamUnavailable when the database is away,
        and nothing else: one position's fault is in no other's way.
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
        """The same one in all rounds of RETRY_WINDOW_S while as much is held: what failed for good fails once in it."""
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
