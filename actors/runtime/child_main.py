"""A child after the fork: one loop passes messages to its actor, asks it to tick, and writes the heartbeat.

The heartbeat is written after a completed tick, with the deadline of the next one. So the deadline of a child that is
blocked, spinning, deadlocked or stopped passes, whatever its other threads do.
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

from actors.runtime.actor import Actor, ReplyFuture
from actors.runtime.heartbeat import HeartbeatTable, StopListener
from actors.runtime.messages import ErrorReply, Message, Tick
from actors.runtime.messaging import MessageClient, MessageServer
from engine.platform import logs
from engine.platform.errors import (
    EXIT_CONFIGURATION,
    EXIT_TRY_AGAIN,
    AnotherEngineRuns,
    ConfigurationError,
    CycleSkipped,
    SkipKind,
    SparkyError,
)
from engine.platform.plain_text import one_line
from engine.platform.settings.process_settings import ProcessSettings

logger = structlog.get_logger()

MAX_CAPPED_DESCRIPTORS: Final = 256  # of a child with a cap on its memory
MAX_FAILED_CHECKS: Final = 3
MAX_INBOX_SIZE: Final = 1_000  # messages waiting for the actor; beyond them none is read from the socket
_INBOX_FULL_POLL_MS: Final = 20
_RECHECK_S: Final = 0.3
_TICK_SOON_S: Final = 0.05
_STACK_ALLOWANCE_BYTES: Final = 128 * 1024 * 1024  # RLIMIT_DATA counts the whole stack of a thread, used or not


class Service(Protocol):
    """A server with a wire protocol of its own, hosted by a child, such as a database or an HTTP server.

    One whose health is to be checked more often than every second has `check_every_s`, in seconds.
    """

    def start(self) -> None: ...

    def is_healthy(self) -> bool: ...

    def stop(self, grace_s: float) -> None: ...


class ServiceActor(Actor):
    """Puts a service under the same supervision as every actor: its tick is a health check.

    A failed check is repeated after 0.3 s, and the third in a row ends the process: a busy host alone must not restart
    servers.
    """

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service
        self.tick_every_s = getattr(service, "check_every_s", self.tick_every_s)
        self._failed_checks = 0

    def open(self) -> None:
        """Returns when the service is healthy. The supervisor's start deadline bounds the wait."""
        self._service.start()
        while not self._service.is_healthy():
            time.sleep(_RECHECK_S)

    def tick(self, now: float) -> float:
        self._failed_checks = 0 if self._service.is_healthy() else self._failed_checks + 1
        if self._failed_checks >= MAX_FAILED_CHECKS:
            raise RuntimeError(f"the service failed {self._failed_checks} of its health checks in a row")
        return now + (_RECHECK_S if self._failed_checks else self.tick_every_s)

    def close(self, grace_s: float) -> None:
        self._service.stop(grace_s)


