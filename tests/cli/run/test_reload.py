"""What a supervisor that was started at a terminal does with SIGHUP, in a process with a terminal of its own."""

import fcntl
import os
import signal
import subprocess
import sys
import termios

import pytest

from tests.support.processes.commands import ROOT
from tests.support.processes.terminal import Terminal

PROGRAM = """
import signal, sys
from uuid import UUID
from cli.run import process_plan
from cli.run.reload import SettingsReloader
from engine.platform import logs
from engine.platform.settings.settings import read_environment

logs.configure()
signal.signal(signal.SIGTERM, lambda *_: print("stops", flush=True))
settings = read_environment({"SPARKY_HOME": sys.argv[1]})
changed = read_environment({"SPARKY_HOME": sys.argv[1], "SPARKY_STRATEGY_POLL_S": "1"})
engine = process_plan.EngineRun(UUID(int=7))
reload = SettingsReloader(
    settings, engine, lambda: changed, lambda now: process_plan.build_full_children(now, engine, has_demo=False)
)
signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what the terminal sends is not in the way
print("ready", flush=True)
sys.stdin.readline()
for _ in range(2):
    print("nothing" if reload() is None else "plan", flush=True)
"""


@pytest.mark.parametrize(
    ("of_hang_up", "said"),
    [(signal.SIG_IGN, ["ready", "plan", "plan"]), (signal.SIG_DFL, ["ready", "stops", "nothing", "plan"])],
)
def test_after_nohup_the_first_hup_without_the_terminal_reads_settings_and_else_it_stops(
    of_hang_up: signal.Handlers, said: list[str]
) -> None:
    terminal = Terminal(80)

    def prepare() -> None:
        signal.signal(signal.SIGHUP, of_hang_up)
        os.setsid()
        fcntl.ioctl(terminal.slave, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "/nowhere"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,  # noqa: PLW1509 - as at a login
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    terminal.hang_up()
    rest, complaint = process.communicate("\n", timeout=300)
    assert [first.strip(), *rest.split()] == said, complaint
    terminal.close()
