"""The fork server's warm-up, in a process of its own: it must load everything, leave nothing open, and never fail."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PROGRAM = """
import json, os, sys, threading, time
before = set(os.listdir("/proc/self/fd"))
from actors.warmup import cycles
cycles.run_warmup_cycle()
loaded = set(sys.modules)
cycles.run_warmup_cycle()
opened = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd not in before and
          os.path.exists(f"/proc/self/fd/{fd}")]
# A thread that was joined has left Python; the kernel may need another moment.
until = time.monotonic() + 60
while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < until:
    time.sleep(0.01)
print(json.dumps({
    "threads": len(os.listdir("/proc/self/task")),
    "sockets": [name for name in opened if name.startswith("socket:")],
    "loaded": [name for name in ("groq", "psycopg", "zmq", "actors.strategy") if name in loaded],
    "heavy": [name for name in ("ccxt", "numpy", "talib", "fastapi", "supabase") if name in loaded],
    "later": sorted(set(sys.modules) - loaded),
}))
"""


def test_one_rehearsal_loads_all_that_a_cycle_needs_and_leaves_no_thread_and_no_socket() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == {
        "threads": 1,
        "sockets": [],
        "loaded": ["groq", "psycopg", "zmq", "actors.strategy"],
        "heavy": [],
        "later": [],
    }
    assert done.stderr == ""


def test_no_temporary_directory_is_needed() -> None:
    environ = os.environ | {"TMPDIR": "/proc/nowhere/" + "x" * 200}
    code = "from actors.warmup import cycles; cycles.run_warmup_cycle()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environ, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_rehearsal_that_fails_is_told_once_and_keeps_no_fork_server_from_serving() -> None:
    code = (
        "import os, resource, actors.warmup.cycles, actors.strategy, engine.store.transport.supabase\n"
        "from actors.runtime import forkserver\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))\n"  # a listener, and nobody else
        "forkserver.warm_up('actors.warmup.cycles:warm_up'); print('warm', len(os.listdir('/proc/self/task')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "warm 1\n"), done.stderr
    [line] = done.stderr.splitlines()
    assert "warmup_failed" in line
