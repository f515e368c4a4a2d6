"""What a strategy's process keeps to itself, and whether it grows: one warm process is forked and plays many cycles.

    .venv/bin/python -m benchmarks.memory [--cycles 10000] [--small]

Real are the fork, the SDK and its HTTP over a socket, the database driver and its socket, prompt and validators; the
market, the limiter and the database's answers are canned. What a fleet of real processes costs is told by scale.py.
"""

import argparse
import gc
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from actors.runtime.forkserver import die_with_parent, warm_up
from actors.runtime.restart_policy import describe_exit
from actors.shared_services import SharedServicesClient
from actors.warmup.cycles import ENTRY, FAKE_ROWS, NIL_ID, FakePeers
from actors.warmup.fake_postgres import serve_fake_postgres
from engine.deciding.commit_gate import CommitGate
from engine.deciding.cycle import run_cycle
from engine.deciding.cycle_interface import CycleDependencies
from engine.llm.groq_client import GroqClient
from engine.platform.http.service import HttpService
from engine.platform.settings.settings import Settings
from engine.store.store import open_store
from simulator.groq import groq_app
from simulator.groq.quota import Limits

CHECKPOINTS: Final = (1, 100, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cycles", type=int, default=10_000)
    parser.add_argument("--small", action="store_true", help="one cycle, to see that it runs")
    given = parser.parse_args(arguments)
    cycles = 1 if given.small else given.cycles
    warm_up(ENTRY)
    idle = os.fork()
    if idle == 0:
        die_with_parent(signal.SIGKILL)
        signal.pause()  # as a sibling it keeps the pages shared that this process goes on to change
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        die_with_parent(signal.SIGKILL)
        os.close(tell)
        with os.fdopen(told) as pipe:
            addresses = json.loads(pipe.read())
        run_cycles(Settings(groq_api_key=SecretStr("none"), **addresses), cycles)
        os._exit(0)
    os.close(told)
    with serve_doubles() as addresses:
        with os.fdopen(tell, "w") as pipe:
            json.dump(addresses, pipe)
        status = os.waitpid(child, 0)[1]
    os.kill(idle, signal.SIGKILL)
    os.waitpid(idle, 0)
    sys.exit(None if status == 0 else f"the measured process ended with {describe_exit(status)}")


@contextmanager
def serve_doubles() -> Iterator[dict[str, str]]:
    """Addresses of the stand-ins, by setting. They come after the fork, as their threads must."""
    plenty = Limits(rpm=10**9, rpd=10**9, tpm=10**12)
    service = HttpService(groq_app.create_groq(groq_app.Groq(plenty)), "127.0.0.1", 0, "none", groq_app.HEALTH)
    service.start()
    with serve_fake_postgres(FAKE_ROWS) as database:
        yield {"groq_base_url": service.url, "database_url": database}
    service.stop(1)


def run_cycles(settings: Settings, cycles: int) -> None:
    """Prints private memory and CPU at every mark."""
    gc.enable()
    model = GroqClient(settings)
    ports = CycleDependencies(
        store=open_store(settings, keep=False),
        services=SharedServicesClient(FakePeers(), NIL_ID),
        model=model,
        gate=CommitGate(),
        deadline_s=40.0,
        llm_timeout_s=25.0,
        signal_ttl_s=60.0,
    )
    print(f"{'cycles':>8} {'private kB':>11} {'heaps':>8} {'libraries':>10} {'stacks':>7} {'CPU ms a cycle':>15}")
    used, last = time.process_time(), 0
    for number in range(1, cycles + 1):
        outcome = run_cycle(NIL_ID, ports)
        assert outcome.outcome == "ok", outcome.reason
        if number in CHECKPOINTS:
            cpu_ms = (time.process_time() - used) * 1000 / (number - last)
            kinds = measure_private_kb()
            print(
                f"{number:>8} {kinds.total():>11} {kinds['heap']:>8} {kinds['library']:>10} {kinds['stack']:>7} "
                f"{cpu_ms:>15.2f}",
                flush=True,
            )
            used, last = time.process_time(), number


def measure_private_kb() -> Counter[str]:
    """This process's own pages, kB, by what they hold."""
    found: Counter[str] = Counter()
    kind = ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):
            kind = classify_mapping(rest[4] if len(rest) > 4 else "")
        elif first.startswith("Private_") and first != "Private_Hugetlb:":
            found[kind] += int(rest[0])
    return found


def classify_mapping(name: str) -> str:
    if name in ("", "[heap]"):
        return "heap"
    return "stack" if name.startswith("[stack") else "library"


if __name__ == "__main__":
    main()
