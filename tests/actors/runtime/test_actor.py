"""What the base of all actors adds to pykka: a started instance, replies that come later, callbacks, late asks."""

import time
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pykka
import pytest

from actors.runtime.actor import Actor, ReplyFuture
from actors.runtime.messages import Ack, Ask, Message

ROOT = Path(__file__).parents[3]
PATIENCE_S = 60.0


class Question(Ask):
    """For an actor of this file."""


class Later(Actor):
    """Replies to every ask with a future that the test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.replies: Queue[ReplyFuture] = Queue()

    def receive(self, message: Message) -> ReplyFuture:  # noqa: ARG002 - there is one question
        reply = ReplyFuture()
        self.replies.put(reply)
        return reply


@pytest.fixture
def actor() -> Iterator[Later]:
    made = Later()
    made.start_instance()
    yield made
    made.actor_ref.stop()


def ask(actor: Later) -> tuple[ReplyFuture, ReplyFuture]:
    """The asker's future, and the actor's reply that is yet to be set."""
    future = actor.actor_ref.ask(Question(deadline=time.monotonic() + PATIENCE_S), block=False)
    assert isinstance(future, ReplyFuture)
    return future, actor.replies.get(timeout=PATIENCE_S)


def test_a_started_instance_is_an_actor_of_pykka_until_it_is_stopped() -> None:
    actor = Later()
    ref = actor.start_instance()
    assert pykka.ActorRegistry.get_by_urn(actor.actor_urn) is ref
    assert ref.is_alive()
    ref.stop()
    assert not ref.is_alive()
    assert pykka.ActorRegistry.get_by_urn(actor.actor_urn) is None


def test_a_reply_that_is_set_later_reaches_the_asker_and_its_callback(actor: Later) -> None:
    future, reply = ask(actor)
    called: Queue[object] = Queue()
    future.add_done_callback(lambda done: called.put(done.get(timeout=0)))
    assert called.empty()
    reply.set(Ack())
    assert future.get(timeout=PATIENCE_S) == Ack()
    assert called.get(timeout=PATIENCE_S) == Ack()


def test_a_callback_that_is_added_after_the_reply_is_called_too(actor: Later) -> None:
    future, reply = ask(actor)
    reply.set(Ack())
    future.get(timeout=PATIENCE_S)
    called: Queue[object] = Queue()
    future.add_done_callback(lambda done: called.put(done.get(timeout=0)))
    assert called.get(timeout=PATIENCE_S) == Ack()


def test_an_error_that_is_set_later_is_raised_for_the_asker(actor: Later) -> None:
    future, reply = ask(actor)
    reply.set_exception((ValueError, ValueError("as set"), None))
    with pytest.raises(ValueError, match="as set"):
        future.get(timeout=PATIENCE_S)


def test_an_ask_whose_deadline_has_passed_is_dropped(actor: Later) -> None:
    assert actor.actor_ref.ask(Question(deadline=time.monotonic() - 1), timeout=PATIENCE_S) is None
    assert actor.replies.empty()


def test_one_file_extends_pykka() -> None:
    rooms = ("actors", "cli", "engine", "simulator", "webhook_server")
    files = [path for room in rooms for path in (ROOT / room).rglob("*.py") if "import pykka" in path.read_text()]
    assert files == [ROOT / "actors" / "runtime" / "actor.py"]
