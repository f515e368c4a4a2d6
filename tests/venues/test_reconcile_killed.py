"""`sparky reconcile --adopt` killed at any step leaves nothing half booked, and can be run again."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.console.conftest import Sparky, home, own_logging  # noqa: F401 - fixtures
from tests.support.commands import ROOT, SPARKY
from tests.venues.conftest import Floor
from tests.venues.test_reconcile import ADOPT, by_hand, sparky  # noqa: F401 - a fixture

PATIENCE_S = 120.0
DELETE: dict[str, Any] = {"kind": "hang", "seconds": 600, "path": "/order", "method": "DELETE", "accept": True}


@pytest.mark.parametrize("after", [0, 1], ids=["the first cancellation", "the second cancellation"])
def test_killed_between_a_cancellation_and_the_booking_it_is_run_again(
    floor: Floor,
    sparky: Sparky,  # noqa: F811
    home: Path,  # noqa: F811
    after: int,
) -> None:
    floor.send("a", stop_loss_percent=2, take_profit_percent=4)
    by_hand(floor, "SELL", "0.009")
    floor.misbehave(DELETE | {"after": after})
    environ = {name: value for name, value in sparky.environment.items() if value} | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([*SPARKY, *ADOPT], env=environ, cwd=home, stdout=sys.stderr) as process:
        deadline = time.monotonic() + PATIENCE_S
        while len(floor.waiting()) > 1 - after:
            assert process.poll() is None
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGKILL)
    assert len(floor.store.open_positions()) == 1
    assert floor.sql("select count(*) from fills") == [(1,)]
    floor.misbehave()
    sparky.ok(*ADOPT)
    assert floor.waiting() == []
    assert floor.store.open_positions() == ()
    floor.check_books()
