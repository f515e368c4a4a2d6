"""The embedded server: data survive, its owner's death ends it, and no litter keeps the next from starting."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from pydantic import SecretStr

from engine.platform.errors import ConfigurationError
from engine.platform.settings.settings import Settings
from engine.store.embedded import postgres_process
from engine.store.embedded.command_database import open_database
from engine.store.embedded.embedded_postgres import EmbeddedPostgres, build_dsn, get_data_dir, is_running, make
from engine.store.schema.migrate import read_migrations
from engine.store.store import open_store
from tests.support.processes.directories import short_directory
from tests.support.servers.clusters import answers_in_time

OWNER = """
import sys, pathlib
from engine.store.embedded.embedded_postgres import EmbeddedPostgres
server = EmbeddedPostgres(pathlib.Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def made_home() -> Iterator[Path]:
    """A state directory whose cluster is made; the tests here share it, one after the other."""
    with short_directory() as home:
        service = make(Settings(sparky_home=home), "")
        service.start()
        service.stop(3)
        yield home


def _owner(home: Path) -> tuple["subprocess.Popen[str]", psutil.Process]:
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, psutil.Process(int(process.stdout.readline()))


def _ended(process: "subprocess.Popen[str]") -> None:
    process.communicate()


def test_the_service_migrates_and_its_data_survive(made_home: Path) -> None:
    settings = Settings(sparky_home=made_home, database_url=SecretStr(build_dsn(made_home)))
    service = make(settings, "")
    service.start()
    assert any(service.is_healthy() for _ in range(30))
    with open_store(settings, keep=False) as store:
        assert len(store.get_database_health().migrations) == len(read_migrations())
        user_id = store.ensure_user("kept@example.org")

    service.stop(3)
    assert not service.is_healthy()
    assert not is_running(made_home)

    service = make(settings, "")
    service.start()
    with open_store(settings, keep=False) as store:
        assert store.ensure_user("kept@example.org") == user_id
    service.stop(3)


def test_a_transaction_left_open_does_not_hold_up_the_stop(made_home: Path) -> None:
    server = EmbeddedPostgres(made_home)
    server.start()
    postmaster = psutil.Process(server.pid)
    connection = psycopg.connect(server.dsn)
    connection.execute("create table half_done (id int)")

    server.stop()

    assert not postmaster.is_running()
    with pytest.raises(psycopg.OperationalError):
        connection.execute("select 1")
    connection.close()


def test_when_its_owner_is_killed_the_server_ends_and_the_next_start_is_clean(made_home: Path) -> None:
    process, postmaster = _owner(made_home)
    with psycopg.connect(build_dsn(made_home), autocommit=True) as connection:
        connection.execute("create table if not exists survivors (id int)")

    os.kill(process.pid, signal.SIGKILL)

    postmaster.wait(120)
    _ended(process)
    with_server = EmbeddedPostgres(made_home)
    with_server.start()
    with psycopg.connect(build_dsn(made_home)) as connection:
        connection.execute("select from survivors")
    with_server.stop()


def test_a_start_right_after_the_owner_was_killed_waits_for_the_old_server(made_home: Path) -> None:
    process, postmaster = _owner(made_home)
    os.kill(process.pid, signal.SIGKILL)

    server = EmbeddedPostgres(made_home)
    server.start()

    assert server.pid != postmaster.pid
    assert answers_in_time(server)
    server.stop()
    _ended(process)


def test_a_server_that_was_killed_itself_is_unhealthy_and_can_be_started_again(made_home: Path) -> None:
    server = EmbeddedPostgres(made_home)
    server.start()
    postmaster = psutil.Process(server.pid)
    postmaster.kill()
    postmaster.wait(120)
    assert not server.is_healthy()
    server.stop()

    server.start()

    assert answers_in_time(server)
    server.stop()


def test_a_stale_pid_file_of_a_pid_now_used_by_another_does_not_stop_a_start(made_home: Path) -> None:
    pid_file = get_data_dir(made_home) / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{get_data_dir(made_home)}\n1\n5432\n{get_data_dir(made_home)}\n\n\nready\n")
    (get_data_dir(made_home) / ".s.PGSQL.5432.lock").write_text(f"{os.getpid()}\n")
    if os.geteuid() == 0:
        shutil.chown(pid_file, postgres_process.ensure_server_user(made_home).pw_uid)  # type: ignore[union-attr]  # root has one

    server = EmbeddedPostgres(made_home)
    server.start()

    assert answers_in_time(server)
    server.stop()


def test_a_second_owner_is_refused_while_commands_share_the_running_server(made_home: Path) -> None:
    settings = Settings(sparky_home=made_home)
    server = EmbeddedPostgres(made_home)
    server.start()

    with pytest.raises(ConfigurationError, match="Another Sparky runs the database"):
        EmbeddedPostgres(made_home, lock_timeout_s=0.1).start()
    with open_database(settings) as address, psycopg.connect(address) as connection:
        connection.execute("select 1")

    assert answers_in_time(server)
    server.stop()


def test_a_command_starts_the_server_for_its_own_time(made_home: Path) -> None:
    with open_database(Settings(sparky_home=made_home)) as address:
        assert address == build_dsn(made_home)
        assert is_running(made_home)

    assert not is_running(made_home)
    with open_database(Settings(database_url=SecretStr("postgresql://elsewhere/x"))) as address:
        assert address == "postgresql://elsewhere/x"


def test_an_interrupted_creation_leaves_nothing_in_the_way() -> None:
    with short_directory() as home:
        (home / "postgres.new").mkdir()
        (home / "postgres.new" / "PG_VERSION").write_text("18\n")
        server = EmbeddedPostgres(home)

        server.start()

        assert answers_in_time(server)
        server.stop()


def test_a_directory_that_cannot_be_used_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")

    with pytest.raises(ConfigurationError, match="cannot start in") as caught:
        EmbeddedPostgres(tmp_path / "home").start()

    assert "\n" not in str(caught.value)


def test_only_the_owner_may_enter_the_data_directory(made_home: Path) -> None:
    assert get_data_dir(made_home).stat().st_mode & 0o077 == 0
