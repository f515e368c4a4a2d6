"""Processes that the kernel hides from this user, or that are another user's, stop nobody who looks."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from cli import running_instance
from engine.platform import processes

ROOT: Final = Path(__file__).parents[3]
NOBODY: Final = 65534
NEEDS_ROOT: Final = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes of a second user")
AS_NOBODY: Final = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
# Which may pass through directories of root, where the interpreter may be, and nothing more.
PASSES: Final = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
HIDDEN: Final = 'mount -t proc -o hidepid=1 proc /proc && exec "$@"'


def told(*words: str, code: str) -> Any:
    """What a Python program says as JSON, run by these words as a user that is not root."""
    command = [*words, *AS_NOBODY, *PASSES, sys.executable, "-c", code]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_children_and_their_children_are_found() -> None:
    with subprocess.Popen(["/bin/sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        sleeper = int(shell.stdout.readline())
        assert shell.pid in processes.children_of(os.getpid())
        assert processes.children_of(shell.pid) == {sleeper}
        assert {shell.pid, sleeper} <= processes.descendants_of(os.getpid())
        shell.kill()
        os.kill(sleeper, 9)


@NEEDS_ROOT
def test_where_other_users_processes_are_hidden_ones_own_are_found() -> None:
    apart = ["unshare", "--mount", "--pid", "--fork"]
    if subprocess.run([*apart, "/bin/sh", "-c", HIDDEN, "sh", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine gives no process a /proc of its own")
    code = (
        "import json, os, subprocess; from engine.platform.processes import children_of\n"
        "child = subprocess.Popen(['/bin/sleep', '60'])\n"
        "print(json.dumps(children_of(os.getpid()) == {child.pid})); child.kill(); child.wait()"
    )
    # The first process of the new namespace stays root's: it is there, and must not be looked at.
    kept = ["/bin/sh", "-c", 'mount -t proc -o hidepid=1 proc /proc && "$@"', "sh"]
    assert told(*apart, *kept, code=code) is True


@NEEDS_ROOT
def test_ports_of_processes_that_may_not_be_looked_into_are_unknown_and_not_foreign() -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        seen = running_instance.find_own_ports(os.getpid())
        assert (port in seen.numbers, seen.is_complete) == (True, True)
        code = (
            "import json; from cli import running_instance; from cli.doctor import checks\n"
            f"ours = running_instance.find_own_ports({os.getpid()})\n"
            f"print(json.dumps([ours.is_complete, checks._check_port('X', '127.0.0.1', {port}, ours).state]))"
        )
        assert told(code=code) == [False, "skipped"]


@pytest.mark.parametrize("pid", [None, 0, 2**22 + 5, 10**30])
def test_a_supervisor_that_is_none_has_no_ports(pid: int | None) -> None:
    assert running_instance.find_own_ports(pid) == (frozenset(), True)
