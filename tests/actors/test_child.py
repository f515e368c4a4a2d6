"""A child's loop between its door and its actor, in one process."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from actors.actor import Actor
from actors.child import MOST_QUEUED, Host
from actors.link import Door, Link
from actors.messages import Message, OutboxState

PATIENCE_S = 60.0
FLOOD = 20_000


class Slow(Actor):
    """Takes its first message up and does not finish it before it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = threading.Event()
        self.received = 0

    def receive(self, message: Message) -> None:
        assert isinstance(message, OutboxState)
        assert self.may_go_on.wait(PATIENCE_S)
        self.received += 1


@pytest.fixture
def context() -> Iterator["zmq.Context[zmq.Socket[bytes]]"]:
    made: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield made
    made.destroy(linger=0)


@pytest.fixture
def link(context: "zmq.Context[zmq.Socket[bytes]]", home: Path) -> Link:
    return Link(context, home)


def test_an_actor_that_is_flooded_keeps_a_bounded_queue_and_the_rest_is_dropped_where_it_comes_from(
    context: "zmq.Context[zmq.Socket[bytes]]", link: Link, home: Path
) -> None:
    actor, door = Slow(), Door(context, home, "slow")
    host = Host(actor, door, lambda _: None, 1.0)
    lifeline, held = os.pipe()
    running = threading.Thread(target=host.run, args=(lifeline,))
    running.start()
    for number in range(FLOOD):
        link.tell("slow", OutboxState(pending=number))
        assert actor.queued <= 2 * MOST_QUEUED + 1
    assert link.dropped > FLOOD / 2
    actor.may_go_on.set()
    deadline = time.monotonic() + PATIENCE_S
    while actor.received < FLOOD - link.dropped:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    host.stop()
    running.join()
    actor.stop()
    door.socket.close(linger=0)
    for descriptor in (lifeline, held):
        os.close(descriptor)
