"""From an envelope to an outcome: authenticate, parse, limit the rate, take an execution slot, execute.

In this order: nothing is computed for a sender without a proof, and only a valid signal takes from its user's rate.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID
from weakref import WeakValueDictionary

import structlog

from engine.platform.errors import UpstreamUnavailable
from engine.store.store import Store
from webhook_server.admission.execution_slots import AdmissionControl, Ticket, TicketState
from webhook_server.admission.user_rate_limiter import UserRateLimiter
from webhook_server.clock import Clock
from webhook_server.execution.execution_context import Request
from webhook_server.execution.exits_of_nothing import resolve_held_symbol
from webhook_server.execution.pipeline import Pipeline
from webhook_server.execution.results import (
    OVERLOAD,
    STANDBY,
    STOPPING,
    Conflict,
    Failed,
    Invalid,
    NotExecuted,
    Result,
    build_unavailable,
)
from webhook_server.http import responses
from webhook_server.http.refusal_log import RefusalDetails
from webhook_server.http.responses import WebhookResponse
from webhook_server.intake.auth import SecretStore, Unauthenticated, authenticate
from webhook_server.intake.field_errors import FieldError
from webhook_server.intake.request_body import Envelope
from webhook_server.intake.schemas import WebhookSignal
from webhook_server.intake.signal_ids import is_new_once_answered, read_sender_id, resolve_signal_id
from webhook_server.intake.signal_parser import list_unknown_names, parse_signal

logger = structlog.get_logger()


@dataclass(frozen=True)
class Outcome:
    """The response; `refusal` says why nothing was executed, and is None when something was."""

    response: WebhookResponse
    refusal: RefusalDetails | None = None
    request: Request | None = None  # None when the signal could not be read


@dataclass(frozen=True)
class AdmittedSignal:
    """A signal of an authenticated sender with its claim to a slot.

    It does not keep the body: a thousand signals may be queued, with up to 64 KiB each.
    """

    request: Request
    fingerprint: str
    unknown: Sequence[str]
    ticket: Ticket

    def refuse(self, result: Result, reason: str | None = None) -> Outcome:
        """An outcome without execution."""
        details = RefusalDetails(reason or str(result.error), user=self.request.user_id, signal=self.request.id)
        return Outcome(responses.render(result), details, self.request)


class SignalReceiver:
    """Receives and executes signals, in any thread; a queued signal holds none. Every exception becomes a response."""

    def __init__(
        self,
        pipeline: Pipeline,
        store: Store,
        clock: Clock,
        secrets: SecretStore,
        rate_limiter: UserRateLimiter,
        admission: AdmissionControl,
    ) -> None:
        self._pipeline = pipeline
        self._store = store
        self._clock = clock
        self._secrets = secrets
        self._rate_limiter = rate_limiter
        self.admission = admission
        self._in_progress = WeakValueDictionary[tuple[UUID, str], Request]()  # an entry goes when its Request does

    def receive(
        self, envelope: Envelope, schema: type[WebhookSignal], wake: Callable[[], None]
    ) -> Outcome | AdmittedSignal:
        """The outcome of a signal that got a slot at once or was refused; the admitted signal when it is queued.

        `wake` is called when a queued signal gets its slot or loses its position; see `AdmissionControl.wait`.
        """
        started = self._clock.monotonic()
        user_id = None
        try:
            user_id = authenticate(envelope, self._secrets)
            signal = parse_signal(envelope.body, schema)
            wait_s = self._rate_limiter.acquire(user_id, started) if signal.is_entry else 0.0  # nothing limits an exit
            if wait_s > 0:
                response = responses.render_rate_limited(wait_s)
                return Outcome(
                    response,
                    RefusalDetails(
                        str(response.body["error"]), user=user_id, signal=read_sender_id(envelope.headers, signal)
                    ),
                )
            now = self._clock.now()
            if not signal.is_entry:
                signal = resolve_held_symbol(signal, envelope.body, user_id, self._store)
            known = resolve_signal_id(envelope, signal, user_id, self._store, now, self._in_progress)
            request = Request(known.name, user_id, signal, now, started, is_repetition=known.is_repetition)
            self._in_progress.setdefault((user_id, envelope.fingerprint), request)
            admitted = self._admit(request, envelope, wake)
        except FieldError as error:
            return Outcome(render_field_error(error), RefusalDetails.from_field_error(error, user_id))
        except Exception as error:  # noqa: BLE001 - the sender gets a response in any case
            return self._build_failure(error, started, user_id)
        return admitted if admitted.ticket.state is TicketState.WAITING else self._execute_or_reject(admitted)

    def execute(self, admitted: AdmittedSignal) -> Outcome:
        """Executes a signal whose ticket is RUNNING, and frees its slot."""
        request = admitted.request
        try:
            return self._execute_and_log(admitted)
        except Exception as error:  # noqa: BLE001 - as above
            return self._build_failure(error, request.started, request.user_id, request)
        finally:
            self.admission.leave(admitted.ticket)

    def _admit(self, request: Request, envelope: Envelope, wake: Callable[[], None]) -> AdmittedSignal:
        fingerprint, unknown = envelope.fingerprint, list_unknown_names(envelope.body)
        ticket = self.admission.enter(request.user_id, wake, is_entry=request.signal.is_entry)
        return AdmittedSignal(request, fingerprint, unknown, ticket)

    def _execute_or_reject(self, admitted: AdmittedSignal) -> Outcome:
        return self.execute(admitted) if admitted.ticket.state is TicketState.RUNNING else self.reject(admitted)

    def reject(self, admitted: AdmittedSignal) -> Outcome:
        """Refuses a signal that got no slot: the server stops or stands by, or too many signals are queued."""
        if self.admission.is_closed:
            return admitted.refuse(STOPPING)
        return admitted.refuse(OVERLOAD if self.admission.is_active else STANDBY)

    def _execute_and_log(self, admitted: AdmittedSignal) -> Outcome:
        request = admitted.request
        signal = request.signal
        log = logger.bind(
            signal=request.id, user=str(request.user_id), strategy=signal.strategy_id and str(signal.strategy_id)
        )
        if admitted.unknown:
            log.info("signal_has_unknown_fields", fields=list(admitted.unknown))
        result = self._pipeline.execute_once(request, admitted.fingerprint)
        if isinstance(result, Conflict) and signal.is_whole_exit:
            # The id belongs to another body. An exit is executed all the same, under a new id: refusing it would leave
            # the position open.
            result = self._pipeline.execute_once(replace(request, id=str(uuid.uuid4())), admitted.fingerprint)
        if isinstance(result, NotExecuted | Conflict):
            return admitted.refuse(result)
        response = responses.render(result)
        fields = responses.to_log_fields(response)
        log.info("executed", ordered=signal.action.value, symbol=signal.symbol, status=response.status, **fields)
        return Outcome(response, request=request)

    def record_delivery(self, outcome: Outcome, *, was_delivered: bool) -> None:
        """Stores that a signal with an id derived from its body was answered for good, or told to come back (5xx).

        After a final response that was sent, an equal body is a new signal; until then it is a repetition.
        """
        request, is_final = outcome.request, outcome.response.status < 500
        if request is None or not is_new_once_answered(request.id) or (is_final and not was_delivered):
            return
        try:
            self._store.mark_answered(
                request.id, request.user_id, is_final=is_final, is_repetition=request.is_repetition
            )
        except UpstreamUnavailable as error:  # then an equal body within ten minutes gets this response
            logger.warning("delivery_not_recorded", signal=request.id, reason=str(error))

    def _build_failure(
        self, error: Exception, started: float, user_id: UUID | None, request: Request | None = None
    ) -> Outcome:
        if isinstance(error, Unauthenticated):
            return Outcome(responses.render_authentication_failure(str(error)), RefusalDetails(str(error)))
        if isinstance(error, UpstreamUnavailable):
            result = build_unavailable(error, None if request is None else request.signal.exchange)
            signal = None if request is None else request.id
            details = RefusalDetails(result.error, user=user_id, signal=signal)
            return Outcome(responses.render(result), details, request)
        logger.error("signal_failed", exc_info=error)
        failed = Failed(round((self._clock.monotonic() - started) * 1000))
        return Outcome(responses.render(failed), request=request)


def render_field_error(error: FieldError) -> WebhookResponse:
    """400 for a body or field that cannot be used."""
    return responses.render(Invalid(error.field_name, error.message, fields=error.fields))
