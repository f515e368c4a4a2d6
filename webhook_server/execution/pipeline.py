"""What happens to a signal that has an execution slot, in order: deduplicate, check risk, execute, book, answer."""

from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from engine.domain.errors import OrderOutcomeUnknown, OrderRejected, StrategyFault
from engine.platform.errors import DatabaseUnavailable, SealedElsewhere, SparkyError, UpstreamUnavailable
from engine.store.store import Store
from engine.store.webhook_rows import ExecutionClaim, UnfinishedRequest
from webhook_server.clock import Clock
from webhook_server.execution.execution_context import (
    BlockedByUnsettled,
    NotLeaseHolder,
    Request,
    RequestEnded,
    parse_server_exit,
)
from webhook_server.execution.executor import OrderExecutor
from webhook_server.execution.results import (
    BLOCKED,
    IN_PROGRESS,
    STANDBY,
    AnswerEncoder,
    Conflict,
    Failed,
    Invalid,
    Rejected,
    Repeated,
    Result,
    Retryable,
    build_outcome_unknown,
    build_unavailable,
)
from webhook_server.intake.schemas import load_stored_signal
from webhook_server.locks import KeyedLocks, LockTimeout
from webhook_server.metrics import Metrics

logger = structlog.get_logger()

DEFAULT_ENTRY_TTL: Final = timedelta(seconds=60)  # an entry without an expiry of its own is not made later than this
REPETITION_WAIT_S: Final = 2.0  # a repetition waits this long for the first answer before it is sent away


def _do_nothing(_: Request) -> None:
    """Where nothing is done before a request."""


class MarketExitsPending(SparkyError):
    """The market ended positions before the request came: `book_exits` makes those exits, and the request follows."""

    def __init__(self, book_exits: Callable[[], None]) -> None:
        super().__init__("the market has ended a position")
        self.book_exits = book_exits


