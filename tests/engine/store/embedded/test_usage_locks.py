"""Several commands at once on a home whose server does not run: one starts it, all use it, the last one out ends it."""

import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from engine.platform.settings.settings import Settings
from engine.store.embedded.command_database import open_database
from engine.store.embedded.embedded_postgres import is_running
from engine.store.embedded.usage_locks import UsageLock
from tests.support.processes.directories import short_directory

PATIENCE_S = 300.0  # of a machine that does ten other things as well


@pytest.fixture
def fresh_home() -> Iterator[Path]:
    with short_directory() as home:
        yield home


def test_commands_at_once_share_one_server_that_ends_after_the_last(fresh_home: Path) -> None:
    settings = Settings(sparky_home=fresh_home)
    answers: list[object] = []
    together = threading.Barrier(3)

    def command() -> None:
        with open_database(settings) as address:
            together.wait(PATIENCE_S)
            for _ in range(20):
                with psycopg.connect(address) as connection:
                    answers.append(connection.execute("select 1").fetchone())

    commands = [threading.Thread(target=command) for _ in range(3)]
    for each in commands:
        each.start()
    for each in commands:
        each.join(2 * PATIENCE_S)
    assert answers == [(1,)] * 60
    assert not is_running(fresh_home)


def test_who_comes_while_the_server_is_being_stopped_waits_until_it_is(fresh_home: Path) -> None:
    last, late = UsageLock(fresh_home), UsageLock(fresh_home)
    assert last.acquire_exclusive(60.0)
    assert not late.acquire_shared()
    last.release()
    assert late.acquire_shared()
    assert not last.acquire_exclusive(0.0)
    late.release()
