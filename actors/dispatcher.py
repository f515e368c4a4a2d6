"""Carries signals from the outbox to the webhook server: leased, signed, at least once, until each reached an end."""

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

from actors.messages import OutboxState, SignalAttempted, SignalReady
from actors.runtime.actor import Actor, Peers
from actors.runtime.messages import Message
from engine.domain.errors import Superseded
from engine.domain.signal import Signal, SignalOutcome
from engine.outbox import delivery
from engine.outbox.delivery import Attempt
from engine.platform.errors import BadConfiguration, CredentialsRefused, SealedElsewhere, UpstreamUnavailable
from engine.platform.http.deadline_session import Sender
from engine.platform.settings.settings import Settings
from engine.store.cycles import Settlement
from engine.store.store import Store, open_store

logger = structlog.get_logger()

WORKERS: Final = 12
MOST_CLAIMED: Final = 2 * WORKERS  # some wait here already, so that claims come in batches
LEASE_S: Final = 30.0  # longer than two attempts after each other, so that nobody else sends what we are sending
SECRET_KEPT_S: Final = 1.0
RETRY_STORE_S: Final = 0.2
RETRY_SECRET_S: Final = 5.0
LINGER_S: Final = 0.25  # with a full hand nothing waits for the outbox, and one call settles many

Ended = tuple[Signal, Attempt]


