"""Puts the webhook server together; the only place that knows all its parts."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request

from engine.platform.settings.settings import Settings, is_loopback
from engine.store.store import Store
from webhook_server.admission.execution_slots import PLACE_WAIT_S, Admission, SlotLimits
from webhook_server.admission.signal_receiver import SignalReceiver
from webhook_server.admission.user_rate_limiter import UserRateLimiter
from webhook_server.background.funding import Funding
from webhook_server.background.jobs import Housekeeping, on_accounts, on_funding, on_the_market
from webhook_server.background.lease import Lease
from webhook_server.background.mark_to_market import MarkToMarket
from webhook_server.background.paper_catch_up import PaperCatchUp
from webhook_server.background.protection_watchdog import ProtectionWatchdog
from webhook_server.background.protective_exits import Exits
from webhook_server.background.recovery import Recovery
from webhook_server.clock import Clock
from webhook_server.execution.executor import TURN_WAIT_S, Desk
from webhook_server.execution.pipeline import Pipeline
from webhook_server.http import docs_page
from webhook_server.http.ascii_json import AsciiJson
from webhook_server.http.health import Health
from webhook_server.http.refusal_log import RefusalLog, RefusalLogMiddleware
from webhook_server.http.responses import WRONG_ADDRESS
from webhook_server.http.routes import RouteHandlers, build_router
from webhook_server.http.security_headers import Hardened
from webhook_server.intake.auth import RecentSecrets
from webhook_server.metrics import Metrics
from webhook_server.reconciliation.account_checks import AccountChecks
from webhook_server.reconciliation.orphan_orders import LeftoverOrders
from webhook_server.reconciliation.reconciliation import Reconciliation
from webhook_server.reconciliation.venue_changes import VenueChanges
from webhook_server.venue_registry import Venues

PLACES: Final = SlotLimits(  # most of them wait: for a venue, or for their account's turn
    per_user=14,  # our own dispatcher sends 12 at once
    entries=24,
    signals=48,  # so that exits have places left, whoever's venue hangs
    waiting_per_user=500,
    waiting=1_000,
)
WORKERS: Final = PLACES.signals + 8  # whatever executes, new signals are authenticated


@dataclass(frozen=True)
class Server:
    """The application and what runs beside it. `workers` and `housekeeping` end before the store is closed."""

    app: FastAPI
    pipeline: Pipeline
    reception: SignalReceiver
    refusals: RefusalLog
    marks: MarkToMarket
    watch: ProtectionWatchdog
    leftovers: LeftoverOrders
    funding: Funding
    recovery: Recovery
    housekeeping: tuple[Housekeeping, ...]
    metrics: Metrics
    workers: ThreadPoolExecutor
    lease: Lease | None
    reconciliation: Reconciliation
    accounts: AccountChecks


class Patience(NamedTuple):
    """How long a signal waits for its place, and, since it came, for the turn of its strategy; both in seconds."""

    place_s: float = PLACE_WAIT_S
    turn_s: float = TURN_WAIT_S


PATIENCE: Final = Patience()


def build(
    settings: Settings,
    store: Store,
    venues: Venues,
    clock: Clock,
    owner: str | None = None,
    patience: Patience = PATIENCE,
    health_store: Store | None = None,
) -> Server:
    """Everything on the given edges; starts nothing.

    With `owner` the server executes only while it holds the lease under that name. `health_store` is asked for /health,
    which is to be answered sooner than other questions.
    """
    metrics = Metrics()
    desk = Desk(store, venues, clock, metrics, settings.sparky_paper_slippage_percent, owner, patience.turn_s)
    secrets = RecentSecrets(store, clock.monotonic)
    pipeline = Pipeline(store, desk, clock, metrics)
    lease = None if owner is None else Lease(store, owner, metrics)

    def is_active() -> bool:
        return lease is None or lease.is_held

    admission = Admission(PLACES, is_active, patience.place_s)
    metrics.waiting.set_function(lambda: admission.waiting)
    if lease is not None:
        lease.on_lost = admission.dismiss
    reception = SignalReceiver(
        pipeline, store, clock, secrets, UserRateLimiter(settings.sparky_webhook_rate_per_s), admission
    )
    refusals = RefusalLog(clock)
    exits = Exits(pipeline, clock, metrics)
    pipeline.before_request = PaperCatchUp(store, venues, exits, clock).check_market_exits
    reconciliation = Reconciliation(store, venues, VenueChanges(store, metrics), exits, clock, metrics)
    marks = MarkToMarket(store, venues, exits, clock, metrics)
    may_send = (lambda: True) if lease is None else lease.is_confirmed
    watch = ProtectionWatchdog(store, venues, desk, exits, metrics, may_send)
    leftovers = LeftoverOrders(store, venues, clock, metrics, may_send)
    funding = Funding(store, venues, clock, metrics)
    recovery = Recovery(store, pipeline, clock, metrics)
    health = Health(health_store or store, clock, metrics, is_active)
    workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="signal")
    return Server(
        app=_app(RouteHandlers(reception, store, health, metrics, workers), settings, refusals),
        pipeline=pipeline,
        reception=reception,
        refusals=refusals,
        marks=marks,
        watch=watch,
        leftovers=leftovers,
        funding=funding,
        recovery=recovery,
        housekeeping=tuple(
            Housekeeping(name, jobs, clock, settings.sparky_mark_interval_s, is_active)
            for name, jobs in (
                ("marks", on_the_market(store, marks)),
                ("accounts", on_accounts(recovery, watch, reconciliation, leftovers)),
                ("funding", on_funding(funding)),
            )
        ),
        lease=lease,
        reconciliation=reconciliation,
        accounts=desk.accounts,
        metrics=metrics,
        workers=workers,
    )


def _app(doors: RouteHandlers, settings: Settings, refusals: RefusalLog) -> FastAPI:
    app = FastAPI(
        title="Sparky webhook server",
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        default_response_class=AsciiJson,
    )
    app.include_router(build_router(doors))
    app.add_api_route("/docs", partial(_documents, app), include_in_schema=False)
    app.add_exception_handler(HTTPException, _in_our_words)
    is_local = is_loopback(settings.sparky_webhook_host) and not settings.sparky_behind_tls
    app.add_middleware(Hardened, token=settings.sparky_admin_token, only_loopback_names=is_local)
    app.add_middleware(RefusalLogMiddleware, log=refusals)  # around the one before
    return app


async def _documents(app: FastAPI) -> HTMLResponse:
    return HTMLResponse(
        docs_page.render(app.openapi()), headers={"Content-Security-Policy": docs_page.CONTENT_SECURITY_POLICY}
    )


async def _in_our_words(_request: Request, error: Exception) -> AsciiJson:
    """Answers 404 and 405 in the shape of every other refusal."""
    if not isinstance(error, HTTPException):
        raise error
    hint = WRONG_ADDRESS.get(error.status_code)
    body = {"success": False, "error": error.detail} | ({} if hint is None else {"hint": hint})
    return AsciiJson(body, status_code=error.status_code, headers=error.headers)
