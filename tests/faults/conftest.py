"""Real products to break, and what was measured while they broke, told at the end of the run."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.support.processes.directories import short_directory
from tests.support.processes.fleet import Fleet, launched
from tests.support.processes.sparky import Sparky, without_strategies

MEASURED = "measured"
FleetMaker = Callable[..., Fleet]
Note = Callable[[str], None]  # what `measured` gives


@pytest.fixture
def fleet_of() -> Iterator[FleetMaker]:
    """Makes a `Fleet` with further settings, in a home of its own; all that were made are stopped in the end."""
    made: list[Fleet] = []
    with short_directory() as root:

        def make(count: int, cadence_s: float, **more: str) -> Fleet:
            made.append(Fleet(root / f"home{len(made)}", count, cadence_s, **more))
            return made[-1]

        yield make
        for fleet in made:
            fleet.close()


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """50 strategies on a cadence of 5 s; every test leaves it running."""
    quick = {"SPARKY_CYCLE_DEADLINE_S": "8", "SPARKY_LLM_TIMEOUT_S": "5", "SPARKY_SIM_SPEED": "6"}
    with short_directory() as root, launched(Fleet(root / "home", 50, 5.0, **quick)) as running:
        yield running


@pytest.fixture
def product() -> Iterator[Sparky]:
    """Everything but strategies, on a market in real time."""
    with without_strategies() as made:
        yield made


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
