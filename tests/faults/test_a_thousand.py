"""A thousand strategies on one host, each a process of its own: started, ticking, and stopped, and nobody was lost.

FAULT_STRATEGIES changes how many; a machine that cannot hold a thousand processes gets as many as it can.
"""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.faults.conftest import FleetMaker
from tests.support.processes.fleet import Fleet, private_bytes
from tests.support.processes.supervised import wait_until_gone

MIB = 1024 * 1024
LEAST_BYTES = 16 * MIB  # of memory for each strategy, and room to spare
LEAST_TASKS = 10  # threads of each
LIMITS = {
    "memory": ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    "tasks": ("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"),
}
KERNEL_LIMITS = ("threads-max", "pid_max")
PATIENCE_S = 1_200.0


def allowed(kind: str, otherwise: int) -> int:
    """What this container may use of a resource, `otherwise` where nothing limits it."""
    texts = (Path(name).read_text().strip() for name in LIMITS[kind] if Path(name).exists())
    return min([int(text) for text in texts if text.isdigit()] + [otherwise])


def how_many() -> int:
    wanted = int(os.environ.get("FAULT_STRATEGIES", "1000"))
    memory_bytes = allowed("memory", psutil.virtual_memory().available)
    tasks = allowed("tasks", min(int(Path(f"/proc/sys/kernel/{name}").read_text()) for name in KERNEL_LIMITS)) // 2
    return min(wanted, memory_bytes // LEAST_BYTES, tasks // LEAST_TASKS)


def ready(fleet: Fleet) -> int:
    """By the log: asking the monitor about so many ten times a second would be a load of its own."""
    time.sleep(1)
    lines = fleet.log_path.read_text().splitlines()
    return sum('"event": "ready"' in line and '"fleet-' in line for line in lines)


def decided(fleet: Fleet) -> set[str]:
    time.sleep(2)
    return set(fleet.cycles())


def test_a_thousand_strategies_start_tick_and_stop_and_nobody_is_lost(
    fleet_of: FleetMaker, measured: Callable[[str], None]
) -> None:
    fleet = fleet_of(how_many(), 60.0, SPARKY_SIM_SPEED="1")
    fleet.boot()
    fleet.create(is_running=False)
    began = time.monotonic()
    fleet.resume()
    fleet.wait_for(lambda: ready(fleet) >= fleet.count, "every strategy ready", PATIENCE_S)
    ready_s = time.monotonic() - began
    fleet.wait_for(lambda: decided(fleet) >= fleet.ids, "a cycle of every strategy", PATIENCE_S)
    cycled_s = time.monotonic() - began
    fleet.wait_for(lambda: len(fleet.strategies()) == fleet.count, "a report on every strategy")

    processes = fleet.strategies()
    pids = {child["pid"] for child in processes.values()}
    sizes = [private_bytes(pid) / MIB for pid in pids]
    assert len(pids) == fleet.count
    assert {name: child["restart_reasons"] for name, child in processes.items() if child["restarts"]} == {}
    assert fleet.process is not None
    family = [process.pid for process in fleet.family()]
    began = time.monotonic()
    fleet.process.terminate()
    assert fleet.process.wait(PATIENCE_S) == 0
    stopped_s = time.monotonic() - began
    wait_until_gone(family)
    measured(
        f"{fleet.count} strategies: all ready after {ready_s:.0f} s, each with a whole cycle after {cycled_s:.0f} s, "
        f"stopped in {stopped_s:.1f} s; memory of its own {statistics.median(sizes):.1f} MiB each, "
        f"{sum(sizes) / 1024:.1f} GiB together"
    )
