"""Where children come from: a single-threaded parent that has already imported what strategies need.

A child forked from it shares those pages, so it costs a few megabytes and milliseconds. Each child is forked twice: the
one in between ends at once, and the kernel hands the child to the supervisor (a subreaper), which can then wait for it,
signal it without doubt about its identity, and keep it when this process dies.
"""

import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from typing import Any, Final, NoReturn

REQUEST_LIMIT: Final = 64 * 1024
_PRELOAD: Final = ("actors.child", "actors.strategy")
_REHEARSALS: Final = 10  # the interpreter rewrites a function when it has been called so often
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


def prctl(option: int, value: int) -> None:
    """prctl(2) for options that take one number. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def become_subreaper() -> None:
    """Orphaned descendants become children of this process instead of init's."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(death_signal: int) -> None:
    """The kernel sends `death_signal` to this process when its parent ends. Set it after the last fork."""
    prctl(_PR_SET_PDEATHSIG, death_signal)


def main(requests: socket.socket, supervisor: int) -> None:
    """Serves spawn requests until the supervisor's end of `requests` closes: JSON in, ``{"pid": …}`` out."""
    die_with_parent(signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # the terminal's Ctrl-C reaches the whole group; the supervisor decides
    _warm_up()
    requests.send(b"{}")
    while request := requests.recv(REQUEST_LIMIT):
        pid = _fork_twice(requests, json.loads(request), supervisor)
        requests.send(json.dumps({"pid": pid}).encode())


def _warm_up() -> None:
    """Everything a child needs, loaded and used once, in pages that no child's garbage collector will ever touch.

    Nothing is collected before the freeze: the holes would be filled by children, each copying a page for it.
    """
    gc.disable()
    for module in _PRELOAD:
        importlib.import_module(module)
    rehearsal = importlib.import_module("actors.rehearsal")
    for _ in range(_REHEARSALS):
        rehearsal.rehearse()
    gc.freeze()


def _fork_twice(requests: socket.socket, request: dict[str, Any], supervisor: int) -> int:
    reader, writer = os.pipe()
    between = os.fork()
    if between == 0:
        child = os.fork()
        if child == 0:
            _run_child(requests, (reader, writer), request, supervisor)
        os.write(writer, str(child).encode())
        _leave_at_once(0)
    os.close(writer)
    os.waitpid(between, 0)
    with os.fdopen(reader) as pipe:
        return int(pipe.read())


def _run_child(requests: socket.socket, pipe: tuple[int, int], request: dict[str, Any], supervisor: int) -> NoReturn:
    try:
        requests.close()
        for descriptor in pipe:
            os.close(descriptor)
        _wait_for_adoption(supervisor)
        die_with_parent(request["death_signal"])
        gc.enable()
        if os.getppid() != supervisor:
            _leave_at_once(1)
        from actors import child

        child.run(request)
    except BaseException:  # noqa: BLE001 - the end of a forked process: nothing may return into the server's loop
        traceback.print_exc()
    _leave_at_once(1)


def _wait_for_adoption(supervisor: int) -> None:
    deadline = time.monotonic() + 10
    while os.getppid() != supervisor:
        if os.getppid() == 1 or time.monotonic() > deadline:
            _leave_at_once(1)
        time.sleep(0.0005)


def _leave_at_once(code: int) -> NoReturn:
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
