"""The lease's actor: what it tells the supervisor and the monitor, and when it gives up."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from actors.engine_lease import (
    OUTAGE_GRACE_S,
    STANDBY_POLL_S,
    STOP_AFTER_S,
    TTL_S,
    EngineLease,
    LeaseObserver,
    home_identity,
)
from actors.messages import EngineState, PriorLlmUsage
from actors.runtime.messages import Ask, LeaseDeadline, Message
from engine.admin.strategy_checks import NewStrategy
from engine.domain.decision import Action
from engine.domain.strategy import StrategyStatus
from engine.platform.encryption import SecretCipher
from engine.platform.errors import AnotherEngineRuns, ConfigurationError, DatabaseUnavailable
from engine.store.cycles import CallRecord, DecisionRecord
from engine.store.store import Store
from tests.support.clients.sql import as_owner
from tests.support.factories.keys import ENCRYPTION_KEY, OTHER_KEY


class Ear:
    """Hears what is told, by the name of the peer."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Message]] = []

    def ask(self, name: str, _message: Ask, _reply: type[Any]) -> Any:
        raise AssertionError(f"nobody is asked, not {name}")

    def tell(self, name: str, message: Message) -> None:
        self.told.append((name, message))

    def last(self) -> tuple[float, str]:
        """Until when who needs the lease may run, and how the monitor is told that it stands."""
        held = [message for name, message in self.told if name == "supervisor" and isinstance(message, LeaseDeadline)]
        states = [message for name, message in self.told if name == "monitor" and isinstance(message, EngineState)]
        return (held[-1].stop_by if held else 0.0), states[-1].state


class Lost:
    """A database that can be away."""

    def __init__(self, store: Store) -> None:
        self.rpc = store.rpc
        self.is_away = False

    def call(self, function: str, /, **arguments: object) -> Any:
        if self.is_away:
            raise DatabaseUnavailable("connection refused")
        return self.rpc.call(function, **arguments)

    def close(self) -> None:
        self.rpc.close()


Make = Callable[..., tuple[EngineLease, Ear]]


@pytest.fixture
def line(store: Store) -> Lost:
    return Lost(store)


@pytest.fixture
def make(line: Lost) -> Make:
    def made(
        home: str, *, is_standby: bool = False, run: UUID | None = None, key: SecretStr = ENCRYPTION_KEY
    ) -> tuple[EngineLease, Ear]:
        ear, opened = Ear(), Store(line, SecretCipher(key), run or uuid4())
        return EngineLease(opened, ear, home, f"{home} on host", is_standby=is_standby), ear

    return made


def test_an_engine_with_the_lease_may_run_for_a_while_after_each_renewal(make: Make) -> None:
    lease, ear = make("one")
    before = time.monotonic()
    assert lease.tick(before) > before
    assert ear.last() == (before + STOP_AFTER_S, "running")


def test_a_second_engine_ends_with_a_sentence_that_says_where_the_first_runs(make: Make, database_url: str) -> None:
    first, _ = make("one")
    first.tick(time.monotonic())
    with as_owner(database_url) as sql:  # so that it does not run out while a busy machine does other things
        sql("update leases set until = until + interval '1 hour' where name = 'engine'")
    second, _ = make("two")
    with pytest.raises(
        AnotherEngineRuns, match=r"another engine runs on this database: one on host, since .* UTC; stop"
    ):
        second.tick(time.monotonic())


def test_a_lease_lasts_so_long_that_a_standby_runs_within_6_s(make: Make, store: Store) -> None:
    make("one")[0].tick(time.monotonic())
    lease_holder = store.get_engine_lease_holder()
    assert lease_holder is not None
    assert lease_holder.left_s <= TTL_S
    assert TTL_S + STANDBY_POLL_S <= 5.0  # the rest is for those who need the lease to start


def test_a_lease_actor_that_is_replaced_keeps_what_its_engine_has(make: Make) -> None:
    run = uuid4()
    first, _ = make("one", run=run)
    first.tick(time.monotonic())
    first.close(1.0)
    standby, its_ear = make("two", is_standby=True)
    standby.tick(time.monotonic())
    assert its_ear.last() == (0.0, "standing by")
    again, ear = make("one", run=run)
    again.tick(time.monotonic())
    assert ear.last()[1] == "running"


def test_a_lease_of_others_is_theirs_until_it_has_stood_unrenewed_before_our_eyes() -> None:
    watch, end, later = LeaseObserver(), datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    assert watch.find_expired_lease(0.0) is None
    watch.observe(end, 10.0)
    assert watch.find_expired_lease(10.0 + TTL_S - 0.1) is None
    watch.observe(end, 12.0)
    assert watch.find_expired_lease(10.0 + TTL_S) == end
    watch.observe(later, 15.0)
    assert watch.find_expired_lease(16.0) is None


