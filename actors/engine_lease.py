"""Holds the lease of the one engine that runs on a database, and tells the supervisor how long it may rely on it.

The database enforces it: it refuses what an engine without the lease wants to record. Requests to the model it cannot
refuse; they end with the processes that the supervisor stops.
"""

import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import structlog

from actors.messages import EngineState, PriorLlmRequests, PriorLlmUsage
from actors.runtime.actor import Actor, Peers
from actors.runtime.messages import LeaseDeadline
from engine.platform.errors import AnotherEngineRuns, ConfigurationError, UpstreamUnavailable
from engine.platform.processes import boot_id
from engine.platform.settings.component_settings import EngineLeaseSettings
from engine.ratelimit.scheduler import MARGIN_S, MINUTE_S
from engine.store.cycles import EngineLeaseHolder
from engine.store.store import Store, open_store

logger = structlog.get_logger()

TTL_S: Final = 4.0  # a standby has taken over, and its strategies tick, within 6 s
RENEW_S: Final = 1.0
STANDBY_POLL_S: Final = 0.5  # how often a standby looks whether it can have the lease
STORE_TIMEOUT_S: Final = 3.0
# After an outage of the database the holder is given time to renew first; behind a pooler that takes some seconds.
OUTAGE_GRACE_S: Final = 20.0
SECRETS_CHECK_EVERY_S: Final = 10.0
# Longer than the lease lasts: a late renewal stops no strategy unless another engine took the lease meanwhile.
STOP_AFTER_S: Final = 15.0

STANDBY: Final = "standby"


class LeaseObserver:
    """Measures how long another engine's lease has gone unrenewed while the database answered.

    The clocks of two hosts may differ, so the lease's own times are compared only with each other. Times passed in are
    monotonic seconds.
    """

    def __init__(self) -> None:
        self._until: datetime | None = None
        self._since = 0.0
        self._min_unrenewed_s = TTL_S

    def find_expired_lease(self, now: float) -> datetime | None:
        """The end of the lease as its holder wrote it, once it has gone unrenewed for too long."""
        return self._until if self._until is not None and now - self._since >= self._min_unrenewed_s else None

    def observe(self, until: datetime, now: float) -> None:
        if until == self._until:
            return
        if self._until is not None:  # it was renewed: the holder is alive
            self._min_unrenewed_s = TTL_S
        self._until, self._since = until, now

    def reset_after_outage(self) -> None:
        """The database was away, for the holder as well: it is given time to renew."""
        self._until, self._min_unrenewed_s = None, OUTAGE_GRACE_S


