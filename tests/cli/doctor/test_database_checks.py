"""What `sparky doctor` finds of a database, and what it tells a person to do."""

from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest

from cli.doctor import database_checks
from engine.platform.settings.settings import Settings
from engine.store.embedded.embedded_postgres import build_dsn
from engine.store.store import Store
from engine.store.transport.supabase import build_response_error
from tests.cli.conftest import Sparky
from tests.cli.doctor.test_doctor import examined, patient
from tests.support.clients.sql import Sql
from tests.support.servers.pgbouncer import pgbouncer
from tests.support.servers.ports import free_port
from tests.support.servers.refusing_postgres import refusing_postgres, welcoming_postgres

__all__ = ["patient"]


def test_a_database_that_only_reads_is_a_fault_with_what_to_do(patient: Sparky, sql: Sql) -> None:
    (name,) = sql("select current_database()")[0]
    sql(f"alter database {name} set default_transaction_read_only = on")

    found = examined(patient)["database"]

    assert found["state"] == "fault"
    assert "read-only" in found["found"]
    assert "primary" in found["remedy"]
    assert "default_transaction_read_only" in found["remedy"]


@pytest.mark.parametrize(
    ("state", "words", "remedy"),
    [
        ("53300", 'zu viele Verbindungen von Rolle "app"', "connection"),
        ("57P03", "das Datenbanksystem startet", "wait"),
        ("28P01", "Passwort-Authentifizierung fehlgeschlagen", "password"),
        ("3D000", "Datenbank existiert nicht", "create database"),
        ("53100", "Platte voll", "room"),
    ],
)
def test_each_refusal_has_a_remedy_of_its_own(patient: Sparky, state: str, words: str, remedy: str) -> None:
    with refusing_postgres(state, words) as address:
        found = examined(patient, DATABASE_URL=address)["database"]

    assert found["state"] == "fault"
    assert remedy in found["remedy"]
    assert "hunter2" not in str(found)


def test_a_postgresql_that_is_too_old_is_a_fault(patient: Sparky) -> None:
    told = {"server_version": "13.16", "server_encoding": "UTF8", "client_encoding": "UTF8"}
    with welcoming_postgres(told) as address:
        found = examined(patient, DATABASE_URL=address)["database"]

    assert found["state"] == "fault"
    assert "13.16" in found["found"]


def test_a_database_in_another_encoding_is_a_fault(patient: Sparky, postgres_home: Path) -> None:
    with psycopg.connect(build_dsn(postgres_home, "postgres"), autocommit=True) as connection:
        connection.execute("create database latin template template0 encoding 'LATIN1' locale_provider libc locale 'C'")
    found = examined(patient, DATABASE_URL=build_dsn(postgres_home, "latin"))["database"]
    assert found["state"] == "fault"
    assert "LATIN1" in found["found"]
    assert "create database" in found["remedy"]


def test_a_login_without_rights_is_told_the_grant(patient: Sparky, postgres_home: Path, database_url: str) -> None:
    with psycopg.connect(build_dsn(postgres_home, "postgres"), autocommit=True) as connection:
        connection.execute("create role without_rights login")
    found = examined(patient, DATABASE_URL=database_url.replace("postgres@", "without_rights@", 1))["database"]
    assert found["state"] == "fault"
    assert "grant service_role to" in found["found"] + found["remedy"]


def test_a_record_of_migrations_that_cannot_be_read_is_told_and_no_fault(
    patient: Sparky, postgres_home: Path, database_url: str, sql: Sql
) -> None:
    sql("create schema supabase_migrations")
    sql("create table supabase_migrations.schema_migrations (id int)")

    found = examined(patient)

    assert found["migrations"]["state"] == "ok"
    assert "supabase_migrations.schema_migrations" in str(found)
    assert found["database"]["state"] == "ok"


