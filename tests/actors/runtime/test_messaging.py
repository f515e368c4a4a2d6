"""Asks and tells between processes' sockets, on real ZeroMQ in one process."""

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zmq

from actors.messages import AcquirePermit, OutboxState, Permit
from actors.runtime.messages import Ack, ErrorReply, Message
from actors.runtime.messaging import MessageClient, MessageServer, _Connection, address, encode
from engine.platform.errors import CycleSkipped, SkipKind

NEW_CONNECTIONS = 60


@pytest.fixture
def link(context: "zmq.Context[zmq.Socket[bytes]]", tmp_path: Path) -> MessageClient:
    return MessageClient(context, tmp_path)


@pytest.fixture
def impatient_link(context: "zmq.Context[zmq.Socket[bytes]]", tmp_path: Path) -> MessageClient:
    """One that tries a peer that is away again every millisecond."""
    return MessageClient(context, tmp_path, retry_ms=(1, 1))


def ask(seconds: float = 60.0) -> AcquirePermit:
    return AcquirePermit(deadline=time.monotonic() + seconds, strategy_id=uuid.uuid4(), model="m", tokens=7)


class Served:
    """Answers everything that arrives at a door from a thread of its own, the way `reply_to` says."""

    def __init__(self, door: MessageServer, reply_to: dict[type[Message], Message]) -> None:
        self.told: list[Message] = []
        self._door, self._reply_to, self._over = door, reply_to, threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._over.is_set():
            self._door.socket.poll(20)
            for message, answer in self._door.receive_all():
                if answer is None:
                    self.told.append(message)
                else:
                    answer(self._reply_to[type(message)])

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._door.socket.close()


def serve(context: "zmq.Context[zmq.Socket[bytes]]", path: Path, reply: Message) -> Served:
    return Served(MessageServer(context, path, "limiter"), {AcquirePermit: reply})


def test_an_ask_is_answered_with_a_validated_message(
    context: "zmq.Context[zmq.Socket[bytes]]", link: MessageClient, tmp_path: Path
) -> None:
    permit = Permit(permit_id=uuid.uuid4(), waited_s=0.5)
    served = serve(context, tmp_path, permit)
    assert link.ask("limiter", ask(), Permit) == permit
    served.close()


def test_an_ask_to_nobody_is_a_skip_at_its_deadline(link: MessageClient) -> None:
    with pytest.raises(CycleSkipped, match="limiter is not there") as caught:
        link.ask("limiter", ask(0.1), Permit)
    assert caught.value.kind == "no_limiter"


def test_a_peer_that_could_not_serve_is_a_skip_of_its_kind(
    context: "zmq.Context[zmq.Socket[bytes]]", link: MessageClient, tmp_path: Path
) -> None:
    served = serve(context, tmp_path, ErrorReply(kind=SkipKind.NO_DATA, reason="the venue is down", retry_after_s=7.5))
    with pytest.raises(CycleSkipped, match="the venue is down") as caught:
        link.ask("limiter", ask(), Permit)
    assert (caught.value.kind, caught.value.retry_after_s) == (SkipKind.NO_DATA, 7.5)
    served.close()


def test_a_reply_of_another_type_is_an_error(
    context: "zmq.Context[zmq.Socket[bytes]]", link: MessageClient, tmp_path: Path
) -> None:
    served = serve(context, tmp_path, Ack())
    with pytest.raises(TypeError, match="answered Ack"):
        link.ask("limiter", ask(), Permit)
    served.close()


def test_a_restarted_peer_is_found_again_under_its_name(
    context: "zmq.Context[zmq.Socket[bytes]]", link: MessageClient, tmp_path: Path
) -> None:
    first = serve(context, tmp_path, Permit(permit_id=uuid.uuid4(), waited_s=0))
    link.ask("limiter", ask(), Permit)
    first.close()
    again = Permit(permit_id=uuid.uuid4(), waited_s=1)
    second = serve(context, tmp_path, again)
    deadline = time.monotonic() + 120
    while True:
        try:
            assert link.ask("limiter", ask(1.0), Permit) == again
            break
        except CycleSkipped:
            assert time.monotonic() < deadline
    second.close()


def test_garbage_at_the_door_is_refused_and_the_next_ask_is_served(
    context: "zmq.Context[zmq.Socket[bytes]]",
    link: MessageClient,
    tmp_path: Path,
) -> None:
    served = serve(context, tmp_path, Ack())
    rogue = context.socket(zmq.DEALER)
    rogue.connect(address(tmp_path, "limiter"))
    for frames in (
        [b"one"],
        [b"", b"NoSuch", b"{}"],
        [b"1", b"AcquirePermit", b"{"],
        [b"1", b"Permit", b'{"extra":1}'],
    ):
        rogue.send_multipart(frames)
    assert link.ask("limiter", ask(), Ack) == Ack()
    assert served.told == []
    rogue.close()
    served.close()


def test_a_tell_to_nobody_is_dropped_and_counted(link: MessageClient) -> None:
    link.tell("monitor", OutboxState(pending=1))
    assert link.dropped == 1


def test_the_first_tell_reaches_a_peer_that_is_there(
    context: "zmq.Context[zmq.Socket[bytes]]", link: MessageClient, tmp_path: Path
) -> None:
    served = serve(context, tmp_path, Ack())
    link.tell("limiter", OutboxState(pending=7))
    link.ask("limiter", ask(), Ack)
    assert served.told == [OutboxState(pending=7)]
    served.close()


