"""Real products to break, and what was measured while they broke, told at the end of the run."""

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.fleet import Fleet
from tests.support.sparky import Sparky

MEASURED = "measured"
FleetMaker = Callable[..., Fleet]


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """Short enough for socket paths, which pytest's own directories may not be."""
    short = Path(f"/tmp/sparky-test-{uuid.uuid4().hex[:8]}/run")  # noqa: S108 - private by its random name and mode 0700
    yield short
    shutil.rmtree(short.parent)


@pytest.fixture
def fleet_of() -> Iterator[FleetMaker]:
    """Makes a `Fleet` with further settings, in a home of its own; all that were made are stopped in the end."""
    root = Path(tempfile.mkdtemp(prefix="sparky-flt-", dir="/tmp"))
    made: list[Fleet] = []

    def make(count: int, cadence_s: float, **more: str) -> Fleet:
        made.append(Fleet(root / f"home{len(made)}", count, cadence_s, **more))
        return made[-1]

    yield make
    for fleet in made:
        fleet.close()
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """50 strategies on a cadence of 5 s; every test leaves it running."""
    root = Path(tempfile.mkdtemp(prefix="sparky-flt-", dir="/tmp"))
    running = Fleet(root / "home", 50, 5.0, SPARKY_CYCLE_DEADLINE_S="8", SPARKY_LLM_TIMEOUT_S="5", SPARKY_SIM_SPEED="6")
    try:
        running.launch()
        yield running
    finally:
        running.close()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def product() -> Iterator[Sparky]:
    """Everything but strategies, on a market in real time."""
    root = Path(tempfile.mkdtemp(prefix="sparky-flt-", dir="/tmp"))
    made = Sparky(root / "home", SPARKY_SIM_SPEED="1", SPARKY_MARK_INTERVAL_S="1")
    try:
        made.start("--no-demo")
        made.wait_for(lambda: made.process_of("roster"), "Sparky being up")
        yield made
    finally:
        made.close()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Takes a sentence for the end of the run."""
    return partial(record_property, MEASURED)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, line in report.user_properties:
                if name == MEASURED:
                    terminalreporter.write_line(f"measured: {line}")