class Pipeline:
    """Takes signals from any thread. Nothing of a signal happens twice, whatever was delivered how often."""

    def __init__(
        self,
        store: Store,
        executor: OrderExecutor,
        clock: Clock,
        metrics: Metrics,
        encode: AnswerEncoder,
        repetition_wait_s: float = REPETITION_WAIT_S,
    ) -> None:
        """`encode` turns a result into the answer that is stored, and given again to a repetition, which waits for it
        for `repetition_wait_s`."""
        self._encode = encode
        self._store = store
        self._executor = executor
        self._clock = clock
        self._metrics = metrics
        self._request_locks = KeyedLocks()
        self._repetition_wait_s = repetition_wait_s
        self.before_request: Callable[[Request], None] = (
            _do_nothing  # called for each request under its locks; raises MarketExitsPending
        )

    def execute_once(self, request: Request, fingerprint: str) -> Result:
        """Executes `request` unless it was before; then the first answer is given again.

        Raises UpstreamUnavailable for the database, and for the venue while it is not known what it did; the request
        then stays open.
        """
        try:
            return self._execute_after_market_exits(request, fingerprint)
        except BlockedByUnsettled as held:
            return self._settle_older_then_execute(held.unsettled, request, fingerprint)
        except LockTimeout:
            return IN_PROGRESS
        except NotLeaseHolder:
            return STANDBY

    def resume(self, row: UnfinishedRequest) -> Result:
        """Goes on with a request whose executor died or could not learn what the venue did.

        Raises as `execute_once` does, and ValidationError when its stored payload cannot be read by this version.
        """
        signal = load_stored_signal(row.payload, may_have_traded=row.may_have_traded)
        if signal.is_entry and signal.expires_at is None:
            signal = signal.model_copy(update={"expires_at": row.created_at + DEFAULT_ENTRY_TTL})
        exit_reason, position_id = parse_server_exit(row.request_id, signal.source)
        request = Request(
            row.request_id,
            row.user_id,
            signal,
            row.created_at,
            self._clock.monotonic(),
            is_recovered=True,
            exit_reason=exit_reason,
            position_id=position_id,
        )
        return self.execute_once(request, row.fingerprint or "")

    def _settle_older_then_execute(
        self, unsettled: tuple[UnfinishedRequest, ...], request: Request, fingerprint: str
    ) -> Result:
        """Settles older requests of the same strategy and symbol first: an exit must know what there is to close.

        A request that cannot be settled although its venue answers blocks entries, never an exit; a person has to look
        at it.
        """
        stuck = []
        for row in unsettled:
            try:
                self.resume(row)
            except UpstreamUnavailable as error:
                if isinstance(error, DatabaseUnavailable):
                    raise
                return BLOCKED
            except Exception:  # a fault of that request is no reason to fail this one
                logger.exception("request_stuck", signal=row.request_id, behind_it=request.id)
                self._metrics.recovered.labels("open").inc()
                stuck.append(row.request_id)
        try:
            return self._begin_and_execute(
                request, fingerprint, ignored_unsettled=() if request.signal.is_entry else tuple(stuck)
            )
        except BlockedByUnsettled:
            return BLOCKED
        except LockTimeout:
            return IN_PROGRESS
        except NotLeaseHolder:
            return STANDBY

    def _execute_after_market_exits(self, request: Request, fingerprint: str) -> Result:
        try:
            return self._begin_and_execute(request, fingerprint, before_request=self.before_request)
        except MarketExitsPending as first:
            first.book_exits()  # outside of our locks: these are requests of the same strategy, which take them
            return self._begin_and_execute(request, fingerprint)

    def _begin_and_execute(
        self,
        request: Request,
        fingerprint: str,
        ignored_unsettled: tuple[str, ...] = (),
        before_request: Callable[[Request], None] = _do_nothing,
    ) -> Result:
        with (
            self._request_locks.hold((request.user_id, request.id), self._repetition_wait_s),
            self._executor.lock_request(request) as held_locks,
        ):
            before_request(request)
            began = self._begin(request, fingerprint, ignored_unsettled)
            if began.state == "standby":
                return STANDBY
            if began.state == "conflict":
                return Conflict(request.id)
            if began.state == "done":
                self._metrics.repeats.inc()
                return Repeated(began.status or 200, began.answer or {})
            if began.state == "held":
                raise BlockedByUnsettled(began.unsettled)
            # One that was begun before lost its executor or the database: we hold its lock, so no thread works on it.
            return self._execute(request.with_sent_state(began), began, held_locks)

    def _begin(self, request: Request, fingerprint: str, ignored_unsettled: tuple[str, ...]) -> ExecutionClaim:
        signal = request.signal
        return self._store.begin_execution(
            self._executor.lease_owner,
            request.id,
            request.user_id,
            signal.strategy_id,
            signal.exchange,
            signal.symbol,
            signal.action.value,
            fingerprint,
            signal.model_dump(mode="json", exclude_none=True),
            is_paper=signal.environment != "production",
            ignored_unsettled=ignored_unsettled,
        )

    def _execute(self, request: Request, began: ExecutionClaim, held_locks: ExitStack) -> Result:
        try:
            return self._executor.execute(request, began, held_locks)
        except OrderOutcomeUnknown as error:
            logger.warning("order_outcome_unknown", signal=request.id, reason=str(error))
            # The request stays open, so the next attempt asks the venue first.
            return build_outcome_unknown(request.signal.exchange, str(error))
        except UpstreamUnavailable as error:
            if isinstance(error, (DatabaseUnavailable, SealedElsewhere)) or request.is_resumed:
                raise  # what we lack ourselves is no failure of the venue to count
            result = build_unavailable(error, request.signal.exchange)
            return self._finish(request, RequestEnded("failed", result, str(error)))
        except RequestEnded as end:
            return self._finish(request, end)
        except (OrderRejected, StrategyFault) as error:
            return self._finish(request, self._build_refusal(request, error))

    def _build_refusal(self, request: Request, error: OrderRejected | StrategyFault) -> RequestEnded:
        if isinstance(error, OrderRejected):
            rejected = Rejected(str(error), request.stamp(self._clock.monotonic()))
            return RequestEnded("failed", rejected, str(error))
        return RequestEnded("refused", Invalid("symbol", str(error)), str(error))

    def _finish(self, request: Request, end: RequestEnded) -> Result:
        if end.state == "failed":
            self._metrics.venue_failures.labels("unavailable" if isinstance(end.result, Retryable) else "refused").inc()
        self._store_end(request.id, request.user_id, end)
        return end.result

    def give_up(self, row: UnfinishedRequest, reason: str) -> Result:
        """Ends a request that no attempt can finish: only for one that cannot have traded."""
        end = RequestEnded("failed", Failed(0), f"not recovered: {reason}")
        self._store_end(row.request_id, row.user_id, end)
        return end.result

    def _store_end(self, request_id: str, user_id: UUID, end: RequestEnded) -> None:
        answer = self._encode(end.result)
        self._store.finish_request(
            request_id, user_id, end.state, status=answer.status, answer=answer.body, error=end.error
        )
