"""A child's life after the fork: one loop that passes messages to its actor, asks it to tick, and beats its heart.

The beat follows a completed tick and promises the next one, so a child that is blocked, spinning, deadlocked or stopped
breaks its promise however healthy its other threads are.
"""

import contextlib
import faulthandler
import importlib
import math
import os
import resource
import socket
import time
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol, cast

import setproctitle
import structlog
import zmq

from actors.runtime.actor import Actor, Reply
from actors.runtime.heartbeat import Board, EndRequest
from actors.runtime.messages import Failed, Message, Tick
from actors.runtime.messaging import Door, Link
from engine.platform import logs
from engine.platform.errors import (
    EXIT_CONFIGURATION,
    EXIT_TRY_AGAIN,
    AnotherEngineRuns,
    BadConfiguration,
    Skip,
    SparkyError,
)
from engine.platform.plain_text import one_line
from engine.platform.settings.settings import Settings

logger = structlog.get_logger()

STRATEGY_DESCRIPTORS: Final = 256
MOST_FAILED_CHECKS: Final = 3
MOST_QUEUED: Final = 1_000  # messages that an actor has not got to; beyond them the door is not looked at
_NO_ROOM_MS: Final = 20
_CHECK_AGAIN_S: Final = 0.3
_TICK_SOON_S: Final = 0.05
_ROOM_FOR_STACKS_BYTES: Final = 128 * 1024 * 1024  # a thread's stack counts as data before it is ever touched


class Service(Protocol):
    """A server with a wire protocol of its own, hosted by a child: database, webhook server, simulator.

    One that is to be looked at more often than every second has `check_every_s`.
    """

    def start(self) -> None: ...

    def healthy(self) -> bool: ...

    def stop(self, grace_s: float) -> None: ...


class ServiceActor(Actor):
    """Puts a service under the same supervision as every actor: its tick is a health check.

    One that fails is repeated at once, the third in a row ends the process: a busy host alone must not restart servers.
    """

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service
        self.tick_every_s = getattr(service, "check_every_s", self.tick_every_s)
        self._failed = 0

    def open(self) -> None:
        """Returns when the service is well; the supervisor's patience with a start bounds it."""
        self._service.start()
        while not self._service.healthy():
            time.sleep(_CHECK_AGAIN_S)

    def tick(self, now: float) -> float:
        self._failed = 0 if self._service.healthy() else self._failed + 1
        if self._failed >= MOST_FAILED_CHECKS:
            raise RuntimeError(f"the service failed {self._failed} health checks of its own in a row")
        return now + (_CHECK_AGAIN_S if self._failed else self.tick_every_s)

    def close(self, grace_s: float) -> None:
        self._service.stop(grace_s)


