"""The monitor: receives the events of all processes, counts them, and serves the counts over HTTP."""

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
from actors.monitor.monitor_state import MonitorState
from actors.monitor.persistent_counters import PersistentCounters, supervisor_identity
from actors.runtime.actor import Actor, Peers
from actors.runtime.messages import ChildParked, Message, SupervisorReport
from engine.platform.metrics import Metrics
from engine.platform.settings.component_settings import MonitorSettings

MAX_FAILED_CHECKS: Final = 3
SAVE_EVERY_S: Final = 10.0


class MonitorActor(Actor):
    """Keeps the one Prometheus registry. It asks no other process, so that it answers whatever else hangs."""

    tick_every_s = 2.0

    def __init__(self, settings: MonitorSettings) -> None:
        super().__init__()
        self._host, self._port = settings.sparky_monitor_host, settings.sparky_monitor_port
        self._token, self._is_fronted = settings.sparky_admin_token, settings.sparky_behind_tls
        registry = CollectorRegistry()
        self.state = MonitorState(Metrics(registry))
        kept = settings.sparky_home / "state" / "totals.json"
        self._counters = PersistentCounters(registry, kept, supervisor_identity(), self.state.hold_restart_samples)
        self._server: MonitorServer | None = None
        self._failed_checks = 0
        self._save_at = 0.0
        self._handlers: dict[type[Message], Callable[[Any], None]] = {
            SupervisorReport: lambda message: self.state.on_supervisor_report(message, time.monotonic()),
            ChildParked: lambda message: self.state.on_child_parked(message, time.time()),
            CycleFinished: self.state.on_cycle_finished,
            LlmCalled: self.state.on_llm_called,
            SignalAttempted: self.state.on_signal_attempted,
            OutboxState: lambda message: self.state.on_outbox_state(message, time.monotonic()),
            UnattendedPositions: self.state.on_unattended_positions,
            LimiterState: self.state.on_limiter_state,
            MarketFetched: self.state.on_market_fetched,
            EngineState: lambda message: self.state.on_engine_state(message, time.monotonic()),
        }

    def open(self) -> None:
        """Loads what the monitor before it counted, then listens. Raises ConfigurationError when the port is taken."""
        self._counters.load()
        self.state.restore(self._counters.get_saved_samples)
        self._server = MonitorServer(
            self._host, self._port, self._counters.collect_and_save, self.state, self._token, self._is_fronted
        )

    def tick(self, now: float) -> float:
        """Checks its own HTTP server. Raises RuntimeError after three failed checks: the process is restarted."""
        self._save_if_due(now)
        is_well = self._server is not None and self._server.is_responding()
        self._failed_checks = 0 if is_well else self._failed_checks + 1
        if self._failed_checks >= MAX_FAILED_CHECKS:
            raise RuntimeError("the monitor's HTTP server does not answer")
        return now + self.tick_every_s

    def _save_if_due(self, now: float) -> None:
        """Saves what was counted since the last scrape, every 10 s: each time costs as much as a scrape."""
        if now >= self._save_at:
            self._save_at = now + SAVE_EVERY_S
            self._counters.collect_and_save()

    def close(self, grace_s: float) -> None:  # noqa: ARG002 - scrapes are short; there is nothing to wait for
        if self._server is not None:
            self._server.close()
            self._counters.collect_and_save()

    def receive(self, message: Message) -> None:
        handler = self._handlers.get(type(message))
        if handler is None:
            super().receive(message)
        else:
            handler(message)


def make(settings: MonitorSettings, peers: Peers, argument: str) -> MonitorActor:  # noqa: ARG001 - every actor is made alike
    return MonitorActor(settings)
