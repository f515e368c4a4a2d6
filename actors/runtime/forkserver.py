"""Where children come from: a single-threaded parent that has already imported what they need.

A child forked from it shares those pages, so it costs a few megabytes and milliseconds. Each child is forked twice: the
process in between ends at once, and the kernel makes the supervisor, a subreaper, the child's parent. So the supervisor
can wait for it, can signal it before its pid is reused, and keeps it when this process ends.
"""

import ctypes
import functools
import gc
import importlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Final, NoReturn

import setproctitle
import structlog

from actors.runtime.heartbeat import ignore_signals

logger = structlog.get_logger()

MAX_REQUEST_BYTES: Final = 64 * 1024
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_M_ARENA_MAX: Final = -8  # of mallopt(3)
_THREAD_EXIT_TIMEOUT_S: Final = 5.0  # the kernel may list a thread for a moment after it was joined
_RECHECK_S: Final = 0.005


def prctl(option: int, value: int) -> None:
    """prctl(2) for options that take one number. Raises OSError."""
    if _libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Orphaned descendants become children of this process instead of init's."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(death_signal: int) -> None:
    """The kernel sends `death_signal` to this process when its parent ends (PR_SET_PDEATHSIG).

    Call it after the last fork, which clears it, and compare getppid(2) afterwards: for a parent that ended before the
    call nothing is sent.
    """
    prctl(_PR_SET_PDEATHSIG, death_signal)


def main(requests: socket.socket, supervisor: int, warm_up_entry: str) -> None:
    """Serves spawn requests until the supervisor's end of `requests` closes: JSON in, ``{"pid": …}`` out.

    A first ``{}`` says that the warm-up is done. The answer is ``{"error": …}`` when the kernel refuses to fork now.
    """
    die_with_parent(signal.SIGKILL)
    ignore_signals()
    setproctitle.setproctitle("sparky: fork server")
    # From 3.12 on CPython reads its number of threads from /proc/self/stat at each fork, and splits that at spaces.
    setproctitle.setthreadtitle("sparky-fork")
    warm_up(warm_up_entry)
    wait_for_single_thread(_THREAD_EXIT_TIMEOUT_S)
    requests.send(b"{}")
    while request := requests.recv(MAX_REQUEST_BYTES):
        try:
            answer: dict[str, Any] = {"pid": _fork_twice(requests, json.loads(request), supervisor)}
        except OSError as error:
            answer = {"error": str(error)}
        requests.send(json.dumps(answer).encode())


def warm_up(entry: str) -> None:
    """Loads what children need and calls `entry` (``module:function``, empty for none), in pages that no child's
    garbage collector will ever touch.

    Nothing is collected before the freeze: the holes would be filled by children, each copying a page for it.
    """
    gc.disable()
    _libc().mallopt(_M_ARENA_MAX, 1)  # one heap for all threads: with the GIL one of them runs at a time
    importlib.import_module("actors.runtime.child_main")
    if entry:
        module, function = entry.split(":")
        getattr(importlib.import_module(module), function)()
    gc.freeze()


def wait_for_single_thread(within_s: float) -> bool:
    """Whether this process has one thread, at the latest after `within_s`. Logs the names of others: fork copies a lock
    that another thread holds, but not the thread, so that it stays locked in the child for ever."""
    until = time.monotonic() + within_s
    while len(threads := list(Path("/proc/self/task").iterdir())) > 1:
        if time.monotonic() > until:
            names = [_read_thread_name(thread) for thread in threads]
            logger.warning("fork_server_has_threads", threads=len(names), names=", ".join(names))
            return False
        time.sleep(_RECHECK_S)
    return True


def _read_thread_name(thread: Path) -> str:
    try:
        return (thread / "comm").read_text().strip()
    except OSError:
        return "ended"


def _fork_twice(requests: socket.socket, request: dict[str, Any], supervisor: int) -> int:
    reader, writer = os.pipe()
    with os.fdopen(reader) as pipe:
        try:
            between = os.fork()
            if between == 0:
                _fork_again(requests, (reader, writer), request, supervisor)
        finally:
            os.close(writer)
        os.waitpid(between, 0)
        reported = pipe.read()
    if not reported:
        raise BlockingIOError("no second process could be forked")
    return int(reported)


def _fork_again(requests: socket.socket, pipe: tuple[int, int], request: dict[str, Any], supervisor: int) -> NoReturn:
    """The process in between: forks the child, reports its pid and ends."""
    try:
        between = os.getpid()
        child = os.fork()
        if child == 0:
            _run_child(requests, pipe, request, between, supervisor)
        os.write(pipe[1], str(child).encode())
    finally:
        _exit_now(0)


def _run_child(
    requests: socket.socket, pipe: tuple[int, int], request: dict[str, Any], between: int, supervisor: int
) -> NoReturn:
    try:
        requests.close()
        for descriptor in pipe:
            os.close(descriptor)
        while os.getppid() == between:
            time.sleep(0.0005)  # until the kernel has given us another parent
        die_with_parent(request["death_signal"])
        gc.enable()
        if os.getppid() != supervisor:  # it ended before the death signal was set
            _exit_now(1)
        from actors.runtime import child_main

        child_main.run(request, supervisor)
    except BaseException:  # noqa: BLE001 - the end of a forked process: nothing may return into the server's loop
        traceback.print_exc()
    _exit_now(1)


def _exit_now(code: int) -> NoReturn:
    """Ends this process without exit handlers, which belong to the fork server."""
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]), sys.argv[3])