def test_a_login_that_owns_nothing_and_was_granted_the_service_role_is_well(
    patient: Sparky, postgres_home: Path, database_url: str
) -> None:
    with psycopg.connect(build_dsn(postgres_home, "postgres"), autocommit=True) as connection:
        connection.execute("create role trades_only login")
        connection.execute("grant service_role to trades_only")
    found = examined(patient, DATABASE_URL=database_url.replace("postgres@", "trades_only@", 1))
    assert {check["state"] for check in found.values()} == {"ok", "skipped"}, found
    assert found["migrations"]["found"] == "current"
    assert found["positions"]["state"] == "ok"


def test_a_missing_schema_is_told_the_command_that_makes_it_and_nothing_else(
    patient: Sparky, empty_database_url: str
) -> None:
    found = examined(patient, DATABASE_URL=empty_database_url)["database"]
    assert found["state"] == "fault"
    assert found["remedy"] == "run `sparky migrate`"


def test_a_server_that_does_not_answer_is_told_apart_from_one_without_tls(patient: Sparky, database_url: str) -> None:
    away = examined(patient, DATABASE_URL=f"postgresql://me:hunter2@127.0.0.1:{free_port()}/shop")["database"]
    assert "server runs" in away["remedy"]
    for other in ("migrate", "password", "encoding", "sslmode"):
        assert other not in away["remedy"]
    with refusing_postgres("28000", "unused") as address:
        plain = examined(patient, DATABASE_URL=f"{address}?sslmode=require")["database"]
    assert "sslmode" in plain["remedy"]
    for other in ("migrate", "password", "encoding"):
        assert other not in plain["remedy"]


def test_a_database_that_does_not_exist_is_no_refused_login(patient: Sparky, postgres_home: Path) -> None:
    found = examined(patient, DATABASE_URL=build_dsn(postgres_home, "nosuch"))["database"]
    assert "The database does not exist" in found["found"]
    assert "refuses this login" not in found["found"]
    assert "create database nosuch" in found["remedy"] or "create database NAME" in found["remedy"]


def test_a_pooler_in_statement_mode_is_a_fault(patient: Sparky, postgres_home: Path, database_url: str) -> None:
    with pgbouncer(postgres_home, pool_mode="statement") as pooler:
        found = examined(patient, DATABASE_URL=pooler.dsn(database_url))
    faults = [check for check in found.values() if check["state"] == "fault"]
    assert len(faults) == 1
    assert "pool_mode" in faults[0]["remedy"]


def test_the_engine_of_the_database_is_told(patient: Sparky, store: Store) -> None:
    assert examined(patient)["engine"]["state"] == "skipped"
    other = Store(store.rpc, store.vault, uuid4())
    epoch = other.hold_engine_lease("boot/9/9", "/var/lib/sparky on other-host", 3_600.0, is_new=True).epoch
    assert f"epoch {epoch} runs at /var/lib/sparky on other-host" in examined(patient)["engine"]["found"]


def test_what_a_supabase_project_refuses_is_told_in_its_terms(patient: Sparky) -> None:
    away = examined(
        patient,
        DATABASE_URL="",
        SUPABASE_URL=f"http://127.0.0.1:{free_port()}",
        SUPABASE_SERVICE_ROLE_KEY="sb_secret_hunter2hunter2hunter2",
    )["database"]
    assert away["state"] == "fault"
    assert "SUPABASE_URL" in away["remedy"]
    assert "DATABASE_URL" not in away["remedy"]


@pytest.mark.parametrize(("code", "words"), [("42501", "SERVICE_ROLE_KEY"), ("PGRST202", "supabase db push")])
def test_a_refusal_of_a_supabase_project_has_a_remedy_of_its_own(code: str, words: str) -> None:
    answer = httpx.Response(400, json={"code": code, "message": "no"})
    settings = Settings.model_validate(
        {
            "supabase_url": "http://127.0.0.1:1",
            "supabase_service_role_key": "sb_secret_hunter2hunter2hunter2",
        }
    )
    assert words in database_checks.find_remedy(settings, build_response_error(answer))
    assert "grant service_role" not in database_checks.find_remedy(settings, build_response_error(answer))
