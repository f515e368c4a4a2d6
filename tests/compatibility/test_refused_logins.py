"""What a refused login means is told by its SQLSTATE, in whatever language; a server that is too old is refused."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from engine.platform.errors import ConfigurationError, UpstreamUnavailable
from engine.store.embedded.embedded_postgres import build_dsn
from engine.store.schema.migrate import migrate
from engine.store.transport.postgres import PostgresRpc, connect, translate_error
from tests.support.servers.clusters import own_cluster
from tests.support.servers.pgbouncer import pgbouncer
from tests.support.servers.refusing_postgres import refusing_postgres, welcoming_postgres


@pytest.fixture(scope="module")
def cluster_home() -> Iterator[Path]:
    with own_cluster() as home:
        with psycopg.connect(build_dsn(home, "postgres"), autocommit=True) as connection:
            connection.execute("create role word_right login password 'right'")
            connection.execute("create role few login connection limit 0")
            connection.execute("create role locked_out nologin")
            connection.execute("create database shut allow_connections false")
            connection.execute("create database private")
            connection.execute("revoke connect on database private from public")
        yield home


@pytest.mark.parametrize(
    ("state", "words", "severity"),
    [
        ("28P01", "Passwort-Authentifizierung f\u00fcr Benutzer \u00bbjemand\u00ab fehlgeschlagen", "FATAL"),
        ("28000", "Rolle \u00bbjemand\u00ab existiert nicht", "FATAL"),
        ("28000", "kein pg_hba.conf-Eintrag f\u00fcr Host \u00bb10.0.0.1\u00ab", "FATAL"),
        ("3D000", "Datenbank \u00bbhandel\u00ab existiert nicht", "FATAL"),
        ("28P01", '\u7528\u6237 "jemand" Password \u8ba4\u8bc1\u5931\u8d25', "\u81f4\u547d\u9519\u8bef"),
        ("42501", "keine Berechtigung f\u00fcr Datenbank \u00bbhandel\u00ab", "FATAL"),
        ("28P01", 'Benutzer "C "57P03" M"', "FATAL"),
    ],
)
def test_a_login_refused_in_another_language_is_bad_configuration(state: str, words: str, severity: str) -> None:
    with refusing_postgres(state, words, severity) as address:
        for keep in (True, False):
            with pytest.raises(ConfigurationError) as caught:
                PostgresRpc(address, keep=keep).call("health")
            assert "hunter2" not in str(caught.value)
        with pytest.raises(ConfigurationError):
            migrate(address)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("57P03", "das Datenbanksystem startet"),
        ("57P03", "the database system does not exist yet: password authentication failed to start"),
        ("57P01", "Verbindung wird abgebrochen aufgrund von Anweisung des Administrators"),
        ("53300", "die verbleibenden Verbindungen sind f\u00fcr Superuser reserviert"),
        ("53300", 'zu viele Verbindungen von Rolle "does not exist"'),
        ("53400", "Konfigurationslimit \u00fcberschritten"),
        ("08P01", "no pg_hba.conf entry? no such database: handel"),
        ("XX000", "Tenant or user not found"),
        ("58000", "invalid connection option"),
    ],
)
def test_a_server_that_cannot_serve_now_is_waited_for_in_any_language(state: str, words: str) -> None:
    with refusing_postgres(state, words) as address, pytest.raises(UpstreamUnavailable) as caught:
        PostgresRpc(address).call("health")

    assert "hunter2" not in str(caught.value)


def test_a_host_or_file_named_like_a_refusal_is_an_outage() -> None:
    with pytest.raises(UpstreamUnavailable):
        PostgresRpc("postgresql://me@/x?host=/nowhere/does%20not%20exist").call("health")


@pytest.mark.parametrize(
    ("user", "database", "kind"),
    [
        ("word_right:wrong", "postgres", ConfigurationError),
        ("word_right", "postgres", ConfigurationError),
        ("word_nobody:right", "postgres", ConfigurationError),
        ("locked_out", "postgres", ConfigurationError),
        ("postgres", "nowhere", ConfigurationError),
        ("word_right:right", "private", ConfigurationError),
        ("few", "postgres", UpstreamUnavailable),
    ],
)
def test_a_real_server_refuses(cluster_home: Path, user: str, database: str, kind: type[Exception]) -> None:
    address = build_dsn(cluster_home, database).replace("postgres@", f"{user}@", 1)

    with pytest.raises(kind) as caught:
        connect(address)

    assert type(caught.value) is kind or isinstance(caught.value, kind)
    assert "wrong" not in str(caught.value)


def test_one_of_several_hosts_that_is_away_keeps_a_refusal_by_the_other_from_being_final() -> None:
    with refusing_postgres("3D000", "gibt es hier nicht") as address:
        port = address.rpartition(":")[2].partition("/")[0]
        several = f"postgresql://me@127.0.0.1:1,127.0.0.1:{port}/x"
        with pytest.raises(UpstreamUnavailable):
            connect(several)
        both = f"postgresql://me@127.0.0.1:{port},127.0.0.1:{port}/x"
        with pytest.raises(ConfigurationError):
            connect(both)


@pytest.mark.parametrize(
    ("state", "kind"),
    [("28P01", ConfigurationError), ("3D000", ConfigurationError), ("57P03", UpstreamUnavailable)],
)
def test_a_state_that_the_driver_tells_is_enough(state: str, kind: type[Exception]) -> None:
    error = errors.lookup(state)("nur Worte")

    assert isinstance(translate_error(error), kind)


def test_a_refusal_by_a_pooler_that_says_no_state_of_its_own_is_waited_for(postgres_home: Path) -> None:
    """PgBouncer up to 1.20 says 08P01 of a wrong password as of a server that is away."""
    users = Path(postgres_home) / "users.txt"
    users.write_text('"postgres" "right"\n')
    users.chmod(0o644)
    with pgbouncer(postgres_home, auth_type="plain", auth_file=str(users)) as pooler:
        address = pooler.dsn("postgresql://postgres@/migrated")
        with connect(address.replace("postgres@", "postgres:right@", 1)):
            pass
        with pytest.raises((UpstreamUnavailable, ConfigurationError), match="authentication failed"):
            connect(address.replace("postgres@", "postgres:wrong@", 1))


@pytest.mark.parametrize("version", ["13.16", "9.6.24", "8.0.2"])
def test_a_postgresql_that_is_too_old_is_refused_in_one_sentence(version: str) -> None:
    told = {"server_version": version, "server_encoding": "UTF8", "client_encoding": "UTF8"}
    with welcoming_postgres(told) as address, pytest.raises(ConfigurationError) as caught:
        migrate(address)

    assert version in str(caught.value)
    assert "14" in str(caught.value)
