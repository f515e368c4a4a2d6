"""A child's loop between its door and its actor, in one process."""

import os
import threading
import time
from pathlib import Path
from uuid import uuid4

import pytest
import zmq

from actors.messages import CycleFinished
from actors.runtime.actor import Actor
from actors.runtime.child_main import MAX_INBOX_SIZE, ActorHost
from actors.runtime.messages import Message
from actors.runtime.messaging import MessageClient, MessageServer

PATIENCE_S = 300.0  # of a machine that does ten other things as well
FLOOD, MOST_TOLD = 1_000, 50_000
FLOODING = CycleFinished(
    strategy_id=uuid4(),
    name="x" * 10_000,  # so that buffers of the kernel hold few, whatever their size
    outcome="ok",
    duration_s=0.0,
    engine_s=0.0,
    lateness_s=0.0,
    at=0.0,
    next_tick_at=0.0,
    failures=0,
    breaker="closed",
)


class Slow(Actor):
    """Takes its first message up and does not finish it before it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = threading.Event()
        self.received = 0

    def receive(self, message: Message) -> None:
        assert isinstance(message, CycleFinished)
        assert self.may_go_on.wait(PATIENCE_S)
        self.received += 1


@pytest.fixture
def link(context: "zmq.Context[zmq.Socket[bytes]]", home: Path) -> MessageClient:
    return MessageClient(context, home)


def test_an_actor_that_is_flooded_keeps_a_bounded_queue_and_the_rest_is_dropped_where_it_comes_from(
    context: "zmq.Context[zmq.Socket[bytes]]", link: MessageClient, home: Path
) -> None:
    actor, door = Slow(), MessageServer(context, home, "slow")
    host = ActorHost(actor, door, lambda _: None, 1.0)
    lifeline, held = os.pipe()
    running = threading.Thread(target=host.run, args=(lifeline,))
    running.start()
    told = 0
    while link.dropped < FLOOD:
        link.tell("slow", FLOODING)
        told += 1
        assert actor.inbox_size <= 2 * MAX_INBOX_SIZE + 1
        assert told < MOST_TOLD, "nothing is dropped"
    actor.may_go_on.set()
    deadline = time.monotonic() + PATIENCE_S
    while actor.received < told - link.dropped:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    host.stop()
    running.join()
    actor.stop()
    door.socket.close(linger=0)
    for descriptor in (lifeline, held):
        os.close(descriptor)


class Late(Actor):
    """Its tick took so long that the next one is due already."""

    def tick(self, now: float) -> float:
        return now - 100.0


def test_what_a_long_tick_took_is_not_taken_from_the_time_of_the_next(
    context: "zmq.Context[zmq.Socket[bytes]]", home: Path
) -> None:
    actor, door = Late(), MessageServer(context, home, "late")
    left_s: list[float] = []

    def beat(promise: float) -> None:
        left_s.append(promise - began)
        host.stop()

    began = time.monotonic()
    host = ActorHost(actor, door, beat, 15.0)
    lifeline, held = os.pipe()
    host.run(lifeline)
    actor.stop()
    door.socket.close(linger=0)
    for descriptor in (lifeline, held):
        os.close(descriptor)
    assert left_s[0] >= 15.0
