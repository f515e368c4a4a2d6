"""The lease of the one engine: who has it, who may take it, and whose records are refused."""

from collections.abc import Callable
from threading import Thread
from uuid import UUID, uuid4

import pytest

from engine.domain.decision import Action
from engine.domain.errors import Superseded
from engine.domain.signal import SignalAction
from engine.store.cycles import CallRecord, DecisionRecord
from engine.store.store import Store
from tests.engine.store.conftest import Desk
from tests.support.clients.sql import as_owner
from tests.support.factories.signals import new_signal
from tests.support.processes.supervised import wait_for

HOME, OTHER_HOME = "boot/1/1", "boot/1/2"
TTL_S = 3_600.0

Engine = Callable[[], Store]


@pytest.fixture
def engine(store: Store) -> Engine:
    """Makes the store of another engine, which has a run of its own."""
    return lambda: Store(store.rpc, store.vault, uuid4())


@pytest.fixture
def strategy_id(desk: Desk) -> UUID:
    return desk.strategy().id


def take(engine: Store, home: str = HOME, *, is_new: bool = True, watched: bool = True) -> bool:
    """`watched`: as one that has seen the present lease unrenewed for long enough."""
    lease_holder = engine.get_engine_lease_holder() if watched else None
    unrenewed = None if lease_holder is None or lease_holder.left_s > 0 else lease_holder.until
    held = engine.hold_engine_lease(home, f"home {home}", TTL_S, is_new=is_new, expired_at=unrenewed)
    return held.run == engine.engine


def run_out(database_url: str) -> None:
    with as_owner(database_url) as sql:
        sql("update leases set until = clock_timestamp() where name = 'engine'")


def record(store: Store, strategy_id: UUID) -> UUID:
    decided = DecisionRecord(action=Action.CLOSE, symbol="BTCUSDT", confidence=0.9)
    row, decision_id = store.get_strategy(strategy_id), uuid4()
    assert row is not None
    signal = new_signal(row.user_id, strategy_id, decision_id, SignalAction.CLOSE)
    return store.record_decision(decision_id, strategy_id, decided, signal).decision_id


def test_one_engine_has_the_lease_and_keeps_it(engine: Engine) -> None:
    first, second = engine(), engine()
    assert take(first)
    assert not take(second, OTHER_HOME)
    assert take(first, is_new=False)
    lease_holder = second.get_engine_lease_holder()
    assert lease_holder is not None
    assert (lease_holder.run, lease_holder.epoch, lease_holder.location) == (first.engine, 1, f"home {HOME}")
    assert 0 < lease_holder.left_s <= TTL_S


def test_nobody_has_a_lease_that_no_engine_ever_took(store: Store) -> None:
    assert store.get_engine_lease_holder() is None


def test_who_comes_from_the_same_home_takes_it_at_once_and_a_late_renewal_takes_nothing_back(engine: Engine) -> None:
    killed, successor = engine(), engine()
    assert take(killed)
    assert take(successor)
    assert not take(killed, is_new=False)
    lease_holder = successor.get_engine_lease_holder()
    assert lease_holder is not None
    assert (lease_holder.run, lease_holder.epoch) == (successor.engine, 2)


def test_a_lease_that_ran_out_or_was_given_back_is_anybodys_and_the_epoch_goes_on(
    engine: Engine, database_url: str
) -> None:
    first, second, third = engine(), engine(), engine()
    assert take(first)
    run_out(database_url)
    assert take(second, OTHER_HOME)
    assert not first.release_engine_lease()
    assert second.release_engine_lease()
    assert take(third)
    lease_holder = third.get_engine_lease_holder()
    assert lease_holder is not None
    assert lease_holder.epoch == 3


def test_who_takes_over_from_another_home_is_told_and_learns_what_models_were_asked(
    engine: Engine, strategy_id: UUID, database_url: str
) -> None:
    first, same, other = engine(), engine(), engine()
    assert take(first)
    assert not same.hold_engine_lease(HOME, "", TTL_S, is_new=True).is_taken_over
    call = CallRecord(model="llama", outcome="ok", latency_s=0.1, prompt_tokens=100, completion_tokens=20)
    decided = DecisionRecord(action=Action.HOLD, calls=(call, call))
    same.record_decision(uuid4(), strategy_id, decided, None)
    run_out(database_url)
    seen = other.get_engine_lease_holder()
    assert seen is not None
    assert other.hold_engine_lease(OTHER_HOME, "", TTL_S, is_new=True, expired_at=seen.until).is_taken_over
    assert not other.hold_engine_lease(OTHER_HOME, "", TTL_S, is_new=False).is_taken_over
    (use,) = other.list_model_usage(60.0)
    assert (use.model, use.requests, use.tokens) == ("llama", 2, 240)
    with as_owner(database_url) as sql:
        sql("""update ai_trade_log set decision_json = '{"calls": [1, {"model": "m", "prompt_tokens": "many"}]}'""")
    (use,) = other.list_model_usage(60.0)
    assert (use.model, use.requests, use.tokens) == ("m", 1, 0)