class Dispatcher(Actor):
    """Claims on every wake-up (a strategy has recorded a signal) and, should one be lost, on every tick.

    The claim hands out only the oldest open signal of each (strategy, symbol), so their order is kept while others
    go in parallel. One thread, the clerk, speaks to the outbox: it settles all that has ended meanwhile in one call,
    then claims; workers deliver. An engine's only dispatcher, which `is_alone`, ends the leases of all others: they are
    dead, or of an engine that was superseded.
    """

    def __init__(self, store: Store, peers: Peers, webhook_url: str, *, is_alone: bool = False) -> None:
        super().__init__()
        self._store = store
        self._peers = peers
        self._url = webhook_url
        self._owner = f"dispatcher:{uuid.uuid4().hex[:12]}"
        self._events: queue.SimpleQueue[Ended | None] = queue.SimpleQueue()  # None: look into the outbox
        self._claimed: set[UUID] = set()
        self._secrets: dict[UUID, tuple[float, SecretStr | None]] = {}
        self._stopping = threading.Event()
        self._idle = threading.Event()
        self._store_is_up = True
        self._outbox_is_up = True  # as the clerk sees it
        self._is_to_release = is_alone
        self._fault: BadConfiguration | None = None  # which ended the clerk

    def open(self) -> None:
        self._sender = Sender(WORKERS)
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="deliver")
        self._clerk = threading.Thread(target=self._work, name="clerk", daemon=True)
        self._clerk.start()

    def tick(self, now: float) -> float:
        if self._fault is not None:
            raise self._fault
        if not self._clerk.is_alive():
            raise RuntimeError("the clerk is gone")
        self._events.put(None)
        try:
            self._peers.tell("monitor", OutboxState(pending=self._store.outbox_pending()))
            self._store_is_up = True
        except (UpstreamUnavailable, Superseded) as error:
            if self._store_is_up:
                logger.warning("store_is_away", reason=str(error))
            self._store_is_up = False
        return now + self.tick_every_s

    def receive(self, message: Message) -> None:
        if not isinstance(message, SignalReady):
            raise TypeError(f"the dispatcher does not know {type(message).__name__}")
        self._events.put(None)

    def close(self, grace_s: float) -> None:
        """Flushes: delivers until nothing is due and nothing is under way. What it does not manage stays recorded."""
        if not self._is_open:
            return
        deadline = time.monotonic() + grace_s
        self._idle.clear()
        self._stopping.set()
        self._events.put(None)
        self._idle.wait(max(0.0, deadline - time.monotonic()))
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._sender.close()

    def _work(self) -> None:
        try:
            self._keep_books()
        except BadConfiguration as error:
            self._fault = error

    def _keep_books(self) -> None:
        """Waits for something to do, settles, claims. Ends when told to stop and nothing is left."""
        unsettled: list[Ended] = []
        while True:
            unsettled += self._ended(wait_s=RETRY_STORE_S if unsettled else None)
            try:
                self._release()
                unsettled = self._settled(unsettled)
                started = self._claim()
                self._note_outbox(up=True)
            except (UpstreamUnavailable, Superseded) as error:
                self._note_outbox(up=False, reason=str(error), unsettled=len(unsettled))
                started = 0
                if self._stopping.is_set():
                    break
            if self._stopping.is_set() and not (started or unsettled or self._claimed):
                break
        self._idle.set()

    def _release(self) -> None:
        """Ends the leases of dispatchers that are gone, once, before the first claim. Raises as the store does."""
        if self._is_to_release:
            released = self._store.release_signals("")
            self._is_to_release = False
            if released:
                logger.info("leases_taken_over", count=released)

    def _note_outbox(self, *, up: bool, **facts: object) -> None:
        if up != self._outbox_is_up:
            self._outbox_is_up = up
            logger.warning("outbox_is_back" if up else "outbox_away", **facts)

    def _ended(self, wait_s: float | None) -> list[Ended]:
        """All events that are there, after at least one came (or `wait_s` passed).

        With too much in hand to claim more, a little later there are more of them to be written down at once.
        """
        ended: list[Ended] = []
        try:
            event = self._events.get(timeout=wait_s)
            until = time.monotonic() + LINGER_S
            while True:
                if event is not None:
                    ended.append(event)
                is_full = len(self._claimed) - len(ended) > MOST_CLAIMED // 2
                event = self._events.get(timeout=max(0.0, until - time.monotonic()) if is_full else 0.0)
        except queue.Empty:
            return ended

    def _settled(self, ended: list[Ended]) -> list[Ended]:
        """Writes down how attempts ended; what is left to be written (nothing). Raises UpstreamUnavailable."""
        if not ended:
            return []
        settlements = [
            Settlement(
                signal_id=signal.id,
                outcome=attempt.outcome,
                status=attempt.status,
                reason=attempt.reason,
                retry_in_s=attempt.retry_in_s,
            )
            for signal, attempt in ended
        ]
        ours = self._store.settle_signals(self._owner, settlements)
        for signal, attempt in ended:
            self._claimed.discard(signal.id)
            self._tell(signal, attempt, is_ours=signal.id in ours)
        return []

    def _claim(self) -> int:
        """Starts the delivery of what is due, as far as there is room for a batch; how many those were."""
        if len(self._claimed) > MOST_CLAIMED // 2:
            return 0
        signals = self._store.claim_signals(self._owner, MOST_CLAIMED - len(self._claimed), LEASE_S)
        for signal in signals:
            self._claimed.add(signal.id)
            self._workers.submit(self._deliver, signal)
        return len(signals)

    def _deliver(self, signal: Signal) -> None:
        try:
            attempt = self._attempt(signal)
        except SealedElsewhere as error:  # an engine with the key may come before the signal's end
            attempt = Attempt(SignalOutcome.RETRY, None, str(error), RETRY_SECRET_S)
        except UpstreamUnavailable as error:
            attempt = Attempt(SignalOutcome.RETRY, None, str(error), RETRY_STORE_S)
        except Exception as error:
            logger.exception("delivery_failed", signal=str(signal.id))
            wait_s = delivery.wait_before_retry(signal.attempts)
            attempt = Attempt(SignalOutcome.RETRY, None, f"our own fault: {type(error).__name__}", wait_s)
        self._events.put((signal, attempt))

    def _attempt(self, signal: Signal) -> Attempt:
        try:
            secret = self._secret(signal.user_id)
        except CredentialsRefused as error:
            return Attempt(SignalOutcome.DEAD, None, str(error))
        if secret is None:
            return Attempt(SignalOutcome.DEAD, None, "the user has no webhook secret")
        return delivery.post(self._sender, self._url, signal, secret)

    def _secret(self, user_id: UUID) -> SecretStr | None:
        now = time.monotonic()
        until, secret = self._secrets.get(user_id, (now, None))
        if now >= until:
            secret = self._store.webhook_secret(user_id)
            self._secrets[user_id] = (now + SECRET_KEPT_S, secret)
        return secret

    def _tell(self, signal: Signal, attempt: Attempt, *, is_ours: bool) -> None:
        logger.info(
            "signal",
            signal=str(signal.id),
            strategy=str(signal.strategy_id),
            symbol=signal.symbol,
            outcome=attempt.outcome,
            status=attempt.status,
            reason=attempt.reason,
            **({} if is_ours else {"lease": "lost"}),
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


def make(settings: Settings, peers: Peers, argument: str) -> Dispatcher:
    """`argument` is the run of the engine."""
    if settings.webhook_url is None:
        raise ValueError("the composition always names a webhook URL")
    store = open_store(settings, keep=True, engine=UUID(argument))
    return Dispatcher(store, peers, settings.webhook_url, is_alone=True)
