"""Every signal reaches one end, in its lane's order, whoever dispatches."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID

import pytest

from engine.domain.decision import Action
from engine.domain.signal import SignalOutcome
from engine.platform.errors import ConfigurationError
from engine.store.cycles import DeliveryOutcome
from engine.store.store import Store
from engine.store.transport.postgres import PostgresRpc
from tests.support.clients.sql import Sql

from .conftest import Desk


def _claim(store: Store, owner: str = "a", limit: int = 100, lease_s: float = 30) -> list[UUID]:
    return [signal.id for signal in store.claim_signals(owner, limit, lease_s)]


def _settle(
    store: Store,
    signal_id: UUID,
    owner: str,
    outcome: SignalOutcome,
    status: int,
    reason: str | None = None,
    retry_in_s: float | None = None,
) -> bool:
    told = DeliveryOutcome(signal_id=signal_id, outcome=outcome, status=status, reason=reason, retry_in_s=retry_in_s)
    return store.record_delivery_outcomes(owner, [told]) == {signal_id}


def test_only_the_oldest_open_signal_of_a_lane_is_claimed(desk: Desk, store: Store) -> None:
    one, two = desk.strategy("one"), desk.strategy("two")
    first = desk.decide(one.id, Action.LONG, "BTCUSDT").decision_id
    second = desk.decide(one.id, Action.CLOSE, "BTCUSDT").decision_id
    other_symbol = desk.decide(one.id, Action.LONG, "ETHUSDT").decision_id
    other_strategy = desk.decide(two.id, Action.LONG, "BTCUSDT").decision_id

    assert _claim(store) == [first, other_symbol, other_strategy]
    assert _claim(store) == []

    assert _settle(store, first, "a", SignalOutcome.DELIVERED, 200)
    assert _claim(store) == [second]
    assert store.count_pending_signals() == 3


def test_a_signal_waiting_for_its_retry_holds_its_lane(desk: Desk, store: Store, sql: Sql) -> None:
    strategy = desk.strategy()
    first = desk.decide(strategy.id).decision_id
    desk.decide(strategy.id, Action.CLOSE)
    _claim(store)

    assert _settle(store, first, "a", SignalOutcome.RETRY, 503, "venue unreachable", 30)
    assert _claim(store) == []

    sql("update signal_outbox set next_attempt_at = now() where id = %s", first)
    (claimed,) = store.claim_signals("a", 100, 30)
    assert (claimed.id, claimed.attempts) == (first, 2)


def test_the_limit_is_kept(desk: Desk, store: Store) -> None:
    strategy = desk.strategy()
    ids = [desk.decide(strategy.id, symbol=f"COIN{n}USDT").decision_id for n in range(5)]

    assert _claim(store, limit=2) == ids[:2]
    assert _claim(store, limit=2) == ids[2:4]
    assert _claim(store, limit=0) == []


def test_two_dispatchers_at_once_never_claim_the_same_signal(desk: Desk, store: Store, database_url: str) -> None:
    strategies = [desk.strategy(f"s{n}") for n in range(20)]
    ids = {desk.decide(row.id, symbol=symbol).decision_id for row in strategies for symbol in ("BTCUSDT", "ETHUSDT")}
    barrier = Barrier(4)

    def dispatch(owner: str) -> list[UUID]:
        with Store(PostgresRpc(database_url, keep=True)) as own:
            barrier.wait(30)
            claimed: list[UUID] = []
            while batch := _claim(own, owner, limit=3):
                claimed += batch
            return claimed

    with ThreadPoolExecutor(4) as pool:
        claims = [signal for batch in pool.map(dispatch, "abcd") for signal in batch]

    assert len(claims) == len(set(claims))
    left = set(_claim(store, "e"))  # a dispatcher may have seen nothing while the others held rows locked
    assert set(claims) | left == ids


def test_a_lease_that_ran_out_is_claimed_by_another_and_the_first_settles_nothing(
    desk: Desk, store: Store, sql: Sql
) -> None:
    signal_id = desk.decide(desk.strategy().id).decision_id
    assert _claim(store, "slow") == [signal_id]
    assert _claim(store, "quick") == []

    sql("update signal_outbox set lease_until = now() - interval '1 second'")
    assert _claim(store, "quick") == [signal_id]

    assert not _settle(store, signal_id, "slow", SignalOutcome.DELIVERED, 200)
    assert _settle(store, signal_id, "quick", SignalOutcome.DELIVERED, 200)
    assert not _settle(store, signal_id, "quick", SignalOutcome.DEAD, 500)
    assert [row.status for row in store.list_signals()] == ["delivered"]


@pytest.mark.parametrize("outcome", [SignalOutcome.DELIVERED, SignalOutcome.REFUSED, SignalOutcome.DEAD])
def test_an_end_is_kept_with_its_attempt(desk: Desk, store: Store, sql: Sql, outcome: SignalOutcome) -> None:
    signal_id = desk.decide(desk.strategy().id).decision_id
    _claim(store)

    assert _settle(store, signal_id, "a", outcome, 429, "too many")

    (row,) = store.list_signals(status=outcome.value)
    assert (row.last_status, row.last_reason, row.attempts) == (429, "too many", 1)
    assert row.settled_at is not None
    assert store.count_pending_signals() == 0
    assert _claim(store) == []
    assert sql("select attempt, owner, outcome, status, reason, started_at <= ended_at from signal_attempts") == [
        (1, "a", outcome.value, 429, "too many", True)
    ]


def test_a_retry_beyond_the_signals_end_is_its_end(desk: Desk, store: Store, sql: Sql) -> None:
    signal_id = desk.decide(desk.strategy().id, ttl_s=60).decision_id
    _claim(store)

    assert _settle(store, signal_id, "a", SignalOutcome.RETRY, 503, "down", 61)

    assert [row.status for row in store.list_signals()] == ["expired"]
    assert sql("select outcome, status from signal_attempts") == [("expired", 503)]


def test_an_overdue_signal_expires_and_frees_its_lane(desk: Desk, store: Store, sql: Sql) -> None:
    strategy = desk.strategy()
    late = desk.decide(strategy.id).decision_id
    fresh = desk.decide(strategy.id, Action.CLOSE).decision_id
    sql("update signal_outbox set expires_at = now() where id = %s", late)

    assert _claim(store) == [fresh]

    assert [row.id for row in store.list_signals(status="expired")] == [late]
    assert sql("select attempt, outcome, reason from signal_attempts") == [
        (0, "expired", "expired before it was delivered")
    ]


def test_an_overdue_signal_in_delivery_is_left_to_its_dispatcher(desk: Desk, store: Store, sql: Sql) -> None:
    signal_id = desk.decide(desk.strategy().id).decision_id
    _claim(store)
    sql("update signal_outbox set expires_at = now()")

    assert _claim(store, "b") == []

    assert _settle(store, signal_id, "a", SignalOutcome.DELIVERED, 200)


def test_an_unknown_outcome_is_refused(store: Store, desk: Desk) -> None:
    signal_id = desk.decide(desk.strategy().id).decision_id

    with pytest.raises(ConfigurationError, match="cannot end so"):
        store.rpc.call("settle_signals", owner="a", settlements=[{"signal_id": str(signal_id), "outcome": "eaten"}])
