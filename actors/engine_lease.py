"""Holds the lease of the one engine that runs on a database, and tells the supervisor how long it may rely on it.

The database has the last word: what an engine without the lease wants to record is refused there. What it cannot
refuse, the model's work, ends with the processes that the supervisor stops.
"""

import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import structlog

from actors.messages import Asked, AskedElsewhere, EngineState
from actors.runtime.actor import Actor, Peers
from actors.runtime.messages import EngineHeld
from engine.platform.errors import AnotherEngineRuns, BadConfiguration, UpstreamUnavailable
from engine.platform.identity import this_boot
from engine.platform.settings.settings import Settings
from engine.ratelimit.scheduler import MARGIN_S, MINUTE_S
from engine.store.cycles import EngineTenure
from engine.store.store import Store, open_store

logger = structlog.get_logger()

TTL_S: Final = 4.0  # a standby has taken over, and its strategies tick, within 6 s
RENEW_S: Final = 1.0
LOOK_S: Final = 0.5  # how often a standby looks whether it can have the lease
CALL_S: Final = 3.0
# After an outage of the database its holder has the first word, which behind a pooler takes some time.
AFTER_OUTAGE_S: Final = 20.0
LOOK_AT_SECRETS_S: Final = 10.0
# Longer than the lease lasts: a missed renewal that nobody takes advantage of stops no strategy.
STOP_AFTER_S: Final = 15.0

STANDBY: Final = "standby"


class Watch:
    """How long a lease of others has stood unrenewed before our eyes, the database answering all the while.

    Times are monotonic seconds.
    """

    def __init__(self) -> None:
        self._until: datetime | None = None
        self._since = 0.0
        self._least_s = TTL_S

    def unrenewed(self, now: float) -> datetime | None:
        """The lease's end, once it has stood for long enough that its holder is gone."""
        return self._until if self._until is not None and now - self._since >= self._least_s else None

    def saw(self, until: datetime, now: float) -> None:
        if until == self._until:
            return
        if self._until is not None:  # renewed before our eyes: its holder is back
            self._least_s = TTL_S
        self._until, self._since = until, now

    def lost_sight(self) -> None:
        """The database was away, for the holder too: it is given time to come back."""
        self._until, self._least_s = None, AFTER_OUTAGE_S


