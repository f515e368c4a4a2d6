"""One webhook server executes at a time: whoever holds the lease in the database; others stand by and take over.

The database looks at the lease whenever a request begins or an order is about to leave, so that a server that slept
through its end sends nothing.
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

LEASE_NAME: Final = "webhook"
TTL_S: Final = 5.0
RENEW_S: Final = 1.0
POLL_S: Final = 0.25  # while another server has it


class Lease:
    """Takes the lease and keeps it, on a thread of its own, which never raises."""

    def __init__(self, store: Store, owner: str, metrics: Metrics) -> None:
        self.owner = owner
        self._store = store
        self._metrics = metrics
        self._is_held: bool | None = None  # nothing is known yet
        self.on_lost: Callable[[], None] = lambda: None  # called on the lease's thread
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhook-lease", daemon=True)

    @property
    def is_held(self) -> bool:
        """As of the last renewal; the database has the last word."""
        return self._is_held is True

    def verify(self) -> bool:
        """Whether the database says so now: for what is sent without a request of its own. Raises as the store does."""
        return self._store.has_lease(self.owner)

    def start(self) -> None:
        self._renew()
        self._thread.start()

    def stop(self) -> None:
        """Gives the lease back, so that another server need not wait for its end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(RENEW_S + 1)
        try:
            self._store.release_lease(LEASE_NAME, self.owner)
        except SparkyError as error:
            logger.warning("lease_not_released", reason=str(error))  # it ends by itself

    def _run(self) -> None:
        while not self._stopping.wait(RENEW_S if self.is_held else POLL_S):
            self._renew()

    def _renew(self) -> None:
        try:
            is_held = self._store.hold_lease(LEASE_NAME, self.owner, TTL_S)
        except SparkyError as error:
            logger.warning("lease_unknown", reason=str(error))
            return
        was_held, self._is_held = self._is_held, is_held
        if is_held and was_held is False:  # not of a server that gets it at its start, which is no news
            logger.info("lease_acquired", owner=self.owner)
        elif not is_held and was_held is None:
            logger.info("standing_by", owner=self.owner)
        elif not is_held and was_held:
            logger.warning("lease_lost", owner=self.owner)
            self.on_lost()
        self._metrics.is_active.set(is_held)


def build_owner_name(host: str, port: int) -> str:
    """A name that a successor on the same address shares: only one process can listen there, so it need not wait.

    The address counts within one network namespace of one boot of one machine.
    """
    endpoint = f"{port}" if port else f"pid-{os.getpid()}"  # port 0 is whichever is free
    return f"{network_namespace_id()}/{host}:{endpoint}"
