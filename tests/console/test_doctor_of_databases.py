"""What `sparky doctor` finds of a database, and what it tells a person to do."""

from pathlib import Path

import psycopg
import pytest

from engine.store.embedded import dsn
from tests.console.conftest import Sparky
from tests.console.test_doctor import examined, patient
from tests.support.refusing_postgres import refusing_postgres, welcoming_postgres
from tests.support.sql import Sql

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
    with psycopg.connect(dsn(postgres_home, "postgres"), autocommit=True) as connection:
        connection.execute("create database latin template template0 encoding 'LATIN1' locale_provider libc locale 'C'")
    found = examined(patient, DATABASE_URL=dsn(postgres_home, "latin"))["database"]
    assert found["state"] == "fault"
    assert "LATIN1" in found["found"]
    assert "create database" in found["remedy"]


def test_a_login_without_rights_is_told_the_grant(patient: Sparky, postgres_home: Path, database_url: str) -> None:
    with psycopg.connect(dsn(postgres_home, "postgres"), autocommit=True) as connection:
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
