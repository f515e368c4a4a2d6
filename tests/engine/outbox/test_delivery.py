"""One delivery attempt: what is sent, and what each kind of answer means to the sender."""

import json
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from engine.domain.signal import Signal, SignalOutcome
from engine.outbox import delivery
from engine.platform.http.deadline_session import DeadlineSession
from tests.support.servers.receiver import Receiver, receiving

SECRET = SecretStr("whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
NOW = datetime.fromtimestamp(1_700_000_000, UTC)
PATIENCE_S = 120.0


def signal(**more: object) -> Signal:
    now = datetime.now(UTC)
    row = {
        "id": uuid.uuid4(),
        "user_id": uuid.uuid4(),
        "strategy_id": uuid.uuid4(),
        "symbol": "BTCUSDT",
        "payload": {"action": "BUY", "position_size_usd": "100.00"},
        "attempts": 1,
        "created_at": now,
        "expires_at": now + timedelta(seconds=60),
    }
    return Signal.model_validate(row | more)


@pytest.fixture
def session() -> Iterator[DeadlineSession]:
    made = DeadlineSession(2)
    yield made
    made.close()


def no_jitter() -> float:
    return 1.0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def test_the_receiver_can_verify_the_signature_and_the_id_is_the_signals(
    receiver: Receiver, session: DeadlineSession
) -> None:
    sent = signal()
    attempt = delivery.post(session, receiver.url, sent, SECRET, total_s=PATIENCE_S)
    assert attempt == delivery.DeliveryAttempt(SignalOutcome.DELIVERED, 200, "opened")
    headers, body = receiver.got[0]
    assert headers["webhook-id"] == str(sent.id)
    assert Webhook(SECRET.get_secret_value()).verify(body.decode(), headers) == sent.payload
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET.get_secret_value()).verify(body.decode() + " ", headers)


def test_the_secret_is_in_neither_the_headers_nor_the_body(receiver: Receiver, session: DeadlineSession) -> None:
    delivery.post(session, receiver.url, signal(), SECRET, total_s=PATIENCE_S)
    headers, body = receiver.got[0]
    assert SECRET.get_secret_value().removeprefix("whsec_") not in json.dumps(headers) + body.decode()


def test_a_redirect_is_not_followed_and_is_no_success(receiver: Receiver, session: DeadlineSession) -> None:
    receiver.answers = [(307, {"location": receiver.url}, b"")]
    assert delivery.post(session, receiver.url, signal(), SECRET, total_s=PATIENCE_S).outcome is SignalOutcome.REFUSED
    assert len(receiver.got) == 1


def test_a_receiver_that_is_not_there_is_tried_again(session: DeadlineSession) -> None:
    attempt = delivery.post(session, "http://127.0.0.1:9/none", signal(attempts=4), SECRET, no_jitter)
    assert (attempt.outcome, attempt.status, attempt.retry_in_s) == (SignalOutcome.RETRY, None, 4.0)


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, b"", SignalOutcome.DELIVERED),
        (204, b"", SignalOutcome.DELIVERED),
        (200, b'{"success":false,"error":"no funds"}', SignalOutcome.REFUSED),
        (301, b"", SignalOutcome.REFUSED),
        (400, b'{"error":"symbol"}', SignalOutcome.REFUSED),
        (401, b"", SignalOutcome.REFUSED),
        (409, b"", SignalOutcome.RETRY),
        (410, b"", SignalOutcome.DEAD),
        (413, b"", SignalOutcome.REFUSED),
        (429, b"slow down", SignalOutcome.RETRY),
        (429, b'{"data":{"limitType":"kill_switch","current":1,"limit":0}}', SignalOutcome.REFUSED),
        (500, b"", SignalOutcome.RETRY),
        (503, b"{", SignalOutcome.RETRY),
    ],
)
def test_each_status_has_one_meaning(status: int, body: bytes, outcome: SignalOutcome) -> None:
    attempt = delivery.classify_response(status, {}, body, 1, NOW)
    assert attempt.outcome is outcome
    assert (attempt.retry_in_s is not None) == (outcome is SignalOutcome.RETRY)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("2", 2.0),
        (" 120 ", 120.0),
        ("7.5", 7.5),
        ("2m", 120.0),
        ("Tue, 14 Nov 2023 22:13:30 GMT", 10.0),
        ("86400", delivery.MAX_RETRY_AFTER_S),
        ("soon", delivery.FIRST_RETRY_S),
        ("-5", delivery.FIRST_RETRY_S),
    ],
)
def test_the_next_attempt_is_made_when_the_receiver_asks_for_it(header: str, seconds: float) -> None:
    assert delivery.classify_response(503, {"retry-after": header}, b"", 1, NOW).retry_in_s == pytest.approx(seconds)


