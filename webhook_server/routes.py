"""The URLs: bytes in, one answer out. Everything that thinks runs in worker threads, never on the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import SecretStr

from engine.errors import UpstreamUnavailable
from engine.store.store import Store
from webhook_server import answers, auth, described
from webhook_server.answers import Answer
from webhook_server.ascii_json import AsciiJson
from webhook_server.health import Health
from webhook_server.intake import BODY_LIMIT_BYTES, BODY_TIMEOUT_S, TooLarge, TooSlow, open_envelope, read_body
from webhook_server.metrics import Metrics
from webhook_server.pipeline import Pipeline
from webhook_server.schemas import AiSignal, FieldError, Order

LIVE: Final = "/health/live"


class Doors:
    """What the routes stand on: bodies are read on the event loop in `body_s`, signals executed in `workers`."""

    def __init__(
        self,
        pipeline: Pipeline,
        store: Store,
        health: Health,
        metrics: Metrics,
        workers: Executor,
        body_s: float = BODY_TIMEOUT_S,
    ) -> None:
        self.pipeline = pipeline
        self.store = store
        self.health = health
        self.metrics = metrics
        self._workers = workers
        self._body_s = body_s

    async def look(self, work: Callable[..., Answer], *arguments: object) -> Response:
        """`work` on a thread that no signal can keep busy: health must answer while venues hang."""
        return sent(await asyncio.to_thread(work, *arguments))

    async def signal(self, request: Request, schema: type[Order]) -> Response:
        """One signal, from its bytes to its answer."""
        route = request.url.path
        answer = await self._answer(request, schema, route)
        self.metrics.requests.labels(route, str(answer.status)).inc()
        return sent(answer)

    async def _answer(self, request: Request, schema: type[Order], route: str) -> Answer:
        try:
            raw = await read_body(request.stream(), request.headers.get("content-length"), self._body_s)
            envelope = open_envelope(raw, dict(request.headers))
        except TooLarge:
            return answers.too_large(BODY_LIMIT_BYTES)
        except TooSlow:
            return answers.too_slow(self._body_s)
        except FieldError as error:
            return answers.malformed(error.where, error.message)
        with self.metrics.duration.labels(route).time():
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._workers, self.pipeline.receive, envelope, schema)


def router(doors: Doors) -> APIRouter:
    """All routes."""
    routes = APIRouter()
    _add_signals(routes, doors)
    _add_views(routes, doors)
    return routes


def _add_signals(routes: APIRouter, doors: Doors) -> None:
    @routes.post(
        "/webhook/ai-signal",
        responses=described.SIGNAL_ANSWERS,
        openapi_extra=described.signal(AiSignal),
        tags=["signals"],
    )
    async def ai_signal(request: Request) -> Response:
        """A signal of the engine: signed per Standard Webhooks, or with the user's `secret`."""
        return await doors.signal(request, AiSignal)

    @routes.post(
        "/webhook", responses=described.SIGNAL_ANSWERS, openapi_extra=described.signal(Order), tags=["signals"]
    )
    async def webhook(request: Request) -> Response:
        """A signal of a person or a charting service. JSON, whatever the content type says."""
        return await doors.signal(request, Order)


def _add_views(routes: APIRouter, doors: Doors) -> None:
    @routes.get("/health", responses=described.SERVER_HEALTH, tags=["health"])
    async def of_server() -> Response:
        """503 when the database does not answer."""
        return await doors.look(doors.health.server)

    @routes.get(LIVE, responses=described.LIVE, tags=["health"])
    async def of_process() -> Response:
        """200 while this process serves at all, whether or not its database answers, which no restart brings back."""
        return AsciiJson({"status": "ok"})

    @routes.get("/health/executing", responses=described.ROLE, tags=["health"])
    async def of_role() -> Response:
        """503 while this server stands by: for whoever spreads requests over several of them."""
        return await doors.look(doors.health.role)

    @routes.get("/health/ai-worker", responses=described.ENGINE_HEALTH, tags=["health"])
    async def of_engine() -> Response:
        """503 when running strategies have stopped deciding."""
        return await doors.look(doors.health.ai_worker)

    @routes.get("/positions", responses=described.POSITIONS, openapi_extra=described.secret_header(), tags=["people"])
    async def positions(request: Request) -> Response:
        """Open positions of the user whose secret is in the X-Webhook-Secret header."""
        return await doors.look(positions_of, doors.store, request.headers.get("x-webhook-secret"))

    @routes.get("/metrics", include_in_schema=False)
    async def exposition() -> Response:
        return Response(generate_latest(doors.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def positions_of(store: Store, secret: str | None) -> Answer:
    """The positions of the secret's owner."""
    try:
        user_id = auth.owner(SecretStr(secret) if secret else None, None, store)
        found = store.open_positions(user_id=user_id)
    except auth.Unauthenticated as error:
        return answers.unauthenticated(str(error))
    except UpstreamUnavailable as error:
        return answers.unavailable(error.service, error.retry_after_s)
    rows = [position.model_dump(exclude={"user_id"}) for position in found]
    return Answer(200, {"success": True, "count": len(rows), "positions": answers.plain(rows)})


def sent(answer: Answer) -> Response:
    return AsciiJson(dict(answer.body), status_code=answer.status, headers=dict(answer.headers))
