"""The one place that counts: events fall in from every process, Prometheus, probes and people read them out."""

import time
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import CollectorRegistry

from actors.messages import (
    CycleFinished,
    EngineState,
    LimiterState,
    LlmCalled,
    MarketFetched,
    OutboxState,
    SignalAttempted,
    UnattendedPositions,
)
from actors.monitor.http import MonitorServer
from actors.monitor.monitor_state import Facts
from actors.monitor.persistent_counters import Totals, this_run
from actors.runtime.actor import Actor, Peers
from actors.runtime.messages import ChildParked, Message, SupervisorReport
from engine.platform.metrics import Metrics
from engine.platform.settings.settings import Settings

MOST_FAILED_CHECKS: Final = 3
KEEP_EVERY_S: Final = 10.0


class MonitorActor(Actor):
    """Keeps one ordinary registry in this one process; nobody waits for it, so it asks nobody anything."""

    tick_every_s = 2.0

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._host, self._port = settings.sparky_monitor_host, settings.sparky_monitor_port
        self._token, self._is_fronted = settings.sparky_admin_token, settings.sparky_behind_tls
        registry = CollectorRegistry()
        self.facts = Facts(Metrics(registry))
        kept = settings.sparky_home / "state" / "totals.json"
        self._totals = Totals(registry, kept, this_run(), self.facts.restarts_reported)
        self._server: MonitorServer | None = None
        self._failed = 0
        self._keep_at = 0.0
        self._notes: dict[type[Message], Callable[[Any], None]] = {
            SupervisorReport: lambda message: self.facts.reported(message, time.monotonic()),
            ChildParked: lambda message: self.facts.parked(message, time.time()),
            CycleFinished: self.facts.cycle_finished,
            LlmCalled: self.facts.llm_called,
            SignalAttempted: self.facts.signal_attempted,
            OutboxState: lambda message: self.facts.outbox_state(message, time.monotonic()),
            UnattendedPositions: self.facts.positions_unattended,
            LimiterState: self.facts.limiter_state,
            MarketFetched: self.facts.market_fetched,
            EngineState: lambda message: self.facts.engine_state(message, time.monotonic()),
        }

    def open(self) -> None:
        """Goes on from what was counted before, then listens. Raises BadConfiguration when the port is taken."""
        self._totals.open()
        self.facts.go_on_from(self._totals.left)
        self._server = MonitorServer(
            self._host, self._port, self._totals.scrape, self.facts, self._token, self._is_fronted
        )

    def tick(self, now: float) -> float:
        """Asks its own server, so that a monitor that nobody can read is restarted: after three answers that failed."""
        self._keep(now)
        is_well = self._server is not None and self._server.answers()
        self._failed = 0 if is_well else self._failed + 1
        if self._failed >= MOST_FAILED_CHECKS:
            raise RuntimeError("the monitor's HTTP server does not answer")
        return now + self.tick_every_s

    def _keep(self, now: float) -> None:
        """What nobody has scraped yet is kept, too: now and then, as it costs as much as a scrape."""
        if now >= self._keep_at:
            self._keep_at = now + KEEP_EVERY_S
            self._totals.scrape()

    def close(self, grace_s: float) -> None:  # noqa: ARG002 - scrapes are short; there is nothing to wait for
        if self._server is not None:
            self._server.close()
            self._totals.scrape()

    def receive(self, message: Message) -> None:
        note = self._notes.get(type(message))
        if note is None:
            super().receive(message)
        else:
            note(message)


def make(settings: Settings, peers: Peers, argument: str) -> MonitorActor:  # noqa: ARG001 - every actor is made alike
    return MonitorActor(settings)
