"""The server's own threads: what is done every so often, by one server at a time, and in nobody's way.

Marking has a thread of its own, since it executes the stops and targets of paper positions; what asks venues about
accounts may take long, and has another, and so has funding.
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
from webhook_server.background.protection_watchdog import ProtectionWatchdog
from webhook_server.background.recovery import Recovery
from webhook_server.clock import Clock
from webhook_server.reconciliation import reconciliation
from webhook_server.reconciliation.orphan_orders import OrphanOrderCleanup
from webhook_server.reconciliation.reconciliation import Reconciliation

logger = structlog.get_logger()

EQUITY_EVERY_S: Final = 60.0
RECOVERY_EVERY_S: Final = 30.0
WATCH_EVERY_S: Final = 15.0
ABANDONED_AFTER_S: Final = 60.0  # a request open for longer has no sender that still retries
ShouldContinue = Callable[[], bool]


@dataclass(frozen=True)
class Job:
    """Done in every round, or every so many seconds after it last succeeded; `first` instead of it the first time.

    What takes long asks the given `ShouldContinue` in between: after a False it does no more.
    """

    name: str
    run: Callable[[ShouldContinue], object]
    every_s: float = 0.0
    first: Callable[[ShouldContinue], object] | None = None


def build_price_jobs(store: Store, mark_to_market: MarkToMarket) -> tuple[Job, ...]:
    """What depends on prices only."""
    return (
        Job("mark-to-market", lambda _: mark_to_market.run_once()),
        Job("equity-points", lambda _: store.append_equity_points(EQUITY_EVERY_S / 2), EQUITY_EVERY_S),
    )


def build_account_jobs(
    recovery: Recovery, watchdog: ProtectionWatchdog, reconciliation_: Reconciliation, orphan_orders: OrphanOrderCleanup
) -> tuple[Job, ...]:
    """What asks venues about people's accounts; what a dead server left half done comes first."""
    recover_abandoned = partial(recovery.run, ABANDONED_AFTER_S)
    return (
        Job("recovery", recover_abandoned, RECOVERY_EVERY_S, first=partial(recovery.run, 0.0)),
        Job("reconciliation", reconciliation_.run, reconciliation.INTERVAL_S),
        Job("protection-watchdog", watchdog.run, WATCH_EVERY_S),
        Job("orphan-orders", orphan_orders.run, WATCH_EVERY_S),
    )


def build_funding_jobs(funding: FundingJob) -> tuple[Job, ...]:
    """What is paid for positions; in no hurry, so that nothing that protects them waits for it."""
    return (Job("funding", funding.run, FUNDING_EVERY_S),)


class JobRunner:
    """One thread that does its jobs in turn, only while `is_active`: what is kept here one server keeps at a time."""

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
        """Says that the job under way is the last; does not wait for it."""
        self._stopping.set()

    def join(self, grace_s: float) -> None:
        if self._thread.is_alive():
            self._thread.join(grace_s)

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self._is_active():
                self._done_at.clear()  # a server that takes over starts from the beginning
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
        """What fails is tried again in the next round, and keeps no other job from its turn: the thread must live."""
        run = job.first if job.first is not None and job.name not in self._done_at else job.run
        try:
            run(self._should_continue)
        except UpstreamUnavailable as error:
            logger.warning("job_waiting", job=job.name, reason=str(error))
        except Exception:
            logger.exception("job_failed", job=job.name)
        else:
            self._done_at[job.name] = self._clock.monotonic()
