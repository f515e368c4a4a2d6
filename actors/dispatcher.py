"""Delivers signals from the outbox to the webhook server: leased, signed, at least once, until each reaches an end."""

import queue
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import structlog
from pydantic import SecretStr

from actors.messages import OutboxState, SignalAttempted, SignalQueued
from actors.runtime.actor import Actor, Peers
from actors.runtime.messages import Message
from engine.domain.errors import Superseded
from engine.domain.signal import Signal, SignalOutcome
from engine.outbox import delivery
from engine.outbox.delivery import DeliveryAttempt
from engine.platform.errors import ConfigurationError, CredentialsError, SealedElsewhere, UpstreamUnavailable
from engine.platform.http.deadline_session import DeadlineSession
from engine.platform.settings.component_settings import DispatcherSettings
from engine.store.cycles import DeliveryOutcome
from engine.store.store import Store, open_store

logger = structlog.get_logger()

WORKERS: Final = 12
MAX_CLAIMED: Final = 2 * WORKERS  # more than are delivered at once, so that one call claims several
LEASE_S: Final = 30.0  # longer than two attempts one after the other: no other dispatcher claims a signal meanwhile
SECRET_CACHE_S: Final = 1.0
STORE_RETRY_S: Final = 0.2
SECRET_RETRY_S: Final = 5.0
BATCH_WINDOW_S: Final = 0.25  # while no more can be claimed, results are collected, and one call records them

DeliveryResult = tuple[Signal, DeliveryAttempt]


