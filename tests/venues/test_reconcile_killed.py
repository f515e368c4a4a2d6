"""`sparky reconcile --adopt` as a process: asked at a terminal, killed at any step; nothing is ever half booked."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Sparky, home, own_logging  # noqa: F401 - fixtures
from tests.support.processes.commands import ROOT, SPARKY
from tests.support.processes.terminal import Terminal
from tests.venues.conftest import Floor
from tests.venues.test_reconcile import ADOPT, by_hand, sparky  # noqa: F401 - a fixture

PATIENCE_S = 120.0
DELETE: dict[str, Any] = {"kind": "hang", "seconds": 600, "path": "/order", "method": "DELETE", "accept": True}


def environment_of(sparky: Sparky) -> dict[str, str]:  # noqa: F811
    return {name: value for name, value in sparky.environment.items() if value} | {"PYTHONPATH": str(ROOT)}


def test_at_a_terminal_the_plan_is_shown_and_asked_for(floor: Floor, sparky: Sparky, home: Path) -> None:  # noqa: F811
    floor.send("a")
    by_hand(floor, "SELL", "0.009")
    for answer, code, held in ((b"n\n", 1, 1), (b"y\n", 0, 0)):
        terminal = Terminal(80)
        streams: dict[str, Any] = {"stdin": terminal.slave, "stdout": terminal.slave, "stderr": terminal.slave}
        with subprocess.Popen([*SPARKY, *ADOPT[:-1]], env=environment_of(sparky), cwd=home, **streams) as process:
            os.write(terminal.master, answer)
            assert process.wait(PATIENCE_S) == code
        terminal.close()
        assert b"Adopting the venue's state would" in terminal.told
        assert b"Book this?" in terminal.told
        assert len(floor.store.list_open_positions()) == held
    floor.check_books()


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
    environ = environment_of(sparky)
    with subprocess.Popen([*SPARKY, *ADOPT], env=environ, cwd=home, stdout=sys.stderr) as process:
        deadline = time.monotonic() + PATIENCE_S
        while len(floor.waiting()) > 1 - after:
            assert process.poll() is None
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGKILL)
    assert len(floor.store.list_open_positions()) == 1
    assert floor.sql("select count(*) from fills") == [(1,)]
    floor.misbehave()
    sparky.ok(*ADOPT)
    assert floor.waiting() == []
    assert floor.store.list_open_positions() == ()
    floor.check_books()