def test_a_lease_that_ran_out_is_not_taken_by_who_has_not_seen_it_stand(engine: Engine, database_url: str) -> None:
    first, second = engine(), engine()
    assert take(first)
    run_out(database_url)
    assert not take(second, OTHER_HOME, watched=False)
    seen = second.get_engine_lease_holder()
    assert seen is not None
    assert take(first, is_new=False)
    assert second.hold_engine_lease(OTHER_HOME, "", TTL_S, is_new=True, expired_at=seen.until).run == first.engine


def test_a_lease_whose_end_lies_far_ahead_is_taken_once_nobody_renews_it(engine: Engine, database_url: str) -> None:
    first, second = engine(), engine()
    assert take(first)
    with as_owner(database_url) as sql:
        sql("update leases set until = clock_timestamp() + interval '1 day' where name = 'engine'")
    seen = second.get_engine_lease_holder()
    assert seen is not None
    assert second.hold_engine_lease(OTHER_HOME, "", TTL_S, is_new=True, expired_at=seen.until).run == second.engine


def test_the_webhook_server_of_an_engine_executes_only_while_that_one_runs(engine: Engine, database_url: str) -> None:
    first, second = engine(), engine()
    assert take(first)
    assert not second.hold_webhook_lease("second's", 5.0)
    assert first.hold_webhook_lease("first's", 5.0)
    run_out(database_url)
    assert take(second, OTHER_HOME)
    assert not first.hold_webhook_lease("first's", 5.0)
    assert second.hold_webhook_lease("second's", 5.0)


def test_what_an_engine_of_an_earlier_epoch_records_claims_or_pauses_is_refused(
    engine: Engine, store: Store, strategy_id: UUID, database_url: str
) -> None:
    frozen, present = engine(), engine()
    assert take(frozen)
    record(frozen, strategy_id)
    run_out(database_url)
    assert take(present, OTHER_HOME)
    refused: list[Callable[[], object]] = [
        lambda: record(frozen, strategy_id),
        lambda: frozen.claim_signals("frozen", 10, 60.0),
        lambda: frozen.release_signals(""),
        lambda: frozen.pause_strategy(strategy_id, "it was killed"),
        lambda: frozen.get_strategy_context(strategy_id),
    ]
    for attempt in refused:
        with pytest.raises(Superseded, match=f"another engine runs on this database: home {OTHER_HOME}"):
            attempt()
    assert len(store.list_decisions()) == 1
    assert [row.attempts for row in store.list_signals()] == [0]
    assert store.list_strategies()[0].status == "running"
    assert len(present.claim_signals("present", 10, 60.0)) == 1


def test_an_engine_whose_lease_ran_out_goes_on_until_somebody_takes_it(
    engine: Engine, strategy_id: UUID, database_url: str
) -> None:
    only = engine()
    assert take(only)
    run_out(database_url)
    record(only, strategy_id)
    assert len(only.claim_signals("only", 10, 60.0)) == 1
    assert take(only, is_new=False)


def test_who_names_no_engine_may_record_only_while_none_runs(
    engine: Engine, store: Store, strategy_id: UUID, database_url: str
) -> None:
    record(store, strategy_id)
    assert take(engine())
    with pytest.raises(Superseded):
        record(store, strategy_id)
    assert store.get_strategy_context(strategy_id) is not None
    run_out(database_url)
    record(store, strategy_id)


def test_a_record_that_waits_for_its_row_keeps_nobody_from_renewing_the_lease(
    engine: Engine, strategy_id: UUID, database_url: str
) -> None:
    only = engine()
    assert take(only)
    with as_owner(database_url) as sql:
        sql("begin")
        sql("select from ai_strategies where id = %s for update", strategy_id)
        waiting = Thread(target=record, args=(only, strategy_id))
        waiting.start()
        try:
            with as_owner(database_url) as other:
                waits = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
                wait_for(lambda: bool(other(waits)), "a record that waits")
            assert take(only, is_new=False)
        finally:
            sql("commit")
            waiting.join()
    assert len(only.list_decisions()) == 1
