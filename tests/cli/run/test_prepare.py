import time
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from actors.runtime import restart_policy
from actors.runtime.actor import M
from actors.runtime.child_spec import ChildSpec, RestartPolicy
from actors.runtime.messages import Ask, Message, Tick
from actors.runtime.restart_policy import Child, ChildState, RestartDecision
from cli.run import prepare
from engine.platform.errors import EXIT_CONFIGURATION, ConfigurationError
from engine.platform.settings.process_settings import ProcessSettings
from engine.platform.settings.settings import Settings
from engine.store.embedded.embedded_postgres import get_data_dir
from engine.store.store import Store
from engine.store.transport.postgres import PostgresRpc
from tests.support.factories.keys import ENCRYPTION_KEY
from tests.support.servers.forwarder import Forwarder
from tests.support.servers.ports import free_port


class NoPeers:
    """Preparing needs nobody else."""

    def ask(self, name: str, message: Ask, reply: type[M]) -> M:
        raise AssertionError(name, message, reply)

    def tell(self, name: str, message: Message) -> None:
        raise AssertionError(name, message)


def prepared(database_url: str, tasks: str, **more: Any) -> None:
    """Runs the one-shot child as its host does: one tick, then it must be finished."""
    settings = Settings(database_url=SecretStr(database_url), sparky_encryption_key=ENCRYPTION_KEY, **more)
    actor = prepare.make(settings, NoPeers(), tasks)
    ref = actor.start_instance()
    ref.ask(Tick(), timeout=60)
    assert actor.is_done
    ref.stop()


def test_an_empty_database_is_migrated_and_seeded_once(empty_database_url: str) -> None:
    for _ in range(2):
        prepared(empty_database_url, "migrate,demo")
    with Store(PostgresRpc(empty_database_url)) as store:
        assert len(store.list_strategies()) == 3


def test_with_candles_from_a_file_the_demo_trades_its_one_symbol(database_url: str) -> None:
    prepared(database_url, "demo", sparky_candles=Path("ETHUSDT-1m-2023-03.csv"))
    with Store(PostgresRpc(database_url)) as store:
        assert {row.target_assets for row in store.list_strategies()} == {("ETHUSDT",)}


def test_without_the_demo_task_nothing_is_created(empty_database_url: str) -> None:
    prepared(empty_database_url, "migrate")
    with Store(PostgresRpc(empty_database_url)) as store:
        assert store.list_strategies() == ()


@pytest.mark.parametrize("tasks", ["migrate", "demo", "migrate,demo"])
def test_a_database_that_is_away_is_waited_for_and_told_once(
    tasks: str, database_url: str, postgres_home: Path
) -> None:
    name = database_url.rpartition("/")[2].partition("?")[0]
    port = free_port()
    settings = Settings(
        database_url=SecretStr(f"postgresql://postgres@127.0.0.1:{port}/{name}"), sparky_encryption_key=ENCRYPTION_KEY
    )
    actor = prepare.make(settings, NoPeers(), tasks)
    ref = actor.start_instance()
    with capture_logs() as lines:
        for _ in range(3):
            asked = time.monotonic()
            assert cast("float", ref.ask(Tick(), timeout=60)) > asked
            assert not actor.is_done
        with Forwarder(get_data_dir(postgres_home) / ".s.PGSQL.5432", port):
            ref.ask(Tick(), timeout=60)
    assert actor.is_done
    ref.stop()
    assert [line["event"] for line in lines].count("waiting_for_database") == 1


def test_what_only_a_person_can_mend_ends_the_child(database_url: str) -> None:
    strange = database_url.replace("/test_", "/no_such_")
    actor = prepare.make(Settings(database_url=SecretStr(strange)), NoPeers(), "migrate")
    with pytest.raises(ConfigurationError, match="no_such_"):
        actor.tick(0.0)
    assert not actor.is_done


def test_nobody_starts_on_a_database_that_is_not_ready_yet() -> None:
    waiting, later = Child(a_spec("prepare", 1, RestartPolicy.TRANSIENT), 0), Child(a_spec("webhook", 2), 1)
    waiting.state, waiting.ever_ready = ChildState.RUNNING, True
    assert restart_policy.select_startable([waiting, later], 0.0, 8, is_leased=False) == []
    waiting.state = ChildState.DONE
    assert restart_policy.select_startable([waiting, later], 0.0, 8, is_leased=False) == [later]


def test_a_database_that_cannot_be_made_ready_once_it_is_there_ends_sparky() -> None:
    prepare_child = Child(a_spec("prepare", 1, RestartPolicy.TRANSIENT), 0)
    prepare_child.ever_ready = True  # it has waited
    assert restart_policy.decide_restart(prepare_child, EXIT_CONFIGURATION << 8, 0.0) is RestartDecision.GIVE_UP
    prepare_child.record_exit(0, RestartDecision.DONE)  # after a reload it runs again, beside all that works
    assert restart_policy.decide_restart(prepare_child, EXIT_CONFIGURATION << 8, 0.0) is RestartDecision.RESTART


def a_spec(name: str, stage: int, restart: RestartPolicy = RestartPolicy.PERMANENT) -> ChildSpec:
    return ChildSpec(name, "nowhere:make", "actor", stage, ProcessSettings(), restart=restart)


def test_the_demo_trades_at_the_market_that_is_named(database_url: str) -> None:
    prepared(database_url, "demo", sparky_market="binance")
    with Store(PostgresRpc(database_url)) as store:
        assert {row.exchange for row in store.list_strategies()} == {"binance"}


@pytest.mark.parametrize("market", [None, "aster", "simulator"])
def test_the_demo_trades_at_aster_where_no_other_market_is_named(database_url: str, market: str | None) -> None:
    prepared(database_url, "demo", sparky_market=market)
    with Store(PostgresRpc(database_url)) as store:
        assert {row.exchange for row in store.list_strategies()} == {"aster"}
