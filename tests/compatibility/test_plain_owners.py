"""`sparky migrate` with the login of a plain owner, who may create neither roles nor schemas of the server's."""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from engine.admin.strategy_checks import NewStrategy
from engine.platform.errors import ConfigurationError
from engine.store.embedded.embedded_postgres import build_dsn
from engine.store.schema.migrate import get_migration_status, migrate, read_migrations
from engine.store.store import Store
from engine.store.transport.postgres import PostgresRpc
from tests.support.servers.clusters import own_cluster

EVERYTHING = tuple(migration.name for migration in read_migrations())


class Server:
    """A server of which somebody else is the administrator."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def address(self, database: str, login: str) -> str:
        return build_dsn(self._home, database).replace("postgres@", f"{login}@", 1)

    def administer(self, *statements: str, database: str = "postgres") -> None:
        with psycopg.connect(build_dsn(self._home, database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def tables(self, database: str) -> set[str]:
        with psycopg.connect(build_dsn(self._home, database)) as connection:
            rows = connection.execute("select tablename from pg_tables where schemaname in ('public', 'auth')")
            return {row[0] for row in rows}


@pytest.fixture
def server() -> Iterator[Server]:
    with own_cluster() as home:
        yield Server(home)


def statements_in(sentence: str) -> str:
    """What stands to be pasted into psql: from the first statement to the last semicolon."""
    found = re.search(r"(?:create|grant|alter) .*;", sentence)
    assert found is not None, sentence
    return found.group()


def refused(address: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        migrate(address)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def works(address: str) -> bool:
    with Store(PostgresRpc(address)) as store:
        store.create_strategy(NewStrategy(user_id=store.ensure_user("one@example.org"), name="one"))
        return [row.name for row in store.list_strategies()] == ["one"] and not store.get_database_health().read_only


def test_an_owner_who_may_not_create_roles_is_told_what_an_administrator_must_run(server: Server) -> None:
    server.administer("create role app login", "create database shop owner app")
    address = server.address("shop", "app")

    sentence = refused(address)

    assert server.tables("shop") == set()
    assert all(role in sentence for role in ("anon", "authenticated", "service_role"))
    server.administer(statements_in(sentence), database="shop")
    assert migrate(address) == EVERYTHING
    assert migrate(address) == ()
    assert works(address)


def test_only_what_is_missing_is_asked_for(server: Server) -> None:
    server.administer("create role app login", "create database shop owner app", "create role anon nologin")

    sentence = statements_in(refused(server.address("shop", "app")))

    assert "create role anon" not in sentence
    assert "create role service_role" in sentence


@pytest.mark.parametrize("right", ["createrole", "superuser"])
def test_who_may_create_roles_migrates_at_once(server: Server, right: str) -> None:
    server.administer(f"create role app login {right}", "create database shop owner app")

    assert migrate(server.address("shop", "app")) == EVERYTHING
    assert works(server.address("shop", "app"))


def test_a_login_in_somebody_elses_database_is_told_what_to_grant(server: Server) -> None:
    server.administer("create role app login", "create database shop")
    address = server.address("shop", "app")

    sentence = refused(address)

    assert server.tables("shop") == set()
    server.administer(statements_in(sentence), database="shop")
    assert migrate(address) == EVERYTHING
    assert works(address)


def test_a_schema_public_that_is_missing_is_made_or_asked_for(server: Server) -> None:
    server.administer("create role app login createrole", "create database shop owner app", "create database mall")
    for database in ("shop", "mall"):
        server.administer("drop schema public", database=database)

    assert migrate(server.address("shop", "app")) == EVERYTHING
    assert works(server.address("shop", "app"))

    sentence = refused(server.address("mall", "app"))
    server.administer(statements_in(sentence), database="mall")
    assert migrate(server.address("mall", "app")) == EVERYTHING
    assert works(server.address("mall", "app"))


def test_an_auth_schema_of_somebody_else_is_used_where_it_may_be(server: Server) -> None:
    server.administer("create role app login createrole", "create role other", "create database shop owner app")
    server.administer("create schema auth authorization other", database="shop")
    address = server.address("shop", "app")

    sentence = refused(address)

    assert server.tables("shop") == set()
    server.administer(statements_in(sentence), database="shop")
    assert migrate(address) == EVERYTHING
    assert works(address)


def test_a_database_that_another_login_migrated_is_refused_by_name(server: Server) -> None:
    server.administer("create role app login", "create database shop")
    migrate(server.address("shop", "postgres"))
    server.administer("grant create on schema public to app", "grant create on database shop to app", database="shop")

    sentence = refused(server.address("shop", "app"))

    assert '"postgres"' in sentence
    assert get_migration_status(server.address("shop", "postgres")).pending == ()


def test_a_login_that_owns_nothing_trades_once_it_is_a_member_of_service_role(server: Server) -> None:
    server.administer("create database shop", 'create role "trader one" login')
    migrate(server.address("shop", "postgres"))
    address = server.address("shop", "trader%20one")

    with pytest.raises(ConfigurationError) as caught, Store(PostgresRpc(address)) as store:
        store.get_database_health()
    assert "grant service_role to" in str(caught.value)

    server.administer('grant service_role to "trader one"')
    assert works(address)
