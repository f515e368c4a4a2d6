"""Builds the webhook server from its parts; the only module that imports all of them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request

from engine.platform.settings.component_settings import WebhookServerSettings
from engine.platform.settings.settings import is_loopback
from engine.store.store import Store
from webhook_server.admission.execution_slots import SLOT_WAIT_S, AdmissionControl, SlotLimits
from webhook_server.admission.signal_receiver import SignalReceiver
from webhook_server.admission.user_rate_limiter import UserRateLimiter
from webhook_server.background.funding import FundingJob
from webhook_server.background.jobs import JobRunner, build_account_jobs, build_funding_jobs, build_price_jobs
from webhook_server.background.lease import TTL_S as LEASE_TTL_S
from webhook_server.background.lease import Lease
from webhook_server.background.mark_to_market import MarkToMarket
from webhook_server.background.paper_catch_up import CATCH_UP_TIMEOUT_S, RECENT_CATCH_UP_TIMEOUT_S, PaperCatchUp
from webhook_server.background.protective_exits import ProtectiveExits
from webhook_server.background.recovery import Recovery
from webhook_server.clock import Clock
from webhook_server.execution.entry_legs import MAX_ORDER_DELAY_S
from webhook_server.execution.executor import LOCK_WAIT_S, OrderExecutor
from webhook_server.execution.pipeline import REPETITION_WAIT_S, Pipeline
from webhook_server.http import docs_page
from webhook_server.http.ascii_json import AsciiJson
from webhook_server.http.health import Health
from webhook_server.http.refusal_log import RefusalLog, RefusalLogMiddleware
from webhook_server.http.responses import encode_for_store, render_routing_failure
from webhook_server.http.routes import RouteHandlers, build_router
from webhook_server.http.security_headers import SecurityHeadersMiddleware
from webhook_server.intake.auth import CachedSecrets
from webhook_server.metrics import Metrics
from webhook_server.protection.protection_watchdog import ProtectionWatchdog
from webhook_server.reconciliation.account_checks import AccountChecks
from webhook_server.reconciliation.orphan_orders import OrphanOrderCleanup
from webhook_server.reconciliation.reconciliation import Reconciliation
from webhook_server.reconciliation.symbol_reconciliation import SymbolReconciler
from webhook_server.venue_registry import Venues

SLOT_LIMITS: Final = SlotLimits(  # most executing signals only wait, for a venue or for their strategy's lock
    per_user=14,  # our own dispatcher sends 12 at once
    entries=24,
    signals=48,  # more than entries, so that exits find a slot also while a venue hangs
    waiting_per_user=500,
    waiting=1_000,
)
MAX_WORKERS: Final = SLOT_LIMITS.signals + 8  # so that new signals are authenticated while all slots execute


@dataclass(frozen=True)
class WebhookServer:
    """The application and its background jobs. `workers` and `job_runners` must end before the store is closed."""

    app: FastAPI
    pipeline: Pipeline
    signal_receiver: SignalReceiver
    refusal_log: RefusalLog
    mark_to_market: MarkToMarket
    protection_watchdog: ProtectionWatchdog
    orphan_orders: OrphanOrderCleanup
    funding: FundingJob
    recovery: Recovery
    job_runners: tuple[JobRunner, ...]
    metrics: Metrics
    workers: ThreadPoolExecutor
    lease: Lease | None
    reconciliation: Reconciliation
    account_checks: AccountChecks


class WaitLimits(NamedTuple):
    """How long a signal waits for an execution slot, from its arrival for its strategy's lock, as a repetition for the
    first answer, and for what the market did to a paper position before it (less where that was compared lately); and
    how long an entry's order may follow the judgement of its price. In seconds."""

    slot_s: float = SLOT_WAIT_S
    lock_s: float = LOCK_WAIT_S
    repetition_s: float = REPETITION_WAIT_S
    catch_up_s: float = CATCH_UP_TIMEOUT_S
    recent_catch_up_s: float = RECENT_CATCH_UP_TIMEOUT_S
    order_delay_s: float = MAX_ORDER_DELAY_S


WAIT_LIMITS: Final = WaitLimits()


