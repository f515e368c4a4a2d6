"""The fork server's warm-up, in a process of its own: it must load everything and leave nothing open."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, os, sys, threading
before = set(os.listdir("/proc/self/fd"))
from actors import rehearsal
rehearsal.rehearse()
loaded = set(sys.modules)
rehearsal.rehearse()
opened = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd not in before and
          os.path.exists(f"/proc/self/fd/{fd}")]
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
