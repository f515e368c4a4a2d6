"""A monitor as its process runs it, and examples of what it is told."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import requests
from prometheus_client.parser import text_string_to_metric_families

from actors.messages import CycleFinished
from actors.monitor import actor as monitor
from actors.runtime import messages as runtime_messages
from actors.runtime.actor import M
from actors.runtime.messages import ChildReport, SupervisorReport, Tick
from engine.platform.settings.settings import Settings
from tests.support.servers.ports import free_port

STRATEGY = UUID("0b7d6f4e-0b7d-4f4e-8b7d-0b7d6f4e0b7d")
CHILD = f"strategy-{STRATEGY}"


class NoPeers:
    """The monitor talks to nobody."""

    def ask(self, name: str, message: runtime_messages.Ask, reply: type[M]) -> M:
        raise AssertionError(name, message, reply)

    def tell(self, name: str, message: runtime_messages.Message) -> None:
        raise AssertionError(name, message)


class Running:
    """A monitor as its process runs it, and what one sees of it from outside."""

    def __init__(self, home: Path) -> None:
        self.port = free_port()
        self.settings = Settings(sparky_home=home, sparky_monitor_port=self.port)
        self.actor = monitor.make(self.settings, NoPeers(), "")
        self.ref = self.actor.start_instance()
        self.ref.ask(Tick(), timeout=60)

    def tell(self, *told: runtime_messages.Message) -> None:
        for message in told:
            self.ref.tell(message)
        self.ref.ask(Tick(), timeout=60)  # the mailbox is in order: all told before is done

    def get(self, path: str) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=60)

    def samples(self) -> dict[str, float]:
        """Every sample, keyed as Prometheus would write it."""
        families = text_string_to_metric_families(self.get("/metrics").text)
        return {
            sample.name + json.dumps(sample.labels, sort_keys=True): sample.value
            for family in families
            for sample in family.samples
        }

    def status(self) -> Any:
        return self.get("/status").json()


def child(name: str, state: str = "running", kind: str = "actor", **more: Any) -> ChildReport:
    facts = {"title": name, "pid": 1, "restarts": 0, "memory_bytes": 8_000_000, "uptime_s": 5.0} | more
    return ChildReport.model_validate({"name": name, "kind": kind, "state": state} | facts)


def report(*children: ChildReport) -> SupervisorReport:
    return SupervisorReport(pid=4242, children=children)


def cycle(**more: Any) -> CycleFinished:
    facts: dict[str, Any] = {
        "strategy_id": STRATEGY,
        "name": "careful",
        "outcome": "ok",
        "duration_s": 1.5,
        "engine_s": 0.004,
        "lateness_s": 0.001,
        "at": 1_700_000_000.0,
        "next_tick_at": 1_700_000_010.0,
        "failures": 0,
        "breaker": "closed",
        "action": "LONG",
        "symbol": "BTCUSDT",
        "confidence": 0.8,
        "waited_permit_s": 0.2,
    }
    return CycleFinished.model_validate(facts | more)
