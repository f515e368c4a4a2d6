"""From an envelope to an outcome: authenticate, parse, pace, find a place, and execute once there is one."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID
from weakref import WeakValueDictionary

import structlog

from engine.platform.errors import UpstreamUnavailable
from engine.store.store import Store
from webhook_server.admission.execution_slots import Admission, State, Ticket
from webhook_server.admission.user_rate_limiter import Pace
from webhook_server.clock import Clock
from webhook_server.execution.execution_context import Request
from webhook_server.execution.exits_of_nothing import as_held
from webhook_server.execution.pipeline import NOT_EXECUTED, Pipeline, told
from webhook_server.http import responses
from webhook_server.http.refusal_log import Refused
from webhook_server.http.responses import Answer
from webhook_server.intake.auth import SecretBook, Unauthenticated, authenticate
from webhook_server.intake.field_errors import FieldError
from webhook_server.intake.request_body import Envelope
from webhook_server.intake.schemas import Order, parse, unknown_fields
from webhook_server.intake.signal_ids import given_id, is_known_by_its_answer, signal_id

logger = structlog.get_logger()


@dataclass(frozen=True)
class Outcome:
    """What is answered; `refused` says why nothing was done, when that is so."""

    answer: Answer
    refused: Refused | None = None
    request: Request | None = None  # one that was read


@dataclass(frozen=True)
class Admitted:
    """A signal of a proven sender with its claim to a place. It keeps nothing else of the body, which may be large."""

    request: Request
    fingerprint: str
    unknown: Sequence[str]
    ticket: Ticket

    def refused(self, answer: Answer, reason: str | None = None) -> Outcome:
        """An outcome without execution."""
        return refused(answer, self.request, reason)


class Reception:
    """Takes signals in any thread; what waits in between holds none. Never raises."""

    def __init__(
        self,
        pipeline: Pipeline,
        store: Store,
        clock: Clock,
        secrets: SecretBook,
        pace: Pace,
        admission: Admission,
    ) -> None:
        self._pipeline = pipeline
        self._store = store
        self._clock = clock
        self._secrets = secrets
        self._pace = pace
        self.admission = admission
        self._under_way = WeakValueDictionary[tuple[UUID, str], Request]()  # for as long as one is executed or waits

    def receive(self, envelope: Envelope, schema: type[Order], wake: Callable[[], None]) -> Outcome | Admitted:
        """The outcome of a signal that finds a place at once, or is refused; one that waits is called for by `wake`."""
        started = self._clock.monotonic()
        user_id = None
        try:
            user_id = authenticate(envelope, self._secrets)
            order = parse(envelope.body, schema)
            wait_s = self._pace.wait_s(user_id, started) if order.is_entry else 0.0  # nothing limits an exit
            if wait_s > 0:
                answer = responses.too_many(wait_s)
                return Outcome(answer, Refused(_error(answer), user=user_id, signal=given_id(envelope.headers, order)))
            now = self._clock.now()
            order = as_held(order, envelope.body, user_id, self._store)
            known = signal_id(envelope, order, user_id, self._store, now, self._under_way)
            request = Request(known.name, user_id, order, now, started, is_repetition=known.is_repetition)
            self._under_way.setdefault((user_id, envelope.fingerprint), request)
            admitted = self._admitted(request, envelope, wake)
        except FieldError as error:
            return Outcome(malformed(error), Refused.of_field(error, user_id))
        except Exception as error:  # noqa: BLE001 - whatever it is, the sender gets an answer
            return self._failed(error, started, user_id)
        return admitted if admitted.ticket.state is State.WAITING else self._answered(admitted)

    def execute(self, admitted: Admitted) -> Outcome:
        """Only for one that has a place, which is given back."""
        request = admitted.request
        try:
            return self._performed(admitted)
        except Exception as error:  # noqa: BLE001 - as above
            return self._failed(error, request.started, request.user_id, request)
        finally:
            self.admission.leave(admitted.ticket)

    def _admitted(self, request: Request, envelope: Envelope, wake: Callable[[], None]) -> Admitted:
        fingerprint, unknown = envelope.fingerprint, unknown_fields(envelope.body)
        ticket = self.admission.enter(request.user_id, wake, is_entry=request.order.is_entry)
        return Admitted(request, fingerprint, unknown, ticket)

    def _answered(self, admitted: Admitted) -> Outcome:
        return self.execute(admitted) if admitted.ticket.state is State.RUNNING else self.turned_away(admitted)

    def turned_away(self, admitted: Admitted) -> Outcome:
        """For one that got no place in time: another server executes, this one ends, or there are too many."""
        if self.admission.is_closed:
            return admitted.refused(responses.stopping())
        return admitted.refused(responses.crowded() if self.admission.is_active else responses.standby())

    def _performed(self, admitted: Admitted) -> Outcome:
        request = admitted.request
        order = request.order
        log = logger.bind(
            signal=request.id, user=str(request.user_id), strategy=order.strategy_id and str(order.strategy_id)
        )
        if admitted.unknown:
            log.info("signal_has_unknown_fields", fields=list(admitted.unknown))
        answer = self._pipeline.perform(request, admitted.fingerprint)
        if answer.status == 409 and order.is_whole_exit:  # its id is of another signal: an exit is stopped by no id
            answer = self._pipeline.perform(replace(request, id=str(uuid.uuid4())), admitted.fingerprint)
        if answer in NOT_EXECUTED or answer.status == 409:
            return admitted.refused(answer)
        log.info("executed", ordered=order.action.value, symbol=order.symbol, status=answer.status, **told(answer))
        return Outcome(answer, request=request)

    def note(self, outcome: Outcome, *, was_sent: bool) -> None:
        """Notes what the sender of a signal that is known by its answer was told, when it was there to hear it."""
        request, is_final = outcome.request, outcome.answer.status < 500
        if request is None or not is_known_by_its_answer(request.id) or (is_final and not was_sent):
            return
        try:
            self._store.note_answered(
                request.id, request.user_id, is_final=is_final, is_repetition=request.is_repetition
            )
        except UpstreamUnavailable as error:  # then an equal body within ten minutes gets this answer
            logger.warning("answer_not_noted", signal=request.id, reason=str(error))

    def _failed(
        self, error: Exception, started: float, user_id: UUID | None, request: Request | None = None
    ) -> Outcome:
        if isinstance(error, Unauthenticated):
            return Outcome(responses.unauthenticated(str(error)), Refused(str(error)))
        if isinstance(error, UpstreamUnavailable):
            answer = responses.unavailable(error, None if request is None else request.order.exchange)
            signal = None if request is None else request.id
            return Outcome(answer, Refused(_error(answer), user=user_id, signal=signal), request)
        logger.error("signal_failed", exc_info=error)
        return Outcome(responses.failed(round((self._clock.monotonic() - started) * 1000)), request=request)


def malformed(error: FieldError) -> Answer:
    """400 for a body or a field that cannot be used."""
    return responses.malformed(error.where, error.message, fields=error.fields)


def refused(answer: Answer, request: Request, reason: str | None = None) -> Outcome:
    """`answer` to a signal that was read and not executed."""
    return Outcome(answer, Refused(reason or _error(answer), user=request.user_id, signal=request.id), request)


def _error(answer: Answer) -> str:
    return responses.USED_ID if answer.status == 409 else str(answer.body["error"])