def test_after_an_outage_the_holder_has_the_first_word() -> None:
    watch, end = LeaseObserver(), datetime(2026, 1, 1, tzinfo=UTC)
    watch.observe(end, 10.0)
    watch.reset_after_outage()
    assert watch.find_expired_lease(1_000.0) is None
    watch.observe(end, 1_000.0)
    assert watch.find_expired_lease(1_000.0 + TTL_S) is None
    assert watch.find_expired_lease(1_000.0 + OUTAGE_GRACE_S) == end


def test_once_the_holder_has_renewed_after_an_outage_a_standby_is_as_quick_as_before() -> None:
    watch, end, renewed = LeaseObserver(), datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    watch.reset_after_outage()
    watch.observe(end, 10.0)
    watch.observe(renewed, 11.0)
    assert watch.find_expired_lease(11.0 + TTL_S) == renewed


def test_an_engine_whose_key_opens_nothing_takes_no_lease(make: Make, store: Store) -> None:
    store.set_webhook_secret(store.ensure_user("trader@example.org"), SecretStr("whsec_" + "c2VjcmV0" * 4))
    first, _ = make("one", key=OTHER_KEY)
    with pytest.raises(ConfigurationError, match="sealed with"):
        first.tick(time.monotonic())
    standby, ear = make("two", is_standby=True, key=OTHER_KEY)
    standby.tick(time.monotonic())
    assert ear.last() == (0.0, "standing by")
    assert store.get_engine_lease_holder() is None
    right, its_ear = make("three")
    right.tick(time.monotonic())
    assert its_ear.last()[1] == "running"


def test_a_standby_waits_and_takes_over_what_was_given_back(make: Make) -> None:
    first, _ = make("one")
    first.tick(time.monotonic())
    second, ear = make("two", is_standby=True)
    second.tick(time.monotonic())
    assert ear.last() == (0.0, "standing by")
    first.store.release_engine_lease()
    second.tick(time.monotonic())
    assert ear.last()[1] == "running"


def test_an_engine_that_lost_its_lease_leaves_and_so_does_a_standby(make: Make, database_url: str) -> None:
    for is_standby in (False, True):
        loser, ear = make(f"loser {is_standby}", is_standby=is_standby)
        with as_owner(database_url) as sql:
            sql("update leases set until = clock_timestamp(), is_released = true where name = 'engine'")
            loser.tick(time.monotonic())
            sql("update leases set until = clock_timestamp(), is_released = true where name = 'engine'")
            make("winner")[0].tick(time.monotonic())
        with pytest.raises(AnotherEngineRuns, match="this engine's lease was taken"):
            loser.tick(time.monotonic())
        assert ear.last()[0] == 0.0


def test_without_the_database_an_engine_that_runs_goes_on_and_one_that_begins_waits(make: Make, line: Lost) -> None:
    running, ear = make("one")
    running.tick(time.monotonic())
    line.is_away = True
    before = time.monotonic()
    running.tick(before)
    stop_by, state = ear.last()
    assert stop_by >= before + STOP_AFTER_S
    assert state == "waiting"
    beginning, its_ear = make("two")
    beginning.tick(time.monotonic())
    assert its_ear.last() == (0.0, "waiting")


def test_a_home_is_itself_under_every_path_and_a_copy_is_another_one(tmp_path: Any) -> None:
    home, copy, link = tmp_path / "home", tmp_path / "copy", tmp_path / "link"
    home.mkdir()
    copy.mkdir()
    link.symlink_to(home)
    assert home_identity(home) == home_identity(link) != home_identity(copy)


def test_who_takes_over_from_another_home_tells_the_limiter_what_models_were_asked(
    make: Make, store: Store, database_url: str
) -> None:
    user = store.ensure_user("trader@example.org")
    strategy_id = store.create_strategy(NewStrategy(user_id=user, name="one", status=StrategyStatus.RUNNING)).id
    make("one")[0].tick(time.monotonic())
    call = CallRecord(model="llama", outcome="ok", latency_s=0.1, prompt_tokens=100, completion_tokens=20)
    with as_owner(database_url) as sql:
        sql("update leases set until = clock_timestamp(), is_released = true where name = 'engine'")
    store.record_decision(uuid4(), strategy_id, DecisionRecord(action=Action.HOLD, calls=(call,)), None)
    second, ear = make("two")
    second.tick(time.monotonic())
    second.tick(time.monotonic())
    [(name, told)] = [(name, message) for name, message in ear.told if isinstance(message, PriorLlmUsage)]
    assert name == "limiter"
    assert [(asked.model, asked.requests, asked.tokens) for asked in told.asked] == [("llama", 1, 120)]
