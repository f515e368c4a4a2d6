"""What becomes of a signal that has its place, in order: deduplicate, risk, execute, book, answer."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import timedelta
from typing import Final

import structlog

from engine.domain.errors import OutcomeUnknown, StrategyFault, VenueRefused
from engine.platform.errors import SparkyError, UpstreamUnavailable
from engine.store.store import Store
from engine.store.webhook_rows import BeganExecution, UnfinishedRequest
from webhook_server.clock import Clock
from webhook_server.execution.execution_context import Ended, HeldBack, Request, Standby, own_exit
from webhook_server.execution.executor import Desk
from webhook_server.http import responses
from webhook_server.http.responses import Answer
from webhook_server.intake.schemas import restored
from webhook_server.locks import Busy, KeyedLocks
from webhook_server.metrics import Metrics

logger = structlog.get_logger()

_TOLD: Final = {
    "done": "action",
    "side": "side",
    "quantity": "quantity",
    "price": "fill_price",
    "fee_usd": "fee_usd",
    "error": "error",
    "reason": "reason",
    "took_ms": "duration",
}

STALE_AFTER: Final = timedelta(seconds=60)  # an entry without an expiry of its own is not made later than this
NOT_EXECUTED: Final = (responses.in_progress(), responses.standby(), responses.held_back())
REPEAT_WAIT_S: Final = 2.0  # a repetition waits this long for the first answer before it is sent away


def _nothing(_: Request) -> None:
    """Where nothing is done before a request."""


class MarketFirst(SparkyError):
    """The market ended positions before the request came: `book` makes those exits, and the request follows."""

    def __init__(self, book: Callable[[], None]) -> None:
        super().__init__("the market has ended a position")
        self.book = book


class Pipeline:
    """Takes signals from any thread. Nothing of a signal happens twice, whatever was delivered how often."""

    def __init__(self, store: Store, desk: Desk, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._desk = desk
        self._clock = clock
        self._metrics = metrics
        self._in_progress = KeyedLocks()
        self.before: Callable[[Request], None] = _nothing  # done with each request in its turn; raises MarketFirst

    def perform(self, request: Request, fingerprint: str) -> Answer:
        """Executes `request` unless it was before; then the first answer is given again.

        Raises UpstreamUnavailable for the database, and for the venue while it is not known what it did; the request
        then stays open.
        """
        try:
            return self._after_the_market(request, fingerprint)
        except HeldBack as held:
            return self._after(held.unsettled, request, fingerprint)
        except Busy:
            return responses.in_progress()
        except Standby:
            return responses.standby()

    def resume(self, row: UnfinishedRequest) -> Answer:
        """Goes on with a request whose executor died or could not learn what the venue did.

        Raises as `perform` does, and ValidationError when its stored payload cannot be read by this version.
        """
        order = restored(row.payload, may_have_traded=row.may_have_traded)
        if order.is_entry and order.expires_at is None:
            order = order.model_copy(update={"expires_at": row.created_at + STALE_AFTER})
        exit_reason, position_id = own_exit(row.request_id, order.source)
        request = Request(
            row.request_id,
            row.user_id,
            order,
            row.created_at,
            self._clock.monotonic(),
            is_recovered=True,
            exit_reason=exit_reason,
            position_id=position_id,
        )
        return self.perform(request, row.fingerprint or "")

    def _after(self, unsettled: tuple[UnfinishedRequest, ...], request: Request, fingerprint: str) -> Answer:
        """Settles older requests of the same strategy and symbol first: an exit must know what there is to close.

        What cannot be settled though its venue answers holds entries back, and no exit: a person has to look at it.
        """
        stuck = []
        for row in unsettled:
            try:
                self.resume(row)
            except UpstreamUnavailable as error:
                if error.service == "database":
                    raise
                return responses.held_back()
            except Exception:  # whatever is wrong with that request, it is not this one's fault
                logger.exception("request_stuck", signal=row.request_id, behind_it=request.id)
                self._metrics.recovered.labels("open").inc()
                stuck.append(row.request_id)
        try:
            return self._once(request, fingerprint, past=() if request.order.is_entry else tuple(stuck))
        except HeldBack:
            return responses.held_back()
        except Busy:
            return responses.in_progress()
        except Standby:
            return responses.standby()

    def _after_the_market(self, request: Request, fingerprint: str) -> Answer:
        try:
            return self._once(request, fingerprint, before=self.before)
        except MarketFirst as first:
            first.book()  # requests of the same strategy, each in its own turn
            return self._once(request, fingerprint)

    def _once(
        self,
        request: Request,
        fingerprint: str,
        past: tuple[str, ...] = (),
        before: Callable[[Request], None] = _nothing,
    ) -> Answer:
        with (
            self._in_progress.hold((request.user_id, request.id), REPEAT_WAIT_S),
            self._desk.turn(request) as held_locks,
        ):
            before(request)
            began = self._begin(request, fingerprint, past)
            if began.state == "standby":
                return responses.standby()
            if began.state == "conflict":
                return responses.conflict(request.id)
            if began.state == "done":
                self._metrics.repeats.inc()
                return Answer(began.status or 200, began.answer or {}, responses.REPEATED)
            if began.state == "held":
                raise HeldBack(began.unsettled)
            # If it was begun before, nobody works on it (we hold its lock): its executor died or lost the database.
            return self._execute(request.begun(began), began, held_locks)

    def _begin(self, request: Request, fingerprint: str, past: tuple[str, ...]) -> BeganExecution:
        order = request.order
        return self._store.begin_execution(
            self._desk.server,
            request.id,
            request.user_id,
            order.strategy_id,
            order.exchange,
            order.symbol,
            order.action.value,
            fingerprint,
            order.model_dump(mode="json", exclude_none=True),
            is_paper=order.environment != "production",
            past=past,
        )

    def _execute(self, request: Request, began: BeganExecution, held_locks: ExitStack) -> Answer:
        try:
            return self._desk.execute(request, began, held_locks)
        except OutcomeUnknown as error:
            logger.warning("order_outcome_unknown", signal=request.id, reason=str(error))
            # The request stays open, so the next attempt asks the venue first.
            return responses.outcome_unknown(request.order.exchange, str(error))
        except UpstreamUnavailable as error:
            if error.service in ("database", "key") or request.is_resumed:
                raise  # what we lack ourselves is no failure of the venue to count
            answer = responses.unavailable(error, request.order.exchange)
            return self._ended(request, Ended("failed", answer, str(error)))
        except Ended as end:
            return self._ended(request, end)
        except (VenueRefused, StrategyFault) as error:
            return self._ended(request, self._refused(request, error))

    def _refused(self, request: Request, error: VenueRefused | StrategyFault) -> Ended:
        if isinstance(error, VenueRefused):
            body = {**responses.rejected(str(error)), **request.stamp(self._clock.monotonic())}
            return Ended("failed", Answer(200, body), str(error))
        return Ended("refused", responses.malformed("symbol", str(error)), str(error))

    def _ended(self, request: Request, end: Ended) -> Answer:
        if end.state == "failed":
            self._metrics.venue_failures.labels("unavailable" if end.answer.status >= 500 else "refused").inc()
        self._store.finish_request(
            request.id,
            request.user_id,
            end.state,
            status=end.answer.status,
            answer=dict(end.answer.body),
            error=end.error,
        )
        return end.answer


def told(answer: Answer) -> dict[str, object]:
    """What a person at the log wants of an answer: what was done, how much of it, at what price, and what it earned."""
    body = answer.body
    told = {key: body.get(name) for key, name in _TOLD.items()}
    pnl = body.get("pnl")
    told["pnl_usd"] = pnl.get("usd") if isinstance(pnl, Mapping) else None
    return {key: value for key, value in told.items() if value is not None}