def test_the_peers_own_wish_goes_before_ours() -> None:
    assert delivery.classify_response(503, {"retry-after": "7"}, b"", 5, NOW).retry_in_s == 7.0


@given(st.integers(100, 599), st.binary(max_size=200), st.text(max_size=30))
def test_no_answer_can_raise(status: int, body: bytes, retry_after: str) -> None:
    assert delivery.classify_response(status, {"retry-after": retry_after}, body, 1, NOW).outcome in SignalOutcome


class Stubborn(threading.Thread):
    """Accepts connections, reads what comes and answers with `pieces`, one every 0.1 s for ever; nothing if empty."""

    def __init__(self, piece: bytes) -> None:
        super().__init__(daemon=True)
        self._piece = piece
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._closed = threading.Event()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"

    def run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    while not self._closed.wait(0.1):
                        connection.sendall(self._piece)

    def close(self) -> None:
        self._closed.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.join(30)


@pytest.mark.parametrize("piece", [b"", b"H", b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\nx"])
def test_one_attempt_ends_in_time_whatever_the_receiver_leaves_undone(session: DeadlineSession, piece: bytes) -> None:
    receiver = Stubborn(piece)
    receiver.start()
    try:
        attempt = delivery.post(session, receiver.url, signal(), SECRET, no_jitter, total_s=0.6)
        assert (attempt.outcome, attempt.status, attempt.retry_in_s) == (SignalOutcome.RETRY, None, 0.5)
    finally:
        receiver.close()


class Forgetful(threading.Thread):
    """Answers one POST on each connection as if it kept it, and drops it without a word."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.dropped = threading.Semaphore(0)
        self.got: list[bytes] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"

    def run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, connection.makefile("rb") as reader:
                    head = b"".join(iter(reader.readline, b"\r\n"))
                    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                    self.got.append(reader.read(length))
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                self.dropped.release()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.join(30)


def test_a_kept_connection_that_the_receiver_has_dropped_meanwhile_costs_no_signal(session: DeadlineSession) -> None:
    receiver = Forgetful()
    receiver.start()
    try:
        for sent in range(1, 4):
            attempt = delivery.post(session, receiver.url, signal(), SECRET, no_jitter, PATIENCE_S)
            assert (attempt.outcome, len(receiver.got)) == (SignalOutcome.DELIVERED, sent)
            assert receiver.dropped.acquire(timeout=PATIENCE_S)
    finally:
        receiver.close()


def test_without_a_wish_of_the_receiver_the_wait_doubles_and_is_spread_over_half_of_its_length() -> None:
    waits = [delivery.classify_response(503, {}, b"", 3, NOW, jitter).retry_in_s for jitter in (0.0, 1.0)]
    assert waits == [1.0, 2.0]


def test_what_came_too_late_for_the_receiver_has_expired() -> None:
    late = b'{"data":{"limitType":"stale_signal"}}'
    assert delivery.classify_response(429, {}, late, 1, NOW).outcome is SignalOutcome.EXPIRED