class ActorHost:
    """Runs one actor: serves its socket, asks for its ticks, and calls `beat` with the deadline of each next tick."""

    def __init__(self, actor: Actor, server: MessageServer, beat: Callable[[float], None], deadline_s: float) -> None:
        self._actor = actor
        self._server = server
        self._beat = beat
        self._deadline_s = deadline_s
        self._scheduled_calls: deque[Callable[[], None]] = deque()
        self._wake_receiver, self._wake_sender = socket.socketpair()
        for end in (self._wake_receiver, self._wake_sender):
            end.settimeout(0)
        self._next_tick: float | None = time.monotonic()
        self._requested_tick_at: float | None = None
        self.stopping = False

    def stop(self) -> None:
        """Asks the loop to end; safe from a signal handler and from any thread, more than once."""
        self.stopping = True
        self._wake()

    def run(self, lifeline: int) -> None:
        """Returns when asked to stop, or when the actor is done or the supervisor gone (`lifeline` is then readable).

        Raises what a tick raised.
        """
        ref = self._actor.start_instance()
        poller = zmq.Poller()
        for waited in (self._wake_receiver, lifeline):
            poller.register(waited, zmq.POLLIN)
        with self._wake_receiver, self._wake_sender:
            self._serve(ref, poller, lifeline)

    def _serve(self, ref: Any, poller: zmq.Poller, lifeline: int) -> None:
        while not self.stopping and not self._actor.is_done:
            self._start_tick(ref)
            # While the inbox is full ZeroMQ queues, and then the senders drop: this process stays bounded in memory.
            has_room = self._actor.inbox_size < MAX_INBOX_SIZE
            poller.register(self._server.socket, zmq.POLLIN if has_room else 0)
            ready = dict(poller.poll(self._wait_ms() if has_room else _INBOX_FULL_POLL_MS))
            if lifeline in ready:
                return
            self._run_scheduled_calls()
            for message, answer in self._server.receive_all() if has_room else ():
                self._dispatch(ref, message, answer)

    def _start_tick(self, ref: Any) -> None:
        if self._next_tick is not None and time.monotonic() >= self._next_tick:
            self._next_tick = None
            ref.ask(Tick(), block=False).add_done_callback(
                lambda done: self._call_on_loop(lambda: self._on_tick_done(done))
            )

    def _on_tick_done(self, done: ReplyFuture) -> None:
        due = cast("float", done.get(timeout=0))
        self._next_tick = due
        self._reschedule_tick()
        # A tick may end after the next one was due; that one has its whole time all the same.
        self._beat(max(due, time.monotonic()) + self._deadline_s)

    def _reschedule_tick(self) -> None:
        """Moves the next tick forward to when a message asked for one. During a tick the request waits for its end."""
        if self._next_tick is not None and self._requested_tick_at is not None:
            self._next_tick = min(self._next_tick, self._requested_tick_at)
            self._requested_tick_at = None

    def _dispatch(self, ref: Any, message: Message, send_reply: Callable[[Message], None] | None) -> None:
        if send_reply is None:
            ref.tell(message)
            if self._actor.should_tick_now(message):
                self._requested_tick_at = time.monotonic() + _TICK_SOON_S
                self._reschedule_tick()
            return
        ref.ask(message, block=False).add_done_callback(
            lambda done: self._call_on_loop(lambda: _send_reply(send_reply, done))
        )

    def _call_on_loop(self, action: Callable[[], None]) -> None:
        """Runs `action` on the loop's thread: ZeroMQ sockets may be used by one thread only."""
        self._scheduled_calls.append(action)
        self._wake()

    def _run_scheduled_calls(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_receiver.recv(4_096):
                pass
        while self._scheduled_calls:
            self._scheduled_calls.popleft()()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # the buffer is full of wake-ups, or the loop has ended
            self._wake_sender.send(b"\0")

    def _wait_ms(self) -> int | None:
        return None if self._next_tick is None else max(0, math.ceil((self._next_tick - time.monotonic()) * 1000))


def run(request: dict[str, Any], supervisor: int) -> NoReturn:
    """Runs a freshly forked child to its end; `request` is the spawn request, `supervisor` its parent's pid.

    SIGTERM is blocked until here, and handled once the child can see whether the supervisor sent it. Ends with
    `os._exit`: exit handlers belong to the fork server, and a thread that hangs must not keep the process alive.
    """
    heartbeats = HeartbeatTable(request["heartbeat_fd"])
    stop_listener = StopListener(heartbeats, request["slot"], supervisor)
    stop_listener.install_handler()
    setproctitle.setproctitle(f"sparky: {one_line(request['title'] or request['name'])}")  # for ps and top
    crash_report = Path(request["run_dir"]) / "last" / f"{request['name']}.txt"
    with crash_report.open("w", encoding="utf-8") as file:
        faulthandler.enable(file=file)
        code = _run_to_exit_code(request, heartbeats, stop_listener, crash_report)
    os._exit(code)


def _run_to_exit_code(
    request: dict[str, Any], heartbeats: HeartbeatTable, stop_listener: StopListener, crash_report: Path
) -> int:
    settings = _read_settings(request)
    secrets = logs.collect_secrets(settings)
    logs.configure(settings.sparky_log_level, settings.sparky_log_format, request["title"], secrets)
    _limit_resources(request["memory_mb"])
    try:
        _run_actor(request, settings, heartbeats, stop_listener)
    except ConfigurationError as error:
        _write_crash_report(crash_report, str(error))
        logger.error("misconfigured", reason=str(error))  # noqa: TRY400 - one clear sentence, no traceback
        return EXIT_CONFIGURATION
    except SparkyError as error:
        _write_crash_report(crash_report, str(error))
        logger.error("exiting", reason=str(error))  # noqa: TRY400 - an expected failure, whose sentence says it all
        return EXIT_TRY_AGAIN if isinstance(error, AnotherEngineRuns) else 1
    except BaseException as error:  # the boundary of the process: every exception is logged, and the process ends
        _write_crash_report(crash_report, logs.redact(traceback.format_exc()))
        logger.exception("crashed", reason=f"{type(error).__name__}: {error}")
        return 1
    return 0


def _write_crash_report(path: Path, text: str) -> None:
    with contextlib.suppress(OSError):  # a full disk: the log has the text too, and the exit code must stay what it is
        path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _run_actor(
    request: dict[str, Any], settings: ProcessSettings, heartbeats: HeartbeatTable, stop_listener: StopListener
) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    run_dir = Path(request["run_dir"])
    server = MessageServer(context, run_dir, request["name"])
    actor = _create_actor(request, settings, MessageClient(context, run_dir))
    host = ActorHost(
        actor, server, lambda deadline: heartbeats.beat(request["slot"], deadline), request["tick_deadline_s"]
    )
    stop_listener.set_callback(host.stop)
    try:
        host.run(request["lifeline"])
    finally:
        actor.close(request["grace_s"])


def _read_settings(request: dict[str, Any]) -> ProcessSettings:
    """The settings of the child's spec, as the model that the spec names."""
    module, name = request["settings_model"].split(":")
    model: type[ProcessSettings] = getattr(importlib.import_module(module), name)
    return model.from_child_json(request["settings"])


def _create_actor(request: dict[str, Any], settings: ProcessSettings, peers: MessageClient) -> Actor:
    module, function = request["entry"].split(":")
    make = getattr(importlib.import_module(module), function)
    if request["kind"] == "service":
        return ServiceActor(make(settings, request["argument"]))
    return cast("Actor", make(settings, peers, request["argument"]))


def _limit_resources(memory_mb: int | None) -> None:
    """Limits that the kernel enforces, wider than the supervisor's own: a leak between two samples must not take the
    host's memory. The cap is `memory_mb` MiB above what the child has after its fork."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold the secrets of this process
    if memory_mb is None:
        return
    now_bytes = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    most_bytes = now_bytes + _STACK_ALLOWANCE_BYTES + memory_mb * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, most_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_CAPPED_DESCRIPTORS, MAX_CAPPED_DESCRIPTORS))


def _send_reply(send: Callable[[Message], None], done: ReplyFuture) -> None:
    try:
        reply = done.get(timeout=0)
    except CycleSkipped as skip:
        reply = ErrorReply(kind=skip.kind, reason=str(skip), retry_after_s=skip.retry_after_s)
    except Exception as error:  # one bad ask must not end an actor that all the others share
        logger.exception("ask_failed", reason=str(error))
        reply = ErrorReply(kind=SkipKind.ERROR, reason=f"{type(error).__name__}: {error}")
    if reply is not None:
        with contextlib.suppress(zmq.Again):  # the asker does not read its replies, and has its own deadline
            send(reply)
