"""The webhook server as a supervised service; its child spec names `make` as the entry point."""

import time
from typing import Final
from uuid import UUID

from engine.platform.http.service import HttpService
from engine.platform.settings.component_settings import WebhookServerSettings
from engine.store.store import Store, open_store
from webhook_server.app import WebhookServer, build
from webhook_server.background.lease import TTL_S, build_owner_name
from webhook_server.clock import SystemClock
from webhook_server.http.routes import LIVE_PATH
from webhook_server.venue_registry import VenueRegistry

HOUSEKEEPING_GRACE_S: Final = 2.0
HEALTH_TIMEOUT_S: Final = 2.0  # of a query for /health; on a connection that is open already a second more


class WebhookService:
    """HTTP server, background jobs and stores with one lifecycle."""

    def __init__(self, http: HttpService, server: WebhookServer, *stores: Store) -> None:
        self._http = http
        self._server = server
        self._stores = stores

    @property
    def url(self) -> str:
        return self._http.url

    def start(self) -> None:
        """Raises ConfigurationError when the port is taken."""
        self._http.start()
        if self._server.lease is not None:
            self._server.lease.start()
        for thread in self._server.job_runners:
            thread.start()

    def is_healthy(self) -> bool:
        return all(thread.is_alive() for thread in self._server.job_runners) and self._http.is_healthy()

    def stop(self, grace_s: float) -> None:
        """Refuses signals that wait for a slot, and lets executing ones finish for `grace_s` seconds.

        Requests that are not booked by then are recovered at the next start. The order is that of the dependencies:
        nothing may use the store when it is closed, and the lease is released after the last order.
        """
        self._server.signal_receiver.admission.close()
        self._http.stop(grace_s)
        self._server.refusal_log.close()
        self._stop_housekeeping(time.monotonic() + min(grace_s, HOUSEKEEPING_GRACE_S))
        self._server.workers.shutdown(wait=False, cancel_futures=True)
        if self._server.lease is not None:
            self._server.lease.stop()
        for store in self._stores:
            store.close()

    def _stop_housekeeping(self, deadline: float) -> None:
        # All threads share the deadline: one that a venue holds up is left behind, as a daemon.
        for thread in self._server.job_runners:
            thread.stop()
        for thread in self._server.job_runners:
            thread.join(max(0.0, deadline - time.monotonic()))


def make(settings: WebhookServerSettings, argument: str, lease_ttl_s: float = TTL_S) -> WebhookService:
    """The service by `settings`; it opens nothing before `start`.

    `argument` is the run id of the engine that this server belongs to; empty for a server without an engine. The lease
    to execute ends `lease_ttl_s` after its last renewal.
    """
    store = open_store(settings, keep=True, engine=UUID(argument) if argument else None)
    health_store = open_store(settings, keep=True, timeout_s=HEALTH_TIMEOUT_S)
    host, port = settings.sparky_webhook_host, settings.sparky_webhook_port
    server = build(
        settings,
        store,
        VenueRegistry(settings),
        SystemClock(),
        build_owner_name(host, port),
        health_store=health_store,
        lease_ttl_s=lease_ttl_s,
    )
    http = HttpService(
        server.app,
        host,
        port,
        "SPARKY_WEBHOOK_PORT",
        LIVE_PATH,
        on_refused=server.refusal_log.log_connection,
        is_fronted=settings.sparky_behind_tls,
    )
    return WebhookService(http, server, store, health_store)
