"""Exits that the server makes of its own accord: the same way as any signal's, one request, one close, one booking."""

import hashlib

import structlog

from engine.errors import UpstreamUnavailable
from engine.types import Position, SignalAction
from webhook_server.clock import Clock
from webhook_server.metrics import Metrics
from webhook_server.pipeline import Pipeline
from webhook_server.schemas import Order
from webhook_server.trade import Request

logger = structlog.get_logger()


class Exits:
    """Closes a position because its stop-loss or take-profit was reached, or books that the venue did."""

    def __init__(self, pipeline: Pipeline, clock: Clock, metrics: Metrics) -> None:
        self._pipeline = pipeline
        self._clock = clock
        self._metrics = metrics

    def exit(self, position: Position, reason: str) -> None:
        """`reason` is what the trade will show. What cannot be done now is tried again in the next round.

        Raises UpstreamUnavailable when the database is away.
        """
        request = self._request(position, reason)
        log = logger.bind(signal=request.id, symbol=position.symbol)
        try:
            answer = self._pipeline.perform(request, hashlib.sha256(request.id.encode()).hexdigest())
        except UpstreamUnavailable as error:
            if error.service == "database":
                raise
            log.warning("protective_exit_waits", reason=str(error))
            return
        if answer.body.get("action") == "closed":
            self._metrics.protective_exits.labels(reason).inc()
        log.info("protective_exit", reason=reason, status=answer.status, error=answer.body.get("error"))

    def _request(self, position: Position, reason: str) -> Request:
        now = self._clock.now()
        order = Order(
            exchange=position.exchange,
            symbol=position.symbol,
            action=SignalAction.CLOSE,
            strategy_id=position.strategy_id,
            source=reason,
        )
        return Request(
            f"{reason}-{position.id}-{int(now.timestamp())}",
            position.user_id,
            order,
            now,
            self._clock.monotonic(),
            exit_reason=reason,
            position_id=position.id,
        )
