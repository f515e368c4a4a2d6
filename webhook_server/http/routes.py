"""The URLs: bytes in, one answer out. Everything that thinks runs in worker threads, never on the event loop."""

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
from webhook_server.admission.signal_receiver import AdmittedSignal, Outcome, SignalReceiver, build_malformed_answer
from webhook_server.execution.results import OVERLOAD
from webhook_server.http import openapi
from webhook_server.http import responses as answers
from webhook_server.http.ascii_json import AsciiJson
from webhook_server.http.health import Health
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
    """What the routes stand on: bodies are read on the event loop in `body_s`, signals executed in `workers`."""

    def __init__(
        self,
        reception: SignalReceiver,
        store: Store,
        health: Health,
        metrics: Metrics,
        workers: Executor,
        body_s: float = BODY_TIMEOUT_S,
    ) -> None:
        self.store = store
        self.health = health
        self.metrics = metrics
        self._reception = reception
        self._workers = workers
        self._body_s = body_s

    async def run_in_thread(self, work: Callable[..., WebhookResponse], *arguments: object) -> Response:
        """`work` on a thread that no signal can keep busy: health must answer while venues hang."""
        return to_response(await asyncio.to_thread(work, *arguments))

    async def handle_signal(self, request: Request, schema: type[WebhookSignal]) -> Response:
        """One signal, from its bytes to its answer."""
        route = request.url.path
        outcome = await self._receive_signal(request, schema, route)
        self.metrics.requests.labels(route, str(outcome.answer.status)).inc()
        if outcome.request is not None and is_new_once_answered(outcome.request.id):
            was_delivered = not await request.is_disconnected()
            await self._run_in_worker(partial(self._reception.record_delivery, outcome, was_delivered=was_delivered))
        request.state.refused = outcome.refusal
        return to_response(outcome.answer)

    async def _receive_signal(self, request: Request, schema: type[WebhookSignal], route: str) -> Outcome:
        wakeup = Wakeup(asyncio.get_running_loop())
        try:
            receive = partial(self._reception.receive, await self._read_envelope(request), schema, wakeup)
        except BodyTooLarge:
            return _build_unread_outcome(answers.body_too_large(BODY_LIMIT_BYTES))
        except BodyTimeout:
            return _build_unread_outcome(answers.body_timeout(self._body_s))
        except ClientDisconnect:
            return _build_unread_outcome(
                answers.body_timeout(self._body_s), "the sender hung up before its body was whole"
            )
        except FieldError as error:
            return Outcome(build_malformed_answer(error), RefusalDetails.from_field_error(error))
        with self.metrics.duration.labels(route).time():
            received = await self._run_in_worker(receive)
            del receive  # a body is large, and may wait with many others
            return (
                received if isinstance(received, Outcome) else await self._wait_and_execute(request, received, wakeup)
            )

    async def _read_envelope(self, request: Request) -> Envelope:
        raw = await read_body(request.stream(), request.headers.get("content-length"), self._body_s)
        return parse_envelope(raw, dict(request.headers))

    async def _wait_and_execute(self, request: Request, admitted: AdmittedSignal, wakeup: Wakeup) -> Outcome:
        is_entry = admitted.request.signal.is_entry  # an exit keeps its place: senders that hang up may not come back
        disconnect: asyncio.Future[None] = (
            asyncio.ensure_future(_await_disconnect(request)) if is_entry else asyncio.Future()
        )
        try:
            has_place = await self._reception.admission.wait(admitted.ticket, wakeup, disconnect)
            if disconnect.done():
                return admitted.refuse(OVERLOAD, "the sender hung up before the signal had a place")
        finally:
            disconnect.cancel()
        if not has_place:
            return self._reception.reject(admitted)
        return await self._run_in_worker(partial(self._reception.execute, admitted), admitted.ticket)

    async def _run_in_worker(self, work: Callable[[], Result], ticket: Ticket | None = None) -> Result:
        """`work` in a worker; when that is cancelled, which the end of the server does, no place stays taken."""
        future = self._workers.submit(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.add_done_callback(partial(self._release_abandoned, ticket))
            raise

    def _release_abandoned(self, ticket: Ticket | None, future: "Future[Result]") -> None:
        if not future.cancelled():
            result = future.result()
            ticket = result.ticket if isinstance(result, AdmittedSignal) else None
        if ticket is not None:
            self._reception.admission.leave(ticket)


def _build_unread_outcome(answer: WebhookResponse, reason: str | None = None) -> Outcome:
    return Outcome(answer, RefusalDetails(reason or str(answer.body["error"])))


async def _await_disconnect(request: Request) -> None:
    """Returns when the sender of a wholly read request closes its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def build_router(handlers: RouteHandlers) -> APIRouter:
    """All routes."""
    routes = APIRouter()
    _add_signal_routes(routes, handlers)
    _add_read_routes(routes, handlers)
    return routes


def _add_signal_routes(routes: APIRouter, handlers: RouteHandlers) -> None:
    @routes.post(
        "/webhook/ai-signal",
        responses=openapi.SIGNAL_RESPONSES,
        openapi_extra=openapi.signal_request(AiSignal),
        tags=["signals"],
    )
    async def ai_signal(request: Request) -> Response:
        """A signal of the engine: signed per Standard Webhooks, or with the user's `secret`."""
        return await handlers.handle_signal(request, AiSignal)

    @routes.post(
        "/webhook",
        responses=openapi.SIGNAL_RESPONSES,
        openapi_extra=openapi.signal_request(WebhookSignal),
        tags=["signals"],
    )
    async def webhook(request: Request) -> Response:
        """A signal of a person or a charting service. JSON, whatever the content type says."""
        return await handlers.handle_signal(request, WebhookSignal)


def _add_read_routes(routes: APIRouter, handlers: RouteHandlers) -> None:
    @routes.get("/health", responses=openapi.SERVER_HEALTH, tags=["health"])
    async def server_health() -> Response:
        """503 when the database does not answer."""
        return await handlers.run_in_thread(handlers.health.server_health)

    @routes.get(LIVE_PATH, responses=openapi.LIVENESS, tags=["health"])
    async def process_health() -> Response:
        """200 while this process serves at all, whether or not its database answers, which no restart brings back."""
        return AsciiJson({"status": "ok"})

    @routes.get("/health/executing", responses=openapi.LEASE_STATUS, tags=["health"])
    async def lease_health() -> Response:
        """503 while this server stands by: for whoever spreads requests over several of them."""
        return to_response(
            handlers.health.lease_status()
        )  # asks nothing, so it answers while the database keeps threads waiting

    @routes.get("/health/ai-worker", responses=openapi.ENGINE_HEALTH, tags=["health"])
    async def engine_health() -> Response:
        """503 when running strategies have stopped deciding."""
        return await handlers.run_in_thread(handlers.health.engine_health)

    @routes.get(
        "/positions", responses=openapi.POSITIONS, openapi_extra=openapi.secret_header_request(), tags=["people"]
    )
    async def positions(request: Request) -> Response:
        """Open positions of the user whose secret is in the X-Webhook-Secret header."""
        return await handlers.run_in_thread(list_positions, handlers.store, request.headers.get("x-webhook-secret"))

    @routes.get("/metrics", include_in_schema=False)
    async def prometheus_metrics() -> Response:
        return Response(generate_latest(handlers.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def list_positions(store: Store, secret: str | None) -> WebhookResponse:
    """The positions of the secret's owner."""
    try:
        if not secret:
            return answers.authentication_failure(auth.MISSING_PROOF, answers.READ_AUTHENTICATION_HINT)
        user_id = auth.find_secret_owner(SecretStr(secret), None, store)
        found = store.list_open_positions(user_id=user_id)
    except auth.Unauthenticated as error:
        return answers.authentication_failure(str(error), answers.READ_AUTHENTICATION_HINT)
    except UpstreamUnavailable as error:
        return answers.upstream_unavailable(error)
    rows = [position.model_dump(exclude={"user_id"}) for position in found]
    return WebhookResponse(200, {"success": True, "count": len(rows), "positions": answers.to_json(rows)})


def to_response(answer: WebhookResponse) -> Response:
    return AsciiJson(dict(answer.body), status_code=answer.status, headers=dict(answer.headers))