def test_a_peer_that_is_away_for_long_keeps_no_message_from_the_others(
    context: "zmq.Context[zmq.Socket[bytes]]", impatient_link: MessageClient, tmp_path: Path
) -> None:
    link = impatient_link
    served = serve(context, tmp_path, Ack())
    link.tell("told of, and away", OutboxState(pending=1))
    with pytest.raises(CycleSkipped):
        link.ask("asked, and away", ask(0.1), Ack)
    tells = 0
    until = time.monotonic() + 4  # at an attempt a millisecond; ZeroMQ keeps some 2,000 events that nobody reads
    while time.monotonic() < until:
        link.tell("limiter", OutboxState(pending=tells))
        tells += 1
        link.ask("limiter", ask(), Ack)
    assert (len(served.told), link.dropped) == (tells, 1)
    served.close()


def test_a_message_keeps_its_exact_values_on_the_way() -> None:
    kind, body = encode(OutboxState(pending=3))
    assert (kind, body) == (b"OutboxState", b'{"pending":3}')


def test_what_was_asked_of_a_peer_that_died_is_asked_of_its_successor(
    context: "zmq.Context[zmq.Socket[bytes]]", link: MessageClient, tmp_path: Path
) -> None:
    permit = Permit(permit_id=uuid.uuid4(), waited_s=0)
    first = MessageServer(context, tmp_path, "limiter")

    def die_with_an_ask_in_hand() -> Served:
        assert first.socket.poll(120_000)
        assert len(list(first.receive_all())) == 1
        first.socket.close(linger=0)
        return serve(context, tmp_path, permit)

    with ThreadPoolExecutor() as pool:
        dying = pool.submit(die_with_an_ask_in_hand)
        began = time.monotonic()
        assert link.ask("limiter", ask(120.0), Permit) == permit
        assert time.monotonic() - began < 60
        dying.result().close()


def test_an_ask_whose_peer_ends_just_before_it_is_sent_ends_at_its_deadline(
    context: "zmq.Context[zmq.Socket[bytes]]",
    impatient_link: MessageClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    door, wait_for_peer = MessageServer(context, tmp_path, "limiter"), _Connection.wait_for_peer
    ended: list[CycleSkipped] = []

    def end_after_the_look(connection: _Connection, deadline: float) -> None:
        wait_for_peer(connection, deadline)
        door.socket.close(linger=0)
        while connection.socket.poll(0, zmq.POLLOUT):
            time.sleep(0.001)

    def ask_once() -> None:
        try:
            impatient_link.ask("limiter", ask(0.3), Permit)
        except CycleSkipped as skipped:
            ended.append(skipped)

    monkeypatch.setattr(_Connection, "wait_for_peer", end_after_the_look)
    asking = threading.Thread(target=ask_once, daemon=True)  # a send that waits for a successor would never end
    asking.start()
    asking.join(120)
    assert [str(skipped) for skipped in ended] == ["limiter is not there"]


def test_an_ask_is_sent_once_while_its_peer_lives(
    context: "zmq.Context[zmq.Socket[bytes]]", link: MessageClient, tmp_path: Path
) -> None:
    door, sent = MessageServer(context, tmp_path, "limiter"), 0
    while sent < 5:
        with pytest.raises(CycleSkipped) as skipped:
            link.ask("limiter", ask(0.2), Permit)
        sent += "did not answer in time" in str(skipped.value)  # else its time was over before it could be sent
    link.tell("limiter", OutboxState(pending=1))
    received: list[Message] = []
    while not isinstance(received[-1:] and received[-1], OutboxState):
        assert door.socket.poll(120_000)
        received += [message for message, _ in door.receive_all()]
    assert len(received) == sent + 1
    door.socket.close(linger=0)


def test_the_first_ask_on_a_new_connection_is_sent_once(
    context: "zmq.Context[zmq.Socket[bytes]]", tmp_path: Path
) -> None:
    """ZeroMQ tells of a handshake a moment after the connection takes messages: that is no second connection."""
    door, answered = MessageServer(context, tmp_path, "limiter"), threading.Event()
    received: list[Message] = []

    def answer_late() -> None:
        while not answered.is_set():
            door.socket.poll(2)
            time.sleep(0.002)  # as a peer that works does: what is asked twice arrives twice
            for message, send_reply in door.receive_all():
                received.append(message)
                assert send_reply is not None
                send_reply(Ack())

    with ThreadPoolExecutor() as pool:
        serving = pool.submit(answer_late)
        try:
            for _ in range(NEW_CONNECTIONS):
                own: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
                client = MessageClient(own, tmp_path)
                client.ask("limiter", ask(), Ack)
                own.destroy(linger=0)
        finally:
            answered.set()
        serving.result()
    assert len(received) == NEW_CONNECTIONS
    door.socket.close(linger=0)


def test_a_peer_that_comes_while_it_is_waited_for_is_asked(
    context: "zmq.Context[zmq.Socket[bytes]]", link: MessageClient, tmp_path: Path
) -> None:
    with pytest.raises(CycleSkipped, match="limiter is not there"):
        link.ask("limiter", ask(0.1), Permit)
    permit = Permit(permit_id=uuid.uuid4(), waited_s=0)
    with ThreadPoolExecutor() as pool:
        coming = pool.submit(serve, context, tmp_path, permit)
        assert link.ask("limiter", ask(60.0), Permit) == permit
        coming.result().close()
