"""Many strategies on the real `sparky up`, and what is seen of them from outside: for fault tests and benchmarks."""

import json
import re
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import psycopg
from prometheus_client.parser import text_string_to_metric_families

from engine.admin.demo_data import DEMO_USER
from engine.admin.strategy_checks import NewStrategy
from engine.domain.strategy import RiskProfile, StrategyStatus
from engine.store.embedded.embedded_postgres import build_dsn
from tests.support.processes.sparky import PATIENCE_S, Sparky, command_lines

FORK_SERVER = "fork server"
FIXED = (
    "database",
    "sim-groq",
    "sim-aster",
    "monitor",
    "webhook",
    "limiter",
    "market",
    "dispatcher",
    "strategy-watcher",
)


class Lateness(NamedTuple):
    """Ticks by how late they were at most, in seconds, as the histogram counts them."""

    counts: Counter[float]

    @property
    def ticks(self) -> int:
        return self.counts[float("inf")]

    def within(self, seconds: float) -> float:
        """The share of ticks that were not later than `seconds`, which must be a bound of the histogram."""
        return self.counts[seconds] / max(1, self.ticks)

    def percentile(self, share: float) -> float:
        """The lowest bound of the histogram that holds this share of the ticks."""
        return min((bound for bound, count in self.counts.items() if count >= share * self.ticks), default=0.0)

    def since(self, before: "Lateness") -> "Lateness":
        return Lateness(Counter({bound: count - before.counts[bound] for bound, count in self.counts.items()}))