class EngineLease(Actor):
    """Takes the lease and keeps it. `home` identifies the engine's state directory, `location` is where it runs, for
    people.

    While another engine holds the lease a standby waits, and takes it when it has gone unrenewed for `TTL_S`. Without
    standby, and when a lease that was held is lost, the process ends with AnotherEngineRuns: the next start is another
    run, so that one run has one epoch. The lease is not released here, since this process may only be restarted: see
    `cli.run.launcher`.
    """

    def __init__(self, store: Store, peers: Peers, home: str, location: str, *, is_standby: bool) -> None:
        super().__init__()
        self.store = store
        self._peers = peers
        self._home = home
        self._location = location
        self._is_standby = is_standby
        self._state: EngineState | None = None
        self._is_held = False
        self._observer = LeaseObserver()
        self._secrets_checked_at = float("-inf")
        self._foreign_key_ids: str | None = None

    def tick(self, now: float) -> float:
        try:
            if not self._is_held and not self._can_open_secrets(now):
                self._handle_missing_key()
            else:
                self._apply_lease(self._request_lease(now), requested_at=now)
        except UpstreamUnavailable as error:
            self._observer.reset_after_outage()
            self._handle_database_outage(str(error))
        return time.monotonic() + (STANDBY_POLL_S if self._is_standby and not self._is_held else RENEW_S)

    def _request_lease(self, now: float) -> EngineLeaseHolder:
        unrenewed = self._observer.find_expired_lease(now)
        return self.store.hold_engine_lease(
            self._home, self._location, TTL_S, is_new=not self._is_held, expired_at=unrenewed
        )

    def _can_open_secrets(self, now: float) -> bool:
        """Whether our key opens any of the stored secrets: else it could neither deliver nor close."""
        if now - self._secrets_checked_at >= SECRETS_CHECK_EVERY_S:
            stored = self.store.get_security_report().secrets
            ours = self.store.vault.key_ids | {"clear"}
            elsewhere = sorted(key for key, count in stored.items() if count and key not in ours)
            opened = any(count for key, count in stored.items() if key in ours)
            self._foreign_key_ids = ", ".join(elsewhere) if elsewhere and not opened else None
            self._secrets_checked_at = now
        return self._foreign_key_ids is None

    def _handle_missing_key(self) -> None:
        reason = (
            f"the stored secrets are sealed with {self._foreign_key_ids}, which SPARKY_ENCRYPTION_KEY does not hold"
        )
        if not self._is_standby:
            raise ConfigurationError(f"This engine could deliver nothing: {reason}.")
        self._send_lease_deadline(0.0)
        self._publish_state(EngineState(state="standing by", reason=reason))

    def _apply_lease(self, holder: EngineLeaseHolder, requested_at: float) -> None:
        if holder.run == self.store.engine:
            if holder.is_taken_over:
                self._report_prior_usage()
            self._is_held = True
            self._send_lease_deadline(requested_at + STOP_AFTER_S)
            self._publish_state(EngineState(state="running", is_held=True, epoch=holder.epoch, location=self._location))
            return
        was_held, self._is_held = self._is_held, False
        self._observer.observe(holder.until, time.monotonic())
        self._send_lease_deadline(0.0)
        reason = f"another engine runs on this database: {holder.location}"
        if was_held:
            logger.warning("engine_lease_lost", epoch=holder.epoch, engine=holder.location)
        if was_held or (not self._is_standby and holder.left_s > 0):
            lost = "this engine's lease was taken: " if was_held else ""
            since = f"{holder.since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
            how = "stop it first, or start this one with --standby, to take over when that one ends"
            raise AnotherEngineRuns(f"{lost}{reason}, since {since}; {how}.")
        self._publish_state(
            EngineState(state="standing by", epoch=holder.epoch, location=holder.location, reason=reason)
        )

    def _report_prior_usage(self) -> None:
        """Tells the limiter what the engine before asked of models: it counts in the provider's minute.

        For daily limits the whole day would have to be read; there the provider's refusals are enough.
        """
        try:
            now, use = time.monotonic(), self.store.list_model_usage(MINUTE_S + MARGIN_S)
        except UpstreamUnavailable as error:
            logger.warning("llm_usage_unknown", reason=str(error))
            return
        prior = (PriorLlmRequests(model=u.model, at=now - u.age_s, requests=u.requests, tokens=u.tokens) for u in use)
        self._peers.tell("limiter", PriorLlmUsage(asked=tuple(prior)))

    def _handle_database_outage(self, reason: str) -> None:
        """Without the database no engine can decide or deliver anything: the processes may go on."""
        if self._is_held:
            self._send_lease_deadline(time.monotonic() + STOP_AFTER_S)
        epoch = self._state.epoch if self._state is not None else None
        self._publish_state(EngineState(state="waiting", is_held=self._is_held, epoch=epoch, reason=reason))

    def _send_lease_deadline(self, stop_by: float) -> None:
        self._peers.tell("supervisor", LeaseDeadline(stop_by=stop_by))

    def _publish_state(self, state: EngineState) -> None:
        """Sends the state to the monitor each time, since that may have been restarted; logs it when it has changed."""
        self._peers.tell("monitor", state)
        if self._state is None or (state.state, state.epoch) != (self._state.state, self._state.epoch):
            log = logger.warning if state.state == "waiting" else logger.info
            log(self._name_event(state), epoch=state.epoch, engine=state.location, reason=state.reason)
        self._state = state

    def _name_event(self, state: EngineState) -> str:
        """The log event of a change from the present state to `state`."""
        if state.state == "running":  # an engine that held the lease through an outage of the database has it still
            return "store_recovered" if self._state is not None and self._state.is_held else "engine_lease_acquired"
        return "waiting_for_database" if state.state == "waiting" else "engine_standing_by"


def home_identity(home: Path) -> str:
    """Identifies a state directory within this boot, by whichever path it is reached. Raises OSError."""
    found = home.stat()
    return f"{boot_id()}/{found.st_dev}/{found.st_ino}"


def make(settings: EngineLeaseSettings, peers: Peers, argument: str) -> EngineLease:
    run, _, standby = argument.partition("/")
    store = open_store(settings, keep=True, engine=UUID(run), timeout_s=STORE_TIMEOUT_S)
    location = f"{settings.sparky_home} on {socket.gethostname()}"
    return EngineLease(store, peers, home_identity(settings.sparky_home), location, is_standby=standby == STANDBY)
