"""Periodic jobs of the webhook server, on threads of their own, by one server at a time.

Mark to market has a thread for itself, since it executes stop-losses and take-profits of paper positions and must not
wait. Jobs that ask venues about accounts may take long, and share another; funding has a third.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from engine.platform.errors import UpstreamUnavailable
from engine.store.store import Store
from webhook_server.background.funding import INTERVAL_S as FUNDING_EVERY_S
from webhook_server.background.funding import FundingJob
from webhook_server.background.mark_to_market import MarkToMarket
from webhook_server.background.recovery import Recovery
from webhook_server.clock import Clock
from webhook_server.protection.protection_watchdog import ProtectionWatchdog
from webhook_server.reconciliation import reconciliation
from webhook_server.reconciliation.orphan_orders import OrphanOrderCleanup
from webhook_server.reconciliation.reconciliation import Reconciliation

logger = structlog.get_logger()

EQUITY_EVERY_S: Final = 60.0
RECOVERY_EVERY_S: Final = 30.0
WATCH_EVERY_S: Final = 15.0
ABANDONED_AFTER_S: Final = 60.0  # signals expire after 60 s by default, so no sender retries an older request
ShouldContinue = Callable[[], bool]


@dataclass(frozen=True)
class Job:
    """Runs in every round, or `every_s` seconds after it last succeeded; `first` replaces `run` until it has succeeded.

    A job that takes long calls its `ShouldContinue` in between, and ends after a False.
    """

    name: str
    run: Callable[[ShouldContinue], object]
    every_s: float = 0.0
    first: Callable[[ShouldContinue], object] | None = None


def build_price_jobs(store: Store, mark_to_market: MarkToMarket) -> tuple[Job, ...]:
    """Jobs that need prices only."""
    return (
        Job("mark-to-market", lambda _: mark_to_market.run_once()),
        Job("equity-points", lambda _: store.append_equity_points(EQUITY_EVERY_S / 2), EQUITY_EVERY_S),
    )


def build_account_jobs(
    recovery: Recovery, watchdog: ProtectionWatchdog, reconciliation_: Reconciliation, orphan_orders: OrphanOrderCleanup
) -> tuple[Job, ...]:
    """Jobs that ask venues about accounts. Recovery comes first: the others skip symbols with a request under way."""
    recover_abandoned = partial(recovery.run, ABANDONED_AFTER_S)
    return (
        Job("recovery", recover_abandoned, RECOVERY_EVERY_S, first=partial(recovery.run, 0.0)),
        Job("reconciliation", reconciliation_.run, reconciliation.INTERVAL_S),
        Job("protection-watchdog", watchdog.run, WATCH_EVERY_S),
        Job("orphan-orders", orphan_orders.run, WATCH_EVERY_S),
    )


def build_funding_jobs(funding: FundingJob) -> tuple[Job, ...]:
    """Funding alone: it can wait, and the jobs that protect positions must not wait for it."""
    return (Job("funding", funding.run, FUNDING_EVERY_S),)


class JobRunner:
    """One thread that runs its jobs in order, while `is_active` says that this server holds the lease."""

    def __init__(
        self, name: str, jobs: Sequence[Job], clock: Clock, interval_s: float, is_active: ShouldContinue
    ) -> None:
        self._jobs = jobs
        self._clock = clock
        self._interval_s = interval_s
        self._is_active = is_active
        self._done_at: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Lets the job under way be the last; does not wait for it."""
        self._stopping.set()

    def join(self, grace_s: float) -> None:
        if self._thread.is_alive():
            self._thread.join(grace_s)

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self._is_active():
                self._done_at.clear()  # a server that takes over begins with `first`, such as the whole recovery
            for job in self._jobs:
                if self._should_continue() and self._is_due(job):
                    self._run_job(job)
            self._stopping.wait(self._interval_s)

    def _should_continue(self) -> bool:
        return self._is_active() and not self._stopping.is_set()

    def _is_due(self, job: Job) -> bool:
        done_at = self._done_at.get(job.name)
        return done_at is None or self._clock.monotonic() - done_at >= job.every_s

    def _run_job(self, job: Job) -> None:
        """Runs one job; a failure is logged and tried again in the next round, so that the thread and the other jobs
        go on."""
        run = job.first if job.first is not None and job.name not in self._done_at else job.run
        try:
            run(self._should_continue)
        except UpstreamUnavailable as error:
            logger.warning("job_waiting", job=job.name, reason=str(error))
        except Exception:
            logger.exception("job_failed", job=job.name)
        else:
            self._done_at[job.name] = self._clock.monotonic()
