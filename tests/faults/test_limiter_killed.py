"""The limiter killed while somebody waits for a permit, in a process of its own."""

import os
import signal
import threading
import time
from uuid import uuid4

import zmq

from actors.messages import AcquirePermit, LimiterState, Permit
from actors.runtime.messaging import MessageClient, MessageServer
from tests.support.processes.directories import short_directory
from tests.support.processes.supervised import PATIENCE_S, Supervised, spec

MODEL = "openai/gpt-oss-120b"


def kill_when_somebody_waits(monitor: MessageServer, pid: int, until: float) -> None:
    """Kills the limiter once it tells the monitor of an ask in its queue."""
    while time.monotonic() < until:
        if monitor.socket.poll(100):
            states = [message for message, _ in monitor.receive_all() if isinstance(message, LimiterState)]
            if any(state.queue_length == 1 for state in states):
                os.kill(pid, signal.SIGKILL)
                return
    raise AssertionError("nobody waited")


def test_an_ask_that_waits_when_the_limiter_is_killed_is_served_by_its_successor() -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    def wanted(within_s: float) -> AcquirePermit:
        return AcquirePermit(strategy_id=uuid4(), model=MODEL, tokens=9, deadline=time.monotonic() + within_s)

    with short_directory() as home:
        link = MessageClient(context, home / "run")
        with Supervised(home / "run", [spec("limiter", "limiter", argument=str(home))]) as running:
            monitor = MessageServer(context, home / "run", "monitor")
            first = running.wait_for("limiter", "running")["pid"]
            link.ask("limiter", wanted(PATIENCE_S), Permit)  # the only permit, which never comes back
            until = time.monotonic() + PATIENCE_S
            killing = threading.Thread(target=kill_when_somebody_waits, args=(monitor, first, until))
            killing.start()
            link.ask("limiter", wanted(300), Permit)
            killing.join()
            assert running.wait_for("limiter", "running", after=len(running.events))["pid"] != first
            assert running.stop() == 0
    context.destroy(linger=0)
