"""Carries signals from the outbox to the webhook server: leased, signed, at least once, until each reached an end."""

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

import requests
import structlog
from requests.adapters import HTTPAdapter

from actors.actor import Actor, Peers
from actors.messages import Message, OutboxState, SignalAttempted, SignalReady
from engine import delivery
from engine.delivery import Attempt
from engine.errors import CredentialsRefused, UpstreamUnavailable
from engine.settings import Settings
from engine.store.store import Store, open_store
from engine.types import Signal, SignalOutcome

logger = structlog.get_logger()

WORKERS: Final = 8
LEASE_S: Final = 30.0  # longer than the longest attempt, so that nobody else sends what we are sending


class Dispatcher(Actor):
    """Claims on every wake-up (a strategy has recorded a signal) and, should one be lost, on every tick.

    The claim hands out only the oldest open signal of each (strategy, symbol), so their order is kept while others
    go in parallel.
    """

    def __init__(self, store: Store, peers: Peers, webhook_url: str) -> None:
        super().__init__()
        self._store = store
        self._peers = peers
        self._url = webhook_url
        self._owner = f"dispatcher-{uuid.uuid4().hex[:12]}"
        self._room = threading.BoundedSemaphore(WORKERS)
        self._claiming = threading.Lock()
        self._store_is_up = True

    def open(self) -> None:
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=WORKERS))
        self._session.trust_env = False
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="deliver")

    def tick(self, now: float) -> float:
        self._claim()
        try:
            self._peers.tell("monitor", OutboxState(pending=self._store.outbox_pending()))
            self._store_is_up = True
        except UpstreamUnavailable as error:
            if self._store_is_up:
                logger.warning("store_is_away", reason=str(error))
            self._store_is_up = False
        return now + self.tick_every_s

    def receive(self, message: Message) -> None:
        if not isinstance(message, SignalReady):
            raise TypeError(f"the dispatcher does not know {type(message).__name__}")
        self._claim()

    def close(self, grace_s: float) -> None:
        """Flushes: delivers until nothing is due and nothing is under way. What it does not manage stays recorded."""
        deadline = time.monotonic() + grace_s
        started = 1
        while started > 0 and time.monotonic() < deadline:
            started = self._claim()
            self._await_idle(deadline)

    def _await_idle(self, deadline: float) -> None:
        held = [self._room.acquire(timeout=max(0.0, deadline - time.monotonic())) for _ in range(WORKERS)]
        for _ in range(sum(held)):
            self._room.release()

    def _claim(self) -> int:
        """Starts the delivery of all that is due and fits; how many those were."""
        with self._claiming:
            room = 0
            while room < WORKERS and self._room.acquire(blocking=False):
                room += 1
            signals = self._claimed(room)
            for _ in range(room - len(signals)):
                self._room.release()
            for signal in signals:
                self._workers.submit(self._deliver, signal)
            return len(signals)

    def _claimed(self, room: int) -> tuple[Signal, ...]:
        if room == 0:
            return ()
        try:
            return self._store.claim_signals(self._owner, room, LEASE_S)
        except UpstreamUnavailable:
            return ()

    def _deliver(self, signal: Signal) -> None:
        log = logger.bind(signal=str(signal.id), strategy=str(signal.strategy_id), symbol=signal.symbol)
        try:
            attempt = self._attempt(signal)
            self._settle(signal, attempt)
            log.info("signal", outcome=attempt.outcome, status=attempt.status, reason=attempt.reason)
        except UpstreamUnavailable as error:
            log.warning("signal_not_settled", reason=str(error))  # the lease runs out and it is sent again
        except Exception as error:
            log.exception("delivery_failed", reason=str(error))
        finally:
            self._room.release()
        self.actor_ref.tell(SignalReady(signal_id=signal.id))  # the next one of its strategy and symbol may go now

    def _attempt(self, signal: Signal) -> Attempt:
        try:
            secret = self._store.webhook_secret(signal.user_id)
        except CredentialsRefused as error:
            return Attempt(SignalOutcome.DEAD, None, str(error))
        if secret is None:
            return Attempt(SignalOutcome.DEAD, None, "the user has no webhook secret")
        return delivery.post(self._session, self._url, signal, secret)

    def _settle(self, signal: Signal, attempt: Attempt) -> None:
        self._store.settle_signal(
            signal.id, self._owner, attempt.outcome, attempt.status, attempt.reason, attempt.retry_in_s
        )
        self._peers.tell(
            "monitor",
            SignalAttempted(
                signal_id=signal.id,
                strategy_id=signal.strategy_id,
                outcome=attempt.outcome,
                status=attempt.status,
                reason=attempt.reason,
                age_s=(datetime.now(UTC) - signal.created_at).total_seconds(),
            ),
        )


def make(settings: Settings, peers: Peers, _argument: str) -> Dispatcher:
    if settings.webhook_url is None:
        raise ValueError("the composition always names a webhook URL")
    return Dispatcher(open_store(settings, keep=True), peers, settings.webhook_url)
