from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from actors.actor import M
from actors.messages import Ask, Message, Tick
from console import prepare
from engine.errors import SparkyError
from engine.settings import Settings
from engine.store.postgres import PostgresRpc
from engine.store.store import Store
from tests.support.keys import ENCRYPTION_KEY


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
    ref = actor.launch()
    ref.ask(Tick(), timeout=60)
    assert actor.finished
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


def test_a_database_that_is_down_ends_the_child_with_the_reason() -> None:
    actor = prepare.make(Settings(database_url=SecretStr("postgresql://x@127.0.0.1:1/x")), NoPeers(), "migrate")
    with pytest.raises(SparkyError, match="database"):
        actor.open()
    assert not actor.finished
