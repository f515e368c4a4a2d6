"""The strategy watcher between a real database and a supervisor that listens."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pykka
import pytest
from pydantic import SecretStr

from actors.messages import StrategyChanged
from actors.runtime.messages import ChildParked, DesiredChildren, Tick
from actors.strategy_process_names import build_process_name
from actors.strategy_watcher import StrategyWatcher
from engine.admin.strategy_checks import NewStrategy
from engine.domain.strategy import StrategyStatus
from engine.store.store import Store
from engine.store.transport.postgres import PostgresRpc
from tests.support.clients.events import Ear


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def watcher(store: Store, ear: Ear) -> Iterator[pykka.ActorRef[StrategyWatcher]]:
    ref = StrategyWatcher(store, ear, 1.0).start_instance()
    yield ref
    ref.stop()


def running_strategy(store: Store, name: str) -> uuid.UUID:
    user = store.ensure_user("trader@example.org")
    return store.create_strategy(NewStrategy(user_id=user, name=name, status=StrategyStatus.RUNNING)).id


def wanted_now(watcher: pykka.ActorRef[StrategyWatcher], ear: Ear) -> set[str]:
    watcher.ask(Tick(), timeout=60)
    return {child.title for child in ear.of(DesiredChildren)[-1].children}


def test_exactly_the_running_strategies_are_wanted(
    watcher: pykka.ActorRef[StrategyWatcher], ear: Ear, store: Store
) -> None:
    running_strategy(store, "one")
    two = running_strategy(store, "two")
    assert wanted_now(watcher, ear) == {"one", "two"}
    store.set_strategy_status(two, StrategyStatus.PAUSED)
    assert wanted_now(watcher, ear) == {"one"}


def test_a_parked_strategy_is_paused_with_the_reason_and_its_last_words(
    watcher: pykka.ActorRef[StrategyWatcher], ear: Ear, store: Store
) -> None:
    strategy_id = running_strategy(store, "unlucky")
    (wanted,) = store.list_running_strategies()
    why = {"reason": "parked after 6 crashes", "traceback": "Traceback …"}
    watcher.tell(ChildParked(name=build_process_name(strategy_id), revision=wanted.revision, **why))
    assert wanted_now(watcher, ear) == set()
    row = store.get_strategy(strategy_id)
    assert row is not None
    assert (row.status, row.paused_reason, row.paused_traceback) == ("paused", "parked after 6 crashes", "Traceback …")
    assert row.paused_at is not None


def test_a_row_that_somebody_has_changed_since_is_not_paused_for_what_was_before(
    watcher: pykka.ActorRef[StrategyWatcher], ear: Ear, store: Store
) -> None:
    strategy_id = running_strategy(store, "resumed")
    (before,) = store.list_running_strategies()
    store.set_strategy_status(strategy_id, StrategyStatus.PAUSED)
    store.set_strategy_status(strategy_id, StrategyStatus.RUNNING)
    watcher.tell(
        ChildParked(name=build_process_name(strategy_id), revision=before.revision, reason="parked after 6 crashes")
    )
    assert wanted_now(watcher, ear) == {"resumed"}


def test_a_changed_row_is_told_to_its_strategy(
    watcher: pykka.ActorRef[StrategyWatcher], ear: Ear, store: Store
) -> None:
    strategy_id = running_strategy(store, "one")
    wanted_now(watcher, ear)
    assert ear.of(StrategyChanged) == []
    store.set_strategy_status(strategy_id, StrategyStatus.PAUSED)
    store.set_strategy_status(strategy_id, StrategyStatus.RUNNING)
    wanted_now(watcher, ear)
    assert [name for name, message in ear.told if isinstance(message, StrategyChanged)] == [f"strategy-{strategy_id}"]


def test_while_the_database_is_away_the_supervisor_hears_nothing(ear: Ear, tmp_path: Path) -> None:
    away = Store(PostgresRpc(SecretStr(f"postgresql:///none?host={tmp_path}"), keep=True))
    ref = StrategyWatcher(away, ear, 1.0).start_instance()
    ref.tell(ChildParked(name=build_process_name(uuid.uuid4()), revision="1", reason="kept until it can be written"))
    ref.ask(Tick(), timeout=60)
    assert ear.told == []
    ref.stop()
    away.close()
