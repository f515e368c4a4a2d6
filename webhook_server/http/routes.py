"""The routes. The event loop reads bodies and waits; worker threads compute and call the database and venues."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Final, TypeVar

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import SecretStr
from starlette.requests import ClientDisconnect

from engine.platform.errors import UpstreamUnavailable
from engine.store.store import Store
from webhook_server.admission.execution_slots import Ticket, Wakeup
from webhook_server.admission.signal_receiver import AdmittedSignal, Outcome, SignalReceiver, render_field_error
from webhook_server.execution.results import OVERLOAD
from webhook_server.http import openapi, responses
from webhook_server.http.ascii_json import AsciiJson
from webhook_server.http.health import Health
from webhook_server.http.read_models import LivenessBody, PositionBody, PositionsBody
from webhook_server.http.refusal_log import RefusalDetails
from webhook_server.http.responses import WebhookResponse
from webhook_server.intake import auth
from webhook_server.intake.field_errors import FieldError
from webhook_server.intake.request_body import (
    BODY_LIMIT_BYTES,
    BODY_TIMEOUT_S,
    BodyTimeout,
    BodyTooLarge,
    Envelope,
    parse_envelope,
    read_body,
)
from webhook_server.intake.schemas import AiSignal, WebhookSignal
from webhook_server.intake.signal_ids import is_new_once_answered
from webhook_server.metrics import Metrics

LIVE_PATH: Final = "/health/live"
Result = TypeVar("Result")


class RouteHandlers:
    """What the routes share: bodies are read on the event loop within `body_s`, signals are executed in `workers`."""

    def __init__(
        self,
        signal_receiver: SignalReceiver,
        store: Store,
        health: Health,
        metrics: Metrics,
        workers: Executor,
        body_s: float = BODY_TIMEOUT_S,
    ) -> None:
        self.store = store
        self.health = health
        self.metrics = metrics
        self._signal_receiver = signal_receiver
        self._workers = workers
        self._body_s = body_s

    async def run_in_thread(self, work: Callable[..., WebhookResponse], *arguments: object) -> Response:
        """`work` in a thread of the event loop's own pool."""
        # Not in `workers`: they may all wait for venues that hang, and health has to be answered then too.
        return to_response(await asyncio.to_thread(work, *arguments))

    async def handle_signal(self, request: Request, schema: type[WebhookSignal]) -> Response:
        """Reads, admits and executes one signal. Returns its response."""
        route = request.url.path
        outcome = await self._receive_signal(request, schema, route)
        self.metrics.requests.labels(route, str(outcome.response.status)).inc()
        if outcome.request is not None and is_new_once_answered(outcome.request.id):
            was_delivered = not await request.is_disconnected()
            await self._run_in_worker(
                partial(self._signal_receiver.record_delivery, outcome, was_delivered=was_delivered)
            )
        request.state.refused = outcome.refusal
        return to_response(outcome.response)

    async def _receive_signal(self, request: Request, schema: type[WebhookSignal], route: str) -> Outcome:
        wakeup = Wakeup(asyncio.get_running_loop())
        try:
            receive = partial(self._signal_receiver.receive, await self._read_envelope(request), schema, wakeup)
        except BodyTooLarge:
            return _build_unread_outcome(responses.render_body_too_large(BODY_LIMIT_BYTES))
        except BodyTimeout:
            return _build_unread_outcome(responses.render_body_timeout(self._body_s))
        except ClientDisconnect:
            return _build_unread_outcome(
                responses.render_body_timeout(self._body_s), "the sender hung up before its body was whole"
            )
        except FieldError as error:
            return Outcome(render_field_error(error), RefusalDetails.from_field_error(error))
        with self.metrics.duration.labels(route).time():
            received = await self._run_in_worker(receive)
            del receive  # frees the body: up to 64 KiB each, while a thousand signals may wait for a slot
            return (
                received if isinstance(received, Outcome) else await self._wait_and_execute(request, received, wakeup)
            )

    async def _read_envelope(self, request: Request) -> Envelope:
        raw = await read_body(request.stream(), request.headers.get("content-length"), self._body_s)
        return parse_envelope(raw, dict(request.headers))

    async def _wait_and_execute(self, request: Request, admitted: AdmittedSignal, wakeup: Wakeup) -> Outcome:
        # An entry is dropped when its sender hangs up, for one whose sender still waits. An exit stays in the queue:
        # its sender may not come back, and the position would stay open.
        is_entry = admitted.request.signal.is_entry
        disconnect: asyncio.Future[None] = (
            asyncio.ensure_future(_await_disconnect(request)) if is_entry else asyncio.Future()
        )
        try:
            has_slot = await self._signal_receiver.admission.wait(admitted.ticket, wakeup, disconnect)
            if disconnect.done():
                return admitted.refuse(OVERLOAD, "the sender hung up before the signal had a slot")
        finally:
            disconnect.cancel()
        if not has_slot:
            return self._signal_receiver.reject(admitted)
        return await self._run_in_worker(partial(self._signal_receiver.execute, admitted), admitted.ticket)

    async def _run_in_worker(self, work: Callable[[], Result], ticket: Ticket | None = None) -> Result:
        """`work` in a worker thread. Frees the execution slot when the wait is cancelled, as at the server's stop."""
        future = self._workers.submit(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            # A thread cannot be cancelled: its slot is freed when it is done.
            future.add_done_callback(partial(self._release_abandoned, ticket))
            raise

    def _release_abandoned(self, ticket: Ticket | None, future: "Future[Result]") -> None:
        if not future.cancelled():
            result = future.result()
            ticket = result.ticket if isinstance(result, AdmittedSignal) else None
        if ticket is not None:
            self._signal_receiver.admission.leave(ticket)


def _build_unread_outcome(response: WebhookResponse, reason: str | None = None) -> Outcome:
    return Outcome(response, RefusalDetails(reason or str(response.body["error"])))


async def _await_disconnect(request: Request) -> None:
    """Returns when the sender closes its connection. The body must have been read, else this would drop parts of it."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def build_router(handlers: RouteHandlers) -> APIRouter:
    """The router with all routes."""
    routes = APIRouter()
    _add_signal_routes(routes, handlers)
    _add_read_routes(routes, handlers)
    return routes


def _add_signal_routes(routes: APIRouter, handlers: RouteHandlers) -> None:
    @routes.post(
        "/webhook/ai-signal",
        responses=openapi.SIGNAL_RESPONSES,
        openapi_extra=openapi.build_signal_request(AiSignal),
        tags=["signals"],
    )
    async def ai_signal(request: Request) -> Response:
        """A signal of the engine: signed per Standard Webhooks, or with the user's `secret`."""
        return await handlers.handle_signal(request, AiSignal)

    @routes.post(
        "/webhook",
        responses=openapi.SIGNAL_RESPONSES,
        openapi_extra=openapi.build_signal_request(WebhookSignal),
        tags=["signals"],
    )
    async def webhook(request: Request) -> Response:
        """A signal of a person or a charting service. JSON, whatever the content type says."""
        return await handlers.handle_signal(request, WebhookSignal)


def _add_read_routes(routes: APIRouter, handlers: RouteHandlers) -> None:
    @routes.get("/health", responses=openapi.SERVER_HEALTH, tags=["health"])
    async def server_health() -> Response:
        """503 when the database does not answer."""
        return await handlers.run_in_thread(handlers.health.check_server)

    @routes.get(LIVE_PATH, responses=openapi.LIVENESS, tags=["health"])
    async def process_health() -> Response:
        """200 while this process serves requests, with or without its database, which no restart would bring back."""
        return to_response(responses.respond(200, LivenessBody(status="ok")))

    @routes.get("/health/executing", responses=openapi.LEASE_STATUS, tags=["health"])
    async def lease_health() -> Response:
        """503 while this server stands by: for a load balancer in front of several servers."""
        # On the event loop: it makes no query, so it responds while a slow database keeps all threads waiting.
        return to_response(handlers.health.check_lease())

    @routes.get("/health/ai-worker", responses=openapi.ENGINE_HEALTH, tags=["health"])
    async def engine_health() -> Response:
        """503 when running strategies have stopped deciding."""
        return await handlers.run_in_thread(handlers.health.check_engine)

    @routes.get(
        "/positions", responses=openapi.POSITIONS, openapi_extra=openapi.build_secret_header_request(), tags=["people"]
    )
    async def positions(request: Request) -> Response:
        """Open positions of the user whose secret is in the X-Webhook-Secret header."""
        return await handlers.run_in_thread(list_positions, handlers.store, request.headers.get("x-webhook-secret"))

    @routes.get("/metrics", include_in_schema=False)
    async def prometheus_metrics() -> Response:
        return Response(generate_latest(handlers.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def list_positions(store: Store, secret: str | None) -> WebhookResponse:
    """The open positions of the secret's owner; 401 without a valid secret, 503 while the database is away."""
    try:
        if not secret:
            return responses.render_authentication_failure(auth.MISSING_PROOF, responses.READ_AUTHENTICATION_HINT)
        user_id = auth.find_secret_owner(SecretStr(secret), None, store)
        found = store.list_open_positions(user_id=user_id)
    except auth.Unauthenticated as error:
        return responses.render_authentication_failure(str(error), responses.READ_AUTHENTICATION_HINT)
    except UpstreamUnavailable as error:
        return responses.render_unavailable(error)
    positions = tuple(PositionBody.model_validate(position) for position in found)
    return responses.respond(200, PositionsBody(success=True, count=len(positions), positions=positions))


def to_response(response: WebhookResponse) -> Response:
    return AsciiJson(dict(response.body), status_code=response.status, headers=dict(response.headers))