class Fleet(Sparky):
    """`count` equal strategies with a cadence of `cadence_s`; further settings as in `Sparky`."""

    def __init__(self, home: Path, count: int, cadence_s: float, **more: str) -> None:
        super().__init__(
            home, **{"SPARKY_LLM_RPM": "60000", "SPARKY_LLM_RPD": "90000000", "SPARKY_LLM_CONCURRENCY": "64", **more}
        )
        self.count = count
        self.cadence_s = cadence_s
        self.ids: set[str] = set()

    def launch(self, without: tuple[str, ...] = (), *, is_well: bool = True) -> None:
        """Starts everything and returns when every strategy has completed a cycle and the supervisor told of each."""
        self.boot(without, is_well=is_well)
        self.create()
        self.wait_for(lambda: self.cycles().keys() >= self.ids, "a cycle of every strategy", patience_s=300)
        self.wait_for(self.is_all_that_runs, "a report on every strategy and no other")

    def is_all_that_runs(self) -> bool:
        """Whether the supervisor's last report, maybe a second old, tells of exactly these strategies at work."""
        return {name for name, child in self.strategies().items() if child["pid"]} == {
            f"strategy-{key}" for key in self.ids
        }

    def boot(self, without: tuple[str, ...] = (), *, is_well: bool = True) -> None:
        """Starts all that is shared. Where the provider refuses from the first request on (`is_well` false), the
        system may never have called itself healthy, since the demo's strategies decide as soon as they run."""
        self.start()
        fixed = [name for name in FIXED if name not in without]
        self.wait_for(
            lambda: (self.status()["healthy"] or not is_well) and all(self.pid(name) for name in fixed),
            "all that is shared",
        )

    def create(self, *, is_running: bool = True) -> None:
        """The fleet takes the demo's place, and its user with a webhook secret."""
        with self.store() as store:
            for demo in store.list_strategies():
                store.delete_strategy(demo.id)
            user_id = store.ensure_user(DEMO_USER)
            for number in range(self.count):
                row = NewStrategy(
                    user_id=user_id,
                    name=f"fleet-{number:04}",
                    status=StrategyStatus.RUNNING if is_running else StrategyStatus.PAUSED,
                    risk_profile=list(RiskProfile)[number % 3],
                    target_assets=("BTCUSDT", "ETHUSDT", "SOLUSDT")[number % 3 : number % 3 + 1],
                    cadence_seconds=self.cadence_s,
                )
                self.ids.add(str(store.create_strategy(row).id))

    def resume(self) -> None:
        """Lets all of them run at once."""
        with psycopg.connect(build_dsn(self.home), autocommit=True) as connection:
            connection.execute("update ai_strategies set status = 'running' where status = 'paused'")

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._get("/status"))
        return found

    def children(self) -> dict[str, dict[str, Any]]:
        return {child["name"]: child for child in self.status()["children"]}

    def strategies(self) -> dict[str, dict[str, Any]]:
        return {name: child for name, child in self.children().items() if child["kind"] == "strategy"}

    def pid(self, name: str) -> int | None:
        """Of a living, ready child, or of the fork server."""
        if name == FORK_SERVER:
            return next(process.pid for process, line in command_lines(self.family()) if FORK_SERVER in line)
        child = self.children().get(name)
        return child["pid"] if child is not None and child["state"] == "running" else None

    def living(self, name: str) -> int:
        """As `pid`, once it is there."""
        pid = self.wait_for(lambda: self.pid(name), name)
        assert pid is not None
        return pid

    def cycles(self) -> dict[str, float]:
        """When (Unix seconds) each strategy last completed a cycle, as the monitor saw it."""
        return {key: facts["at"] for key, facts in self.status()["strategies"].items()}

    def wait_for_cycles(self, patience_s: float) -> float:
        """Waits until every strategy has completed one more cycle from now on; how long that took."""
        began, now = time.monotonic(), time.time()

        def is_after(at: datetime | str, unix_s: float) -> bool:
            return isinstance(at, datetime) and at.timestamp() > unix_s

        def all_again() -> bool:
            with self.store() as store:
                last = {str(row.id): row.last_decision for row in store.list_strategy_overviews()}
            return all((decision := last[key]) is not None and is_after(decision.at, now) for key in self.ids)

        self.wait_for(all_again, "another decision of every strategy", patience_s)
        return time.monotonic() - began

    def samples(self, name: str) -> dict[tuple[str, ...], float]:
        """Every sample of one name by the values of its labels."""
        return {
            tuple(sample.labels.values()): sample.value
            for family in text_string_to_metric_families(self._get("/metrics"))
            for sample in family.samples
            if sample.name == name
        }

    def lateness(self) -> Lateness:
        found = self.samples("sparky_tick_lateness_seconds_bucket")
        return Lateness(Counter({float(bound): int(count) for (bound,), count in found.items()}))

    def watch(self, seconds: float, look: Callable[[], None] = lambda: None) -> Lateness:
        """The ticks of the next `seconds`, looking now and then."""
        before, until = self.lateness(), time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.2)
            look()
        return self.lateness().since(before)

    def lateness_of(self, ids: set[str], seconds: float, look: Callable[[], None] = lambda: None) -> list[float]:
        """By how many seconds each tick of these strategies was late in the next `seconds`, looking now and then."""
        until, seen, late = time.monotonic() + seconds, self.cycles(), list[float]()
        while time.monotonic() < until:
            time.sleep(0.2)
            look()
            for key, facts in self.status()["strategies"].items():
                if key in ids and facts["at"] != seen.get(key):
                    late.append(facts["lateness_s"])
                    seen[key] = facts["at"]
        return late

    def order(self, simulator: str, *faults: dict[str, Any]) -> None:
        """Tells a simulator, groq or aster, how to misbehave from now on (see simulator/faults.py)."""
        self.control(simulator, "faults", faults)

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor_port}{path}", timeout=PATIENCE_S) as answer:
            text: str = answer.read().decode()
        return text


@contextmanager
def launched(fleet: Fleet, without: tuple[str, ...] = ()) -> Iterator[Fleet]:
    """While entered it is at work; see `Fleet.launch`."""
    try:
        fleet.launch(without)
        yield fleet
    finally:
        fleet.close()


def private_bytes(pid: int) -> int:
    """Memory that a process shares with nobody."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(size) * 1024 for size in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.MULTILINE))


def cpu_s(processes: list[psutil.Process]) -> float:
    """What they have used so far, children that they have waited for included."""
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total
