"""The dispatcher between a real outbox and a real HTTP receiver."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from actors.dispatcher import Dispatcher
from actors.messages import OutboxState, SignalAttempted, SignalQueued
from actors.runtime.messages import Tick
from engine.admin.strategy_checks import NewStrategy
from engine.domain.decision import Action
from engine.domain.errors import Superseded
from engine.domain.signal import Signal
from engine.domain.strategy import StrategyStatus
from engine.platform.encryption import SecretCipher
from engine.platform.errors import DatabaseUnavailable
from engine.store.cycles import DecisionRecord
from engine.store.store import Store
from engine.store.transport.postgres import PostgresRpc
from engine.store.transport.rpc import Rpc
from tests.support.clients.events import PATIENCE_S, Ear
from tests.support.factories.keys import OTHER_KEY, vault
from tests.support.factories.signals import new_signal
from tests.support.processes.supervised import wait_for
from tests.support.servers.receiver import Receiver, receiving

SECRET = SecretStr("whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def strategy_id(store: Store) -> UUID:
    user = store.ensure_user("trader@example.org")
    store.set_webhook_secret(user, SECRET)
    new = NewStrategy(user_id=user, name="one", status=StrategyStatus.RUNNING)
    return store.create_strategy(new).id


def leave_signal(store: Store, strategy_id: UUID, symbol: str = "BTCUSDT", ttl_s: float = 600.0) -> UUID:
    """A decision with its signal in the outbox; the signal's id."""
    record = DecisionRecord(action=Action.LONG, symbol=symbol, size_usd=Decimal(100), confidence=0.9)
    row, decision_id = store.get_strategy(strategy_id), uuid4()
    assert row is not None
    signal = new_signal(row.user_id, strategy_id, decision_id, symbol=symbol, ttl_s=ttl_s)
    recorded = store.record_decision(decision_id, strategy_id, record, signal)
    assert recorded.signal_id is not None
    return recorded.signal_id


class Running:
    def __init__(self, store: Store, url: str, *, is_alone: bool = False) -> None:
        self.ear = Ear()
        self.actor = Dispatcher(store, self.ear, url, is_alone=is_alone)
        self.ref = self.actor.start_instance()
        self.tick()

    def tick(self) -> None:
        self.ref.ask(Tick(), timeout=60)


@pytest.fixture
def running(store: Store, receiver: Receiver) -> Iterator[Running]:
    made = Running(store, receiver.url)
    yield made
    made.actor.close(PATIENCE_S)
    made.ref.stop()


def test_a_signal_is_delivered_when_it_is_announced(
    running: Running, store: Store, strategy_id: UUID, receiver: Receiver
) -> None:
    signal_id = leave_signal(store, strategy_id)
    running.ref.tell(SignalQueued(signal_id=signal_id))
    (attempt,) = running.ear.wait_for(SignalAttempted)
    assert (attempt.signal_id, attempt.outcome, attempt.status) == (signal_id, "delivered", 200)
    assert receiver.got[0][0]["webhook-id"] == str(signal_id)
    assert [row.status for row in store.list_signals()] == ["delivered"]


def test_a_signal_nobody_announced_is_found_by_the_next_tick(running: Running, store: Store, strategy_id: UUID) -> None:
    leave_signal(store, strategy_id)
    running.tick()
    assert running.ear.wait_for(SignalAttempted)[0].outcome == "delivered"
    assert running.ear.of(OutboxState)


def test_a_failed_delivery_is_tried_again_until_it_succeeds(
    running: Running, store: Store, strategy_id: UUID, receiver: Receiver
) -> None:
    statuses = (503, 429, 500)
    receiver.answers = [*((status, {"retry-after": "0"}, b"") for status in statuses), (200, {}, b"{}")]
    leave_signal(store, strategy_id)
    deadline = time.monotonic() + PATIENCE_S
    while len(running.ear.of(SignalAttempted)) < 4 and time.monotonic() < deadline:
        running.tick()
    told = running.ear.wait_for(SignalAttempted, count=4)
    assert [(each.outcome, each.status) for each in told] == [
        *(("retry", status) for status in statuses),
        ("delivered", 200),
    ]
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1


def test_signals_of_one_strategy_and_symbol_go_in_order_and_one_at_a_time(
    running: Running, store: Store, strategy_id: UUID, receiver: Receiver
) -> None:
    ids = [leave_signal(store, strategy_id) for _ in range(4)]
    running.ref.tell(SignalQueued(signal_id=ids[0]))
    running.ear.wait_for(SignalAttempted, count=4)
    assert [headers["webhook-id"] for headers, _ in receiver.got] == [str(signal_id) for signal_id in ids]