class Dispatcher(Actor):
    """Claims signals when a strategy says that it recorded one, and on every tick, since that message may be lost.

    A claim returns only the oldest open signal of each (strategy, symbol): their order is kept, others are delivered in
    parallel. Only the outbox thread calls the outbox: it records all attempts that have ended in one call, then claims;
    workers deliver. With `is_alone`, as an engine's only dispatcher, it ends the leases of all others first: they have
    ended, or belong to an engine that was superseded.
    """

    def __init__(self, store: Store, peers: Peers, webhook_url: str, *, is_alone: bool = False) -> None:
        super().__init__()
        self._store = store
        self._peers = peers
        self._url = webhook_url
        self._owner = f"dispatcher:{uuid.uuid4().hex[:12]}"
        self._events: queue.SimpleQueue[DeliveryResult | None] = queue.SimpleQueue()  # None: claim
        self._claimed: set[UUID] = set()
        self._secrets: dict[UUID, tuple[float, SecretStr | None]] = {}
        self._stopping = threading.Event()
        self._idle = threading.Event()
        self._store_is_up = True
        self._outbox_is_up = True  # for the outbox thread; `_store_is_up` is for the actor's own
        self._must_release_leases = is_alone
        self._fault: ConfigurationError | None = None  # which ended the outbox thread

    def open(self) -> None:
        self._sender = DeadlineSession(WORKERS)
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="signal-delivery")
        self._outbox_thread = threading.Thread(target=self._run_outbox_thread, name="outbox", daemon=True)
        self._outbox_thread.start()

    def tick(self, now: float) -> float:
        if self._fault is not None:
            raise self._fault
        if not self._outbox_thread.is_alive():
            raise RuntimeError("the outbox thread has ended")
        self._events.put(None)
        try:
            self._peers.tell("monitor", OutboxState(pending=self._store.count_pending_signals()))
            if not self._store_is_up:
                logger.info("store_recovered")
            self._store_is_up = True
        except (UpstreamUnavailable, Superseded) as error:
            if self._store_is_up:
                logger.warning("store_unavailable", reason=str(error))
            self._store_is_up = False
        return now + self.tick_every_s

    def receive(self, message: Message) -> None:
        if not isinstance(message, SignalQueued):
            raise TypeError(f"the dispatcher does not know {type(message).__name__}")
        self._events.put(None)

    def close(self, grace_s: float) -> None:
        """Flushes: delivers until nothing is due or under way. What is left after `grace_s` stays in the outbox."""
        if not self._is_open:
            return
        deadline = time.monotonic() + grace_s
        self._idle.clear()
        self._stopping.set()
        self._events.put(None)
        self._idle.wait(max(0.0, deadline - time.monotonic()))
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._sender.close()

    def _run_outbox_thread(self) -> None:
        try:
            self._process_outbox()
        except ConfigurationError as error:
            self._fault = error

    def _process_outbox(self) -> None:
        """Waits for an event, records results, claims. Returns once it is stopping and nothing is left."""
        unrecorded: list[DeliveryResult] = []
        while True:
            unrecorded += self._collect_results(wait_s=STORE_RETRY_S if unrecorded else None)
            # As it was before the claim: one that began earlier may have missed what is due at the stop.
            is_stopping = self._stopping.is_set()
            try:
                self._release_stale_leases()
                unrecorded = self._record_results(unrecorded)
                started = self._claim()
                self._log_outbox_state(up=True)
            except (UpstreamUnavailable, Superseded) as error:
                self._log_outbox_state(up=False, reason=str(error), unsettled=len(unrecorded))
                started = 0
                if self._stopping.is_set():
                    break
            if is_stopping and not (started or unrecorded or self._claimed):
                break
        self._idle.set()

    def _release_stale_leases(self) -> None:
        """Ends the leases of dispatchers that are gone, once, before the first claim. Raises as the store does."""
        if self._must_release_leases:
            released = self._store.release_signals("")
            self._must_release_leases = False
            if released:
                logger.info("outbox_leases_taken_over", count=released)

    def _log_outbox_state(self, *, up: bool, **facts: object) -> None:
        if up != self._outbox_is_up:
            self._outbox_is_up = up
            if up:
                logger.info("outbox_recovered", **facts)
            else:
                logger.warning("outbox_unavailable", **facts)

    def _collect_results(self, wait_s: float | None) -> list[DeliveryResult]:
        """The results that have come, after at least one event (or `wait_s` seconds).

        While too many signals are claimed to claim more, it waits up to `BATCH_WINDOW_S` for further results.
        """
        results: list[DeliveryResult] = []
        try:
            event = self._events.get(timeout=wait_s)
            until = time.monotonic() + BATCH_WINDOW_S
            while True:
                if event is not None:
                    results.append(event)
                is_full = len(self._claimed) - len(results) > MAX_CLAIMED // 2
                event = self._events.get(timeout=max(0.0, until - time.monotonic()) if is_full else 0.0)
        except queue.Empty:
            return results

    def _record_results(self, results: list[DeliveryResult]) -> list[DeliveryResult]:
        """Records how attempts ended. Returns what is left to record: nothing. Raises UpstreamUnavailable."""
        if not results:
            return []
        settlements = [
            DeliveryOutcome(
                signal_id=signal.id,
                outcome=attempt.outcome,
                status=attempt.status,
                reason=attempt.reason,
                retry_in_s=attempt.retry_in_s,
            )
            for signal, attempt in results
        ]
        recorded_ids = self._store.record_delivery_outcomes(self._owner, settlements)
        for signal, attempt in results:
            self._claimed.discard(signal.id)
            self._report_attempt(signal, attempt, is_lease_held=signal.id in recorded_ids)
        return []

    def _claim(self) -> int:
        """Claims signals that are due and starts their delivery, if there is room for a batch. Returns their number."""
        if len(self._claimed) > MAX_CLAIMED // 2:
            return 0
        signals = self._store.claim_signals(self._owner, MAX_CLAIMED - len(self._claimed), LEASE_S)
        for signal in signals:
            self._claimed.add(signal.id)
            self._workers.submit(self._deliver, signal)
        return len(signals)

    def _deliver(self, signal: Signal) -> None:
        try:
            attempt = self._attempt_delivery(signal)
        except SealedElsewhere as error:  # an engine with the right key may take over before the signal expires
            attempt = DeliveryAttempt(SignalOutcome.RETRY, None, str(error), SECRET_RETRY_S)
        except UpstreamUnavailable as error:
            attempt = DeliveryAttempt(SignalOutcome.RETRY, None, str(error), STORE_RETRY_S)
        except Exception as error:
            logger.exception("delivery_failed", signal=str(signal.id))
            wait_s = delivery.compute_retry_wait_s(signal.attempts)
            attempt = DeliveryAttempt(SignalOutcome.RETRY, None, f"our own fault: {type(error).__name__}", wait_s)
        self._events.put((signal, attempt))

    def _attempt_delivery(self, signal: Signal) -> DeliveryAttempt:
        try:
            secret = self._get_secret(signal.user_id)
        except CredentialsError as error:
            return DeliveryAttempt(SignalOutcome.DEAD, None, str(error))
        if secret is None:
            return DeliveryAttempt(SignalOutcome.DEAD, None, "the user has no webhook secret")
        return delivery.post(self._sender, self._url, signal, secret)

    def _get_secret(self, user_id: UUID) -> SecretStr | None:
        now = time.monotonic()
        until, secret = self._secrets.get(user_id, (now, None))
        if now >= until:
            secret = self._store.get_webhook_secret(user_id)
            self._secrets[user_id] = (now + SECRET_CACHE_S, secret)
        return secret

    def _report_attempt(self, signal: Signal, attempt: DeliveryAttempt, *, is_lease_held: bool) -> None:
        logger.info(
            "signal",
            signal=str(signal.id),
            strategy=str(signal.strategy_id),
            symbol=signal.symbol,
            outcome=attempt.outcome,
            status=attempt.status,
            reason=attempt.reason,
            **({} if is_lease_held else {"lease": "lost"}),
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


def make(settings: DispatcherSettings, peers: Peers, argument: str) -> Dispatcher:
    """`argument` is the id of the engine's run."""
    if settings.webhook_url is None:
        raise ValueError("the composition always names a webhook URL")
    store = open_store(settings, keep=True, engine=UUID(argument))
    return Dispatcher(store, peers, settings.webhook_url, is_alone=True)
