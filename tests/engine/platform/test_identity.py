"""Names that last as long as what they name."""

import os
import subprocess
import sys
from pathlib import Path

import psutil

from engine.platform.processes import boot_id, process_identity

ODD_NAME = "import sys; open('/proc/self/comm', 'w').write(') S 1 (x'); print('ready', flush=True); sys.stdin.read()"


def test_a_process_whatever_it_calls_itself_is_named_by_boot_pid_and_the_ticks_of_its_start() -> None:
    command = [sys.executable, "-c", ODD_NAME]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        boot, pid, ticks = process_identity(process.pid).split("/")
        assert (boot, int(pid)) == (boot_id(), process.pid)
        began_s = int(ticks) / os.sysconf("SC_CLK_TCK")
        assert abs(began_s + psutil.boot_time() - psutil.Process(process.pid).create_time()) < 2
        assert process_identity(process.pid) == process_identity(process.pid)
        assert process_identity(process.pid) != process_identity(os.getpid())


def test_a_process_is_known_whose_name_was_cut_within_a_character() -> None:
    name, usual = Path("/proc/self/comm"), process_identity(os.getpid())
    before = name.read_bytes()
    name.write_bytes("стратегия".encode()[:15])
    try:
        assert process_identity(os.getpid()) == usual
    finally:
        name.write_bytes(before)