def test_a_refusal_is_final_and_says_why(running: Running, store: Store, strategy_id: UUID, receiver: Receiver) -> None:
    refusal = b'{"success":false,"error":"Risk limit exceeded","data":{"limitType":"kill_switch"}}'
    receiver.answers = [(429, {}, refusal)]
    running.ref.tell(SignalQueued(signal_id=leave_signal(store, strategy_id)))
    (attempt,) = running.ear.wait_for(SignalAttempted)
    assert (attempt.outcome, attempt.reason) == ("refused", "Risk limit exceeded")
    running.tick()
    assert len(receiver.got) == 1


def test_two_dispatchers_at_once_send_every_signal_once(store: Store, strategy_id: UUID, receiver: Receiver) -> None:
    symbols = [f"COIN{number}USDT" for number in range(30)]
    sent = {str(leave_signal(store, strategy_id, symbol)) for symbol in symbols}
    both = [Running(store, receiver.url) for _ in range(2)]
    for running in both:
        running.actor.close(PATIENCE_S)
        running.ref.stop()
    got = [headers["webhook-id"] for headers, _ in receiver.got]
    assert sorted(got) == sorted(sent)


def test_closing_flushes_what_is_due(store: Store, strategy_id: UUID, receiver: Receiver) -> None:
    running = Running(store, receiver.url)
    sent = {str(leave_signal(store, strategy_id, f"COIN{number}USDT")) for number in range(20)}
    running.actor.close(PATIENCE_S)
    running.ref.stop()
    assert {headers["webhook-id"] for headers, _ in receiver.got} == sent


def test_closing_flushes_what_became_due_while_nothing_was_found(
    store: Store, strategy_id: UUID, receiver: Receiver
) -> None:
    """The stop comes after a look that found nothing, and before the dispatcher has acted on it."""
    looked, goes_on = threading.Event(), threading.Event()

    class SlowStore(Store):
        def claim_signals(self, owner: str, limit: int, lease_s: float) -> tuple[Signal, ...]:
            claimed = super().claim_signals(owner, limit, lease_s)
            looked.set()
            assert goes_on.wait(PATIENCE_S)
            return claimed

    running = Running(SlowStore(store.rpc, store.vault), receiver.url)
    assert looked.wait(PATIENCE_S)
    sent = str(leave_signal(store, strategy_id))
    with ThreadPoolExecutor(1) as pool:
        closed = pool.submit(running.actor.close, PATIENCE_S)
        wait_for(running.actor._stopping.is_set, "the stop")
        goes_on.set()
        closed.result(PATIENCE_S)
    running.ref.stop()
    assert [headers["webhook-id"] for headers, _ in receiver.got] == [sent]


def test_a_user_without_a_webhook_secret_ends_the_signal_with_the_reason(
    running: Running, store: Store, receiver: Receiver
) -> None:
    user = store.ensure_user("nobody@example.org")
    new = NewStrategy(user_id=user, name="no secret", status=StrategyStatus.RUNNING)
    running.ref.tell(SignalQueued(signal_id=leave_signal(store, store.create_strategy(new).id)))
    (attempt,) = running.ear.wait_for(SignalAttempted)
    assert (attempt.outcome, attempt.reason) == ("dead", "the user has no webhook secret")
    assert receiver.got == []


def test_a_secret_that_is_sealed_with_another_key_ends_no_signal(
    store: Store, strategy_id: UUID, receiver: Receiver
) -> None:
    leave_signal(store, strategy_id)
    running = Running(Store(store.rpc, SecretCipher(OTHER_KEY)), receiver.url)
    (attempt,) = running.ear.wait_for(SignalAttempted)
    running.ref.stop()
    assert (attempt.outcome, attempt.status) == ("retry", None)
    assert "sealed with key" in str(attempt.reason)
    assert [row.status for row in store.list_signals()] == ["pending"]


def test_a_successor_goes_on_at_once_with_what_its_predecessor_held(
    store: Store, strategy_id: UUID, receiver: Receiver
) -> None:
    signal_id = leave_signal(store, strategy_id)
    store.claim_signals("dead", 1, 3_600)
    made = Running(store, receiver.url, is_alone=True)
    (attempt,) = made.ear.wait_for(SignalAttempted)
    made.actor.close(PATIENCE_S)
    made.ref.stop()
    assert attempt.signal_id == signal_id
    shown = store.get_signal(signal_id)
    assert shown is not None
    assert [(each.attempt, each.outcome) for each in shown.history] == [(1, "retry"), (2, "delivered")]
    assert "never said" in str(shown.history[0].reason)