class Host:
    """Runs one actor: its door, its ticks, its heartbeat and its end."""

    def __init__(self, actor: Actor, door: Door, beat: Callable[[float], None], deadline_s: float) -> None:
        self._actor = actor
        self._door = door
        self._beat = beat
        self._deadline_s = deadline_s
        self._results: deque[Callable[[], None]] = deque()
        self._awake, self._waker = socket.socketpair()
        for end in (self._awake, self._waker):
            end.settimeout(0)
        self._next_tick: float | None = time.monotonic()
        self._tick_by: float | None = None
        self.stopping = False

    def stop(self) -> None:
        """Asks the loop to end; safe from a signal handler and from any thread, more than once."""
        self.stopping = True
        self._wake()

    def run(self, lifeline: int) -> None:
        """Returns when asked to stop, or the actor is finished, or the supervisor gone; raises what a tick raised."""
        ref = self._actor.launch()
        poller = zmq.Poller()
        for waited in (self._awake, lifeline):
            poller.register(waited, zmq.POLLIN)
        with self._awake, self._waker:
            self._serve(ref, poller, lifeline)

    def _serve(self, ref: Any, poller: zmq.Poller, lifeline: int) -> None:
        while not self.stopping and not self._actor.finished:
            self._start_tick(ref)
            has_room = self._actor.queued < MOST_QUEUED
            poller.register(self._door.socket, zmq.POLLIN if has_room else 0)
            ready = dict(poller.poll(self._wait_ms() if has_room else _NO_ROOM_MS))
            if lifeline in ready:
                return
            self._drain_wakes()
            for message, answer in self._door.arrivals() if has_room else ():
                self._pass_on(ref, message, answer)

    def _start_tick(self, ref: Any) -> None:
        if self._next_tick is not None and time.monotonic() >= self._next_tick:
            self._next_tick = None
            ref.ask(Tick(), block=False).then(lambda done: self._later(lambda: self._ticked(done)))

    def _ticked(self, done: Reply) -> None:
        due = cast("float", done.get(timeout=0))
        self._next_tick = due
        self._bring_forward()
        # A tick may end after the next one was due, which has its whole time all the same.
        self._beat(max(due, time.monotonic()) + self._deadline_s)

    def _bring_forward(self) -> None:
        """To when a message wanted a tick by; one that came while a tick was under way waits for its end."""
        if self._next_tick is not None and self._tick_by is not None:
            self._next_tick = min(self._next_tick, self._tick_by)
            self._tick_by = None

    def _pass_on(self, ref: Any, message: Message, answer: Callable[[Message], None] | None) -> None:
        if answer is None:
            ref.tell(message)
            if self._actor.wants_tick_after(message):
                self._tick_by = time.monotonic() + _TICK_SOON_S
                self._bring_forward()
            return
        ref.ask(message, block=False).then(lambda done: self._later(lambda: _answer(answer, done)))

    def _later(self, action: Callable[[], None]) -> None:
        """Runs `action` on the loop's own thread, which alone may touch the door."""
        self._results.append(action)
        self._wake()

    def _drain_wakes(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._awake.recv(4_096):
                pass
        while self._results:
            self._results.popleft()()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it is awake already, or has ended
            self._waker.send(b"\0")

    def _wait_ms(self) -> int | None:
        return None if self._next_tick is None else max(0, math.ceil((self._next_tick - time.monotonic()) * 1000))


def run(request: dict[str, Any], supervisor: int) -> NoReturn:
    """The whole life of a freshly forked child; `request` is the spawn request of `supervisor`. Never returns.

    SIGTERM is blocked until it can be told whether the supervisor sent it.
    """
    board = Board(request["board"])
    end_request = EndRequest(board, request["slot"], supervisor)
    end_request.listen()
    setproctitle.setproctitle(f"sparky: {one_line(request['title'] or request['name'])}")  # seen in ps and top
    last_words = Path(request["run_dir"]) / "last" / f"{request['name']}.txt"
    with last_words.open("w", encoding="utf-8") as file:
        faulthandler.enable(file=file)
        code = _live(request, board, end_request, last_words)
    os._exit(code)


def _live(request: dict[str, Any], board: Board, end_request: EndRequest, last_words: Path) -> int:
    settings = Settings.unsealed(request["settings"])
    secrets = logs.secrets_of(settings)
    logs.configure(settings.sparky_log_level, settings.sparky_log_format, request["title"], secrets)
    _limit_resources(request["memory_mb"])
    try:
        _host(request, settings, board, end_request)
    except BadConfiguration as error:
        _leave(last_words, str(error))
        logger.error("cannot_run", reason=str(error))  # noqa: TRY400 - one clear sentence, no traceback
        return EXIT_CONFIGURATION
    except SparkyError as error:
        _leave(last_words, str(error))
        logger.error("cannot_go_on", reason=str(error))  # noqa: TRY400 - an expected failure, whose sentence says it all
        return EXIT_TRY_AGAIN if isinstance(error, AnotherEngineRuns) else 1
    except BaseException as error:  # the boundary of the process: whatever it was, it is told and the process ends
        _leave(last_words, logs.redact(traceback.format_exc()))
        logger.exception("crashed", reason=f"{type(error).__name__}: {error}")
        return 1
    return 0


def _leave(last_words: Path, text: str) -> None:
    with contextlib.suppress(OSError):  # a full disk; the log has it too, and the exit code must still say what it was
        last_words.write_text(text, encoding="utf-8", errors="backslashreplace")


def _host(request: dict[str, Any], settings: Settings, board: Board, end_request: EndRequest) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    run_dir = Path(request["run_dir"])
    door = Door(context, run_dir, request["name"])
    actor = _actor(request, settings, Link(context, run_dir))
    host = Host(actor, door, lambda promise: board.beat(request["slot"], promise), request["tick_deadline_s"])
    end_request.pass_to(host.stop)
    try:
        host.run(request["lifeline"])
    finally:
        actor.close(request["grace_s"])


def _actor(request: dict[str, Any], settings: Settings, link: Link) -> Actor:
    module, function = request["entry"].split(":")
    make = getattr(importlib.import_module(module), function)
    if request["kind"] == "service":
        return ServiceActor(make(settings, request["argument"]))
    return cast("Actor", make(settings, link, request["argument"]))


def _limit_resources(memory_mb: int | None) -> None:
    """The kernel's own bounds, behind the supervisor's: a capped child gets its cap as room to grow, and few files."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_mb is None:
        return
    now_bytes = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    most_bytes = now_bytes + _ROOM_FOR_STACKS_BYTES + memory_mb * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, most_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (STRATEGY_DESCRIPTORS, STRATEGY_DESCRIPTORS))


def _answer(answer: Callable[[Message], None], done: Reply) -> None:
    try:
        reply = done.get(timeout=0)
    except Skip as skip:
        reply = Failed(kind=skip.kind, reason=str(skip))
    except Exception as error:  # one bad ask must not end an actor that all the others share
        logger.exception("ask_failed", reason=str(error))
        reply = Failed(kind="error", reason=f"{type(error).__name__}: {error}")
    if reply is not None:
        with contextlib.suppress(zmq.Again):
            answer(reply)
