"""A thousand strategies on one host: started, ticking and stopped through the real product, with what it took.

    .venv/bin/python -m benchmarks.scale [--strategies 1000] [--cadence 45] [--watch 90] [--small]

Embedded database and simulators run on the same cores, so every figure holds them too unless it says otherwise.
"""

import argparse
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil

from tests.support.processes.fleet import Fleet, cpu_s, private_bytes

MIB = 1024 * 1024
T = TypeVar("T")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--strategies", type=int, default=1_000)
    parser.add_argument("--cadence", type=float, default=45.0)
    parser.add_argument("--watch", type=float, default=90.0, help="seconds of steady ticking to measure")
    parser.add_argument("--small", action="store_true", help="two strategies for five seconds, to see that it runs")
    given = parser.parse_args(arguments)
    if given.small:
        given.strategies, given.cadence, given.watch = 2, 1.0, 5.0
    root = Path(tempfile.mkdtemp(prefix="sparky-scl-", dir="/tmp"))
    fleet = Fleet(root / "home", given.strategies, given.cadence)
    try:
        for name, value in measure(fleet, given.watch):
            print(f"{name:<58} {value:>14}", flush=True)
    except BaseException:
        print(fleet.log())
        raise
    finally:
        fleet.close()
        shutil.rmtree(root, ignore_errors=True)


def measure(fleet: Fleet, watch_s: float) -> list[tuple[str, str]]:
    fleet.boot()
    fleet.create(is_running=False)
    began = time.monotonic()
    fleet.resume()
    fleet.wait_for(lambda: count_ready(fleet) >= fleet.count, "every strategy ready", 600)
    ready_s = time.monotonic() - began
    fleet.wait_for(lambda: throttle(fleet.cycles)().keys() >= fleet.ids, "a cycle of every strategy", 600)
    cycled_s = time.monotonic() - began
    before = measure_cpu(fleet)
    lateness = fleet.watch(watch_s)
    used = {name: after - before[name] for name, after in measure_cpu(fleet).items()}
    sizes = sorted(private_bytes(child["pid"]) / MIB for child in fleet.strategies().values())
    restarts = sum(child["restarts"] for child in fleet.children().values())
    stop_s, code = stop_fleet(fleet)
    return [
        ("strategies", str(fleet.count)),
        ("rows resumed to all ready (first tick complete)", f"{ready_s:.1f} s"),
        ("rows resumed to a whole cycle of each", f"{cycled_s:.1f} s"),
        ("ticks watched", str(lateness.ticks)),
        ("tick lateness p50 (histogram bound)", f"<= {lateness.percentile(0.5) * 1000:g} ms"),
        ("tick lateness p99 (histogram bound)", f"<= {lateness.percentile(0.99) * 1000:g} ms"),
        ("ticks within 50 ms / 250 ms", f"{lateness.within(0.05):.2%} / {lateness.within(0.25):.2%}"),
        ("private memory per strategy, median / largest", f"{statistics.median(sizes):.1f} / {sizes[-1]:.1f} MiB"),
        ("private memory of all strategies", f"{sum(sizes):.0f} MiB"),
        *((f"cores used: {name}", f"{seconds / watch_s:.3f}") for name, seconds in used.items()),
        (
            "CPU per 1,000 cycles, everything on this host",
            f"{sum(used.values()) / max(1, lateness.ticks) * 1000:.1f} s",
        ),
        ("restarts", str(restarts)),
        ("stopped in, exit code", f"{stop_s:.1f} s, {code}"),
    ]


def count_ready(fleet: Fleet) -> int:
    """By the log: asking the monitor about a thousand strategies ten times a second would be a load of its own."""
    text = fleet.log_path.read_text()
    return sum('"event": "ready"' in line and '"fleet-' in line for line in text.splitlines())


def throttle(look: Callable[[], T]) -> Callable[[], T]:
    time.sleep(2)
    return look


def measure_cpu(fleet: Fleet) -> dict[str, float]:
    """CPU seconds by who used them."""
    pids = {child["pid"] for child in fleet.strategies().values()}
    family = fleet.family()
    supervisor, rest = family[:1], family[1:]
    shared = {child["pid"]: name for name, child in fleet.children().items() if child["pid"] not in pids}
    found = {"supervisor": cpu_s(supervisor), "strategies": cpu_s([p for p in rest if p.pid in pids])}
    for process in rest:
        if process.pid in shared:
            found[shared[process.pid]] = cpu_s([process])
    # Backends come and go with every connection; their postmaster counts those that it has waited for.
    servers = {process.pid: process for process in rest if get_process_name(process) == "postgres"}
    waited = sum(cpu_with_children_s(process) for process in servers.values() if process.ppid() not in servers)
    return found | {"database": found.get("database", 0.0) + waited}


def get_process_name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def cpu_with_children_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def stop_fleet(fleet: Fleet) -> tuple[float, int]:
    assert fleet.process is not None
    began = time.monotonic()
    fleet.process.send_signal(signal.SIGTERM)
    code = fleet.process.wait(300)
    return time.monotonic() - began, code


if __name__ == "__main__":
    main()
