"""A database that cannot hold every text is refused at once; an encoding in a client's surroundings has no effect."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from engine.admin.strategy_checks import NewStrategy
from engine.platform.errors import ConfigurationError
from engine.store.embedded.embedded_postgres import build_dsn
from engine.store.schema.migrate import migrate
from engine.store.store import Store
from engine.store.transport.postgres import PostgresRpc, connect
from tests.support.clients.sql import Sql

NAME = "na\u00efve \u4e2d\u6587 \U0001f680"


@pytest.fixture(params=["SQL_ASCII", "LATIN1", "EUC_JP"])
def foreign_database_url(request: pytest.FixtureRequest, postgres_home: Path) -> Iterator[str]:
    """DSN of an empty database in another encoding than UTF-8."""
    name = f"encoded_{request.param.lower()}"
    with psycopg.connect(build_dsn(postgres_home, "postgres"), autocommit=True) as connection:
        connection.execute(
            f"create database {name} template template0 encoding '{request.param}' locale_provider libc locale 'C'"
        )
        yield build_dsn(postgres_home, name)
        connection.execute(f"drop database {name} with (force)")


def test_a_database_in_another_encoding_is_refused_before_anything_is_applied(foreign_database_url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"UTF-?8") as caught:
        migrate(foreign_database_url)

    assert "encoding" in str(caught.value)
    with psycopg.connect(foreign_database_url) as connection:
        assert connection.execute("select count(*) from pg_tables where schemaname = 'public'").fetchone() == (0,)


@pytest.mark.parametrize("kept", ["keep", "per-call"])
def test_a_server_refuses_a_database_in_another_encoding_at_its_first_call(
    foreign_database_url: str, kept: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"UTF-?8"):
        PostgresRpc(foreign_database_url, keep=kept == "keep").call("health")
    with pytest.raises(ConfigurationError, match=r"UTF-?8"):
        connect(foreign_database_url)


@pytest.mark.parametrize("variable", [("PGCLIENTENCODING", "LATIN1"), ("PGOPTIONS", "-c client_encoding=SQL_ASCII")])
def test_an_encoding_in_the_environment_changes_no_text(
    database_url: str, variable: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(*variable)

    assert a_name_that_was_kept(database_url) == NAME


def test_an_encoding_of_the_database_for_its_clients_changes_no_text(database_url: str, sql: Sql) -> None:
    (name,) = sql("select current_database()")[0]
    sql(f"alter database {name} set client_encoding = 'LATIN1'")

    assert a_name_that_was_kept(database_url) == NAME


def a_name_that_was_kept(database_url: str) -> str:
    with Store(PostgresRpc(database_url, keep=True)) as store:
        new = NewStrategy(user_id=store.ensure_user("one@example.org"), name=NAME)
        store.create_strategy(new)
        (row,) = store.list_strategies()
    return row.name