def test_a_retry_that_would_come_after_the_signals_end_is_its_end(
    running: Running, store: Store, strategy_id: UUID, receiver: Receiver
) -> None:
    receiver.answers = [(503, {"retry-after": "3600"}, b"")]
    running.ref.tell(SignalQueued(signal_id=leave_signal(store, strategy_id)))
    running.ear.wait_for(SignalAttempted)
    assert [row.status for row in store.list_signals()] == ["expired"]


def test_a_receiver_that_wants_to_be_left_alone_is_left_alone_for_so_long(
    running: Running, store: Store, strategy_id: UUID, receiver: Receiver
) -> None:
    receiver.answers = [(429, {"retry-after": "300"}, b""), (200, {}, b"{}")]
    signal_id = leave_signal(store, strategy_id)
    running.ref.tell(SignalQueued(signal_id=signal_id))
    running.ear.wait_for(SignalAttempted)
    for _ in range(5):
        running.tick()
    shown = store.get_signal(signal_id)
    assert shown is not None
    assert (len(receiver.got), shown.status) == (1, "pending")
    assert [(each.outcome, each.status) for each in shown.history] == [("retry", 429)]


def test_a_redirect_is_the_end_and_is_not_followed(
    running: Running, store: Store, strategy_id: UUID, receiver: Receiver
) -> None:
    receiver.answers = [(308, {"location": receiver.url}, b"")]
    running.ref.tell(SignalQueued(signal_id=leave_signal(store, strategy_id)))
    running.ear.wait_for(SignalAttempted)
    assert [row.status for row in store.list_signals()] == ["refused"]
    assert len(receiver.got) == 1


def test_a_receiver_that_is_gone_for_good_ends_the_signal(
    running: Running, store: Store, strategy_id: UUID, receiver: Receiver
) -> None:
    receiver.answers = [(410, {}, b"")]
    running.ref.tell(SignalQueued(signal_id=leave_signal(store, strategy_id)))
    running.ear.wait_for(SignalAttempted)
    assert [row.status for row in store.list_signals()] == ["dead"]


class Unplugged:
    """A database that can be out of reach."""

    def __init__(self, rpc: Rpc, failure: Exception | None = None) -> None:
        self._rpc = rpc
        self._failure = failure or DatabaseUnavailable("unplugged")
        self.is_away = False
        self.refused_claims = 0

    def call(self, function: str, /, **arguments: object) -> Any:
        if self.is_away:
            self.refused_claims += function == "claim_signals"
            raise self._failure
        return self._rpc.call(function, **arguments)

    def close(self) -> None:
        self._rpc.close()


def test_an_outbox_that_is_away_is_told_once_and_once_when_it_is_back(
    database_url: str, store: Store, strategy_id: UUID, receiver: Receiver
) -> None:
    cable = Unplugged(PostgresRpc(database_url, keep=True))
    with capture_logs() as lines, Store(cable, vault()) as pluggable:
        running = Running(pluggable, receiver.url)
        cable.is_away = True
        deadline = time.monotonic() + PATIENCE_S
        while cable.refused_claims < 5:
            assert time.monotonic() < deadline
            running.tick()
        cable.is_away = False
        leave_signal(store, strategy_id)
        running.tick()
        assert running.ear.wait_for(SignalAttempted)[0].outcome == "delivered"
        running.actor.close(PATIENCE_S)
        running.ref.stop()
    told = [line["event"] for line in lines]
    assert (told.count("outbox_unavailable"), told.count("outbox_recovered")) == (1, 1)


@pytest.mark.parametrize("failure", [DatabaseUnavailable("away"), Superseded("another engine runs")])
def test_what_a_predecessor_held_goes_on_once_the_database_is_back_that_was_away_at_the_start(
    failure: Exception, database_url: str, store: Store, strategy_id: UUID, receiver: Receiver
) -> None:
    signal_id = leave_signal(store, strategy_id)
    store.claim_signals("dead", 1, 3_600)
    cable = Unplugged(PostgresRpc(database_url, keep=True), failure)
    cable.is_away = True
    with Store(cable, vault()) as pluggable:
        running = Running(pluggable, receiver.url, is_alone=True)
        running.tick()
        assert receiver.got == []
        cable.is_away = False
        running.tick()
        (attempt,) = running.ear.wait_for(SignalAttempted)
        running.actor.close(PATIENCE_S)
        running.ref.stop()
    assert (attempt.signal_id, attempt.outcome) == (signal_id, "delivered")