def build(
    settings: WebhookServerSettings,
    store: Store,
    venues: Venues,
    clock: Clock,
    lease_owner: str | None = None,
    wait_limits: WaitLimits = WAIT_LIMITS,
    health_store: Store | None = None,
    lease_ttl_s: float = LEASE_TTL_S,
) -> WebhookServer:
    """Builds the server on the given store, venues and clock; starts no thread.

    With `lease_owner` the server executes only while it holds the lease under that name, which ends `lease_ttl_s` after
    its last renewal. `health_store` serves /health, which must answer sooner than other queries may; None uses `store`.
    """
    metrics = Metrics()
    executor = OrderExecutor(
        store,
        venues,
        clock,
        metrics,
        settings.sparky_paper_slippage_percent,
        encode_for_store,
        lease_owner,
        wait_limits.lock_s,
    )
    executor.max_order_delay_s = wait_limits.order_delay_s
    cached_secrets = CachedSecrets(store, clock.monotonic)
    pipeline = Pipeline(store, executor, clock, metrics, encode_for_store, wait_limits.repetition_s)
    lease = None if lease_owner is None else Lease(store, lease_owner, metrics, lease_ttl_s)

    def is_active() -> bool:
        return lease is None or lease.is_held

    admission = AdmissionControl(SLOT_LIMITS, is_active, wait_limits.slot_s)
    metrics.waiting.set_function(lambda: admission.waiting)
    if lease is not None:
        lease.on_lost = admission.cancel_waiting
    signal_receiver = SignalReceiver(
        pipeline, store, clock, cached_secrets, UserRateLimiter(settings.sparky_webhook_rate_per_s), admission
    )
    refusal_log = RefusalLog(clock)
    protective_exits = ProtectiveExits(pipeline, clock, metrics)
    catch_up = PaperCatchUp(
        store, venues, protective_exits, clock, wait_limits.catch_up_s, wait_limits.recent_catch_up_s
    )
    pipeline.before_request = catch_up.check_market_exits
    reconciliation = Reconciliation(store, venues, SymbolReconciler(store, metrics), protective_exits, clock, metrics)
    mark_to_market = MarkToMarket(store, venues, protective_exits, clock, metrics)
    may_send = (lambda: True) if lease is None else lease.verify
    protection_watchdog = ProtectionWatchdog(store, venues, executor, protective_exits, metrics, may_send)
    orphan_orders = OrphanOrderCleanup(store, venues, clock, metrics, may_send)
    funding = FundingJob(store, venues, clock, metrics)
    recovery = Recovery(store, pipeline, clock, metrics)
    health = Health(health_store or store, clock, metrics, is_active)
    workers = ThreadPoolExecutor(MAX_WORKERS, thread_name_prefix="webhook-worker")
    return WebhookServer(
        app=_build_app(RouteHandlers(signal_receiver, store, health, metrics, workers), settings, refusal_log),
        pipeline=pipeline,
        signal_receiver=signal_receiver,
        refusal_log=refusal_log,
        mark_to_market=mark_to_market,
        protection_watchdog=protection_watchdog,
        orphan_orders=orphan_orders,
        funding=funding,
        recovery=recovery,
        job_runners=tuple(
            JobRunner(name, jobs, clock, settings.sparky_mark_interval_s, is_active)
            for name, jobs in (
                ("mark-to-market", build_price_jobs(store, mark_to_market)),
                ("account-jobs", build_account_jobs(recovery, protection_watchdog, reconciliation, orphan_orders)),
                ("funding", build_funding_jobs(funding)),
            )
        ),
        lease=lease,
        reconciliation=reconciliation,
        account_checks=executor.account_checks,
        metrics=metrics,
        workers=workers,
    )


def _build_app(handlers: RouteHandlers, settings: WebhookServerSettings, refusal_log: RefusalLog) -> FastAPI:
    app = FastAPI(
        title="Sparky webhook server",
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        default_response_class=AsciiJson,
    )
    app.include_router(build_router(handlers))
    app.add_api_route("/docs", partial(_render_docs, app), include_in_schema=False)
    app.add_exception_handler(HTTPException, _handle_http_error)
    is_local = is_loopback(settings.sparky_webhook_host) and not settings.sparky_behind_tls
    app.add_middleware(SecurityHeadersMiddleware, token=settings.sparky_admin_token, only_loopback_names=is_local)
    app.add_middleware(RefusalLogMiddleware, log=refusal_log)  # around the one before
    return app


async def _render_docs(app: FastAPI) -> HTMLResponse:
    return HTMLResponse(
        docs_page.render(app.openapi()), headers={"Content-Security-Policy": docs_page.CONTENT_SECURITY_POLICY}
    )


async def _handle_http_error(_request: Request, error: Exception) -> AsciiJson:
    """Returns 404 and 405 in the JSON shape of every other refusal. Raises any other exception again."""
    if not isinstance(error, HTTPException):
        raise error
    response = render_routing_failure(error.status_code, error.detail)
    return AsciiJson(dict(response.body), status_code=response.status, headers=error.headers)
