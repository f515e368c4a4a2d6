"""The lease of the one webhook server that executes; others stand by and take over.

The database checks the lease whenever a request begins or an order is about to be sent, so that a server that was
suspended beyond its lease sends nothing.
"""

import os
import threading
from collections.abc import Callable
from typing import Final

import structlog

from engine.platform.errors import SparkyError
from engine.platform.processes import network_namespace_id
from engine.store.store import Store
from webhook_server.metrics import Metrics

logger = structlog.get_logger()

TTL_S: Final = 5.0
RENEW_S: Final = 1.0
POLL_S: Final = 0.25  # while another server holds it


class Lease:
    """Acquires and renews the lease on a thread of its own, which never raises."""

    def __init__(self, store: Store, owner: str, metrics: Metrics, ttl_s: float = TTL_S) -> None:
        self.owner = owner
        self._ttl_s = ttl_s
        self._store = store
        self._metrics = metrics
        self._is_held: bool | None = None  # None before the first answer of the database
        self.on_lost: Callable[[], None] = lambda: None  # called on the lease's thread
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhook-lease", daemon=True)

    @property
    def is_held(self) -> bool:
        """Whether the lease was held at the last renewal; `verify` asks the database."""
        return self._is_held is True

    def verify(self) -> bool:
        """Whether the lease is held now, by the database: for orders that are sent without a request. Raises what the
        store raises."""
        return self._store.has_webhook_lease(self.owner)

    def start(self) -> None:
        self._renew()
        self._thread.start()

    def stop(self) -> None:
        """Releases the lease, so that another server need not wait until it expires."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(RENEW_S + 1)
        try:
            self._store.release_webhook_lease(self.owner)
        except SparkyError as error:
            logger.warning("webhook_lease_not_released", reason=str(error))  # it expires by itself

    def _run(self) -> None:
        while not self._stopping.wait(RENEW_S if self.is_held else POLL_S):
            self._renew()

    def _renew(self) -> None:
        try:
            is_held = self._store.hold_webhook_lease(self.owner, self._ttl_s)
        except SparkyError as error:
            # `is_held` stays: without a database nothing executes anyway, and waiting signals should survive a blink.
            logger.warning("webhook_lease_unknown", reason=str(error))
            return
        was_held, self._is_held = self._is_held, is_held
        if is_held and was_held is False:  # the usual start is not logged
            logger.info("webhook_lease_acquired", owner=self.owner)
        elif not is_held and was_held is None:
            logger.info("webhook_standing_by", owner=self.owner)
        elif not is_held and was_held:
            logger.warning("webhook_lease_lost", owner=self.owner)
            self.on_lost()
        self._metrics.is_active.set(is_held)


def build_owner_name(host: str, port: int) -> str:
    """The owner's name, by listening address: a restarted server has the same one and need not wait for the lease.

    Only one process can listen on an address within one network namespace of one boot of one machine.
    """
    endpoint = f"{port}" if port else f"pid-{os.getpid()}"  # port 0 takes a free port, which says nothing
    return f"{network_namespace_id()}/{host}:{endpoint}"