class EngineLease(Actor):
    """Takes the lease and keeps it. `home` names the engine's home, `location` says to people where it runs.

    A standby waits for it while another engine holds it. What has run out is taken when its holder has not renewed it
    before our eyes for as long as it lasts. Without standby, or once it was held and is lost, the process ends with
    AnotherEngineRuns: whoever starts Sparky again gives it another run, so that a run has one epoch. It is not given
    back here, where nobody knows whether a process ends for good: see `cli.run.launcher`.
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
        self._watch = Watch()
        self._secrets_looked_at = float("-inf")
        self._sealed_elsewhere: str | None = None

    def tick(self, now: float) -> float:
        try:
            if not self._is_held and not self._opens_secrets(now):
                self._decline()
            else:
                self._note(self._asked(now), asked_at=now)
        except UpstreamUnavailable as error:
            self._watch.lost_sight()
            self._wait_for_database(str(error))
        return time.monotonic() + (LOOK_S if self._is_standby and not self._is_held else RENEW_S)

    def _asked(self, now: float) -> EngineTenure:
        unrenewed = self._watch.unrenewed(now)
        return self.store.hold_engine(self._home, self._location, TTL_S, is_new=not self._is_held, unrenewed=unrenewed)

    def _opens_secrets(self, now: float) -> bool:
        """Whether our key opens any of the stored secrets: who opens none could deliver nothing, and close nothing."""
        if now - self._secrets_looked_at >= LOOK_AT_SECRETS_S:
            kept = self.store.guard_report().secrets
            ours = self.store.vault.key_ids | {"clear"}
            elsewhere = sorted(key for key, count in kept.items() if count and key not in ours)
            opened = any(count for key, count in kept.items() if key in ours)
            self._sealed_elsewhere = ", ".join(elsewhere) if elsewhere and not opened else None
            self._secrets_looked_at = now
        return self._sealed_elsewhere is None

    def _decline(self) -> None:
        reason = (
            f"the stored secrets are sealed with {self._sealed_elsewhere}, which SPARKY_ENCRYPTION_KEY does not hold"
        )
        if not self._is_standby:
            raise BadConfiguration(f"This engine could deliver nothing: {reason}.")
        self._may_run_until(0.0)
        self._tell(EngineState(state="standing by", reason=reason))

    def _note(self, tenure: EngineTenure, asked_at: float) -> None:
        if tenure.run == self.store.engine:
            if tenure.is_taken_over:
                self._tell_limiter()
            self._is_held = True
            self._may_run_until(asked_at + STOP_AFTER_S)
            self._tell(EngineState(state="running", is_held=True, epoch=tenure.epoch, location=self._location))
            return
        was_held, self._is_held = self._is_held, False
        self._watch.saw(tenure.until, time.monotonic())
        self._may_run_until(0.0)
        reason = f"another engine runs on this database: {tenure.location}"
        if was_held or (not self._is_standby and tenure.left_s > 0):
            lost = "this engine's lease was taken: " if was_held else ""
            since = f"{tenure.since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
            how = "stop it first, or start this one with --standby, to take over when that one ends"
            raise AnotherEngineRuns(f"{lost}{reason}, since {since}; {how}.")
        self._tell(EngineState(state="standing by", epoch=tenure.epoch, location=tenure.location, reason=reason))

    def _tell_limiter(self) -> None:
        """What the other home's engine asked counts in the provider's minute. A day's limit is left to its refusals."""
        try:
            now, use = time.monotonic(), self.store.model_use(MINUTE_S + MARGIN_S)
        except UpstreamUnavailable as error:
            logger.warning("use_of_models_unknown", reason=str(error))
            return
        asked = (Asked(model=u.model, at=now - u.age_s, requests=u.requests, tokens=u.tokens) for u in use)
        self._peers.tell("limiter", AskedElsewhere(asked=tuple(asked)))

    def _wait_for_database(self, reason: str) -> None:
        """Without the database nothing is decided or delivered, by this engine or another: strategies may stay."""
        if self._is_held:
            self._may_run_until(time.monotonic() + STOP_AFTER_S)
        epoch = self._state.epoch if self._state is not None else None
        self._tell(EngineState(state="waiting", is_held=self._is_held, epoch=epoch, reason=reason))

    def _may_run_until(self, stop_by: float) -> None:
        self._peers.tell("supervisor", EngineHeld(stop_by=stop_by))

    def _tell(self, state: EngineState) -> None:
        """The monitor hears it each time, since it may be a new one; people when it is another one."""
        self._peers.tell("monitor", state)
        if self._state is None or (state.state, state.epoch) != (self._state.state, self._state.epoch):
            words = {"running": "engine_lease_held", "standing by": "standing_by", "waiting": "waiting_for_database"}
            log = logger.warning if state.state == "waiting" else logger.info
            log(words[state.state], epoch=state.epoch, engine=state.location, reason=state.reason)
        self._state = state


def home_identity(home: Path) -> str:
    """Names a home within this boot, under whatever path it is seen: a copy of it is another one. Raises OSError."""
    found = home.stat()
    return f"{this_boot()}/{found.st_dev}/{found.st_ino}"


def make(settings: Settings, peers: Peers, argument: str) -> EngineLease:
    run, _, standby = argument.partition("/")
    store = open_store(settings, keep=True, engine=UUID(run), timeout_s=CALL_S)
    location = f"{settings.sparky_home} on {socket.gethostname()}"
    return EngineLease(store, peers, home_identity(settings.sparky_home), location, is_standby=standby == STANDBY)
