"""`sparky doctor` on keys and guards: each misconfiguration is found, named, and told how to mend."""

import base64
import json

import psycopg
import pytest

from cli.doctor.security_checks import parse_key_role
from tests.cli.conftest import Sparky
from tests.cli.doctor.test_doctor import examined, patient
from tests.conftest import Project
from tests.support.factories.keys import ENCRYPTION_KEY, OTHER_KEY
from tests.support.servers.supabase import PUBLISHABLE_KEY, SECRET_KEY

__all__ = ["patient"]


def execute(database_url: str, *statements: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def jwt(role: object) -> str:
    parts = ({"alg": "HS256"}, {"iss": "supabase", "role": role})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + ".x"


@pytest.mark.parametrize(
    ("key", "role"),
    [
        (jwt("service_role"), "service_role"),
        (jwt("anon"), "anon"),
        (SECRET_KEY.get_secret_value(), "service_role"),
        (PUBLISHABLE_KEY.get_secret_value(), "anon"),
        ("sbp_a_token_of_a_person", None),
        ("a.b.c", None),
        ("", None),
    ],
)
def test_a_supabase_key_says_whose_it_is(key: str, role: str | None) -> None:
    assert parse_key_role(key) == role


@pytest.fixture
def project(patient: Sparky, supabase: Project) -> Sparky:
    patient.environment |= {
        "DATABASE_URL": "",
        "SUPABASE_URL": supabase.server.url,
        "SUPABASE_SERVICE_ROLE_KEY": SECRET_KEY.get_secret_value(),
    }
    return patient


def test_a_healthy_project_has_no_fault(project: Sparky) -> None:
    found = examined(project)

    assert [check for check in found.values() if check["state"] == "fault"] == []
    assert found["database"]["found"].startswith("Supabase, PostgreSQL")
    assert found["supabase key"]["found"] == "of the service role"


def test_the_anon_key_in_place_of_the_service_key_is_named(project: Sparky) -> None:
    found = examined(project, SUPABASE_SERVICE_ROLE_KEY=PUBLISHABLE_KEY.get_secret_value())

    assert found["supabase key"]["found"] == "SUPABASE_SERVICE_ROLE_KEY holds the key of anon"
    assert "service-role" in found["database"]["found"]
    assert PUBLISHABLE_KEY.get_secret_value() not in str(found)


def test_migrations_that_supabase_pushed_count(project: Sparky, supabase: Project) -> None:
    execute(
        supabase.database_url,
        "insert into supabase_migrations.schema_migrations (version, name) "
        "select left(name, 14), replace(substr(name, 16), '.sql', '') from sparky_migrations",
        "drop table sparky_migrations",
    )
    assert examined(project)["migrations"]["state"] == "ok"

    execute(supabase.database_url, "delete from supabase_migrations.schema_migrations where version = '20260101001000'")
    found = examined(project)["migrations"]
    assert found["found"] == "1 not applied, the first is 20260101001000_booking.sql"
    assert "supabase db push" in found["remedy"]


def test_a_missing_migration_is_named(patient: Sparky, database_url: str) -> None:
    execute(database_url, "delete from sparky_migrations where name like '%_credentials.sql'")

    assert "_credentials.sql" in examined(patient)["migrations"]["found"]


def test_row_level_security_that_is_off_is_named(patient: Sparky, database_url: str) -> None:
    execute(database_url, "alter table positions disable row level security")
    assert examined(patient)["row-level security"]["found"] == "off for positions"

    execute(database_url, "alter table positions enable row level security", "grant select on trades to anon")
    assert "trades" in examined(patient)["row-level security"]["found"]

    execute(
        database_url, "revoke select on trades from anon", "grant execute on function stored_secrets to authenticated"
    )
    assert "stored_secrets" in examined(patient)["row-level security"]["found"]


@pytest.mark.parametrize("key", ["password", "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="])
def test_a_weak_encryption_key_is_named_and_not_shown(patient: Sparky, key: str) -> None:
    [check] = examined(patient, SPARKY_ENCRYPTION_KEY=key).values()

    assert "SPARKY_ENCRYPTION_KEY" in check["found"]
    assert "openssl rand -base64 32" in check["found"]
    assert key not in str(check)


def test_a_missing_encryption_key_is_named(patient: Sparky) -> None:
    found = examined(patient, SPARKY_ENCRYPTION_KEY="")["encryption key"]

    assert (found["state"], "openssl" in found["remedy"]) == ("fault", True)


def test_secrets_in_the_clear_and_under_another_key_are_named(patient: Sparky, database_url: str) -> None:
    patient.ok("credentials", "set", "webhook", "--new")
    assert examined(patient)["stored secrets"]["found"] == "1, all sealed"

    execute(database_url, "update bot_credentials set api_key = 'left in the clear'")
    found = examined(patient)["stored secrets"]
    assert found["found"] == "1 of 2 in the clear"
    patient.ok("credentials", "rotate")
    assert examined(patient)["stored secrets"]["state"] == "ok"

    other = examined(patient, SPARKY_ENCRYPTION_KEY=OTHER_KEY.get_secret_value())["stored secrets"]
    assert (other["state"], "not ours" in other["found"]) == ("fault", True)
    both = f"{OTHER_KEY.get_secret_value()},{ENCRYPTION_KEY.get_secret_value()}"
    patient.environment["SPARKY_ENCRYPTION_KEY"] = both
    patient.ok("credentials", "rotate")
    assert "take the second away" in examined(patient)["encryption key"]["found"]
