"""Our migrations on a project as Supabase makes it: its own auth schema, an owner who is no superuser, open defaults,
the original system's tables with rows in them, and every way in which people apply migrations.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from pydantic import SecretStr

from engine.admin.strategy_checks import NewStrategy
from engine.store.schema.migrate import migrate, read_migrations
from engine.store.store import Store
from engine.store.transport.postgres import PostgresRpc
from tests.support.factories.keys import vault

ORIGINAL = Path(__file__).parents[1] / "engine" / "store" / "schema" / "original_system.sql"
OLD_USER = UUID("11111111-1111-1111-1111-111111111111")
OWNER = "project_owner"
PROJECT = f"""
do $$ begin
  if not exists (select from pg_roles where rolname = '{OWNER}') then
    create role {OWNER} login nosuperuser createrole;
  end if;
end $$;
do $$ begin execute format('grant create on database %I to {OWNER}', current_database()); end $$;
create schema auth;
create table auth.users (
  id uuid primary key, email text, encrypted_password text, created_at timestamptz default now()
);
create function auth.uid() returns uuid language sql stable as $$
  select coalesce(
    nullif(current_setting('request.jwt.claim.sub', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')
  )::uuid
$$;
grant usage on schema auth to {OWNER}, anon, authenticated, service_role;
grant select, insert, update, delete, references on auth.users to {OWNER};
alter schema public owner to {OWNER};
grant anon, authenticated, service_role to {OWNER} with inherit false;
alter default privileges for role {OWNER} in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges for role {OWNER} in schema public grant all on functions to anon, authenticated, service_role;
"""


@pytest.fixture
def project(postgres_home: Path, empty_database_url: str) -> Iterator[str]:
    """The owner's address."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(PROJECT.encode())
    yield empty_database_url.replace("postgres@", f"{OWNER}@")
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(f"drop owned by {OWNER} cascade".encode())


def by_sparky_migrate(address: str) -> None:
    migrate(address)


def by_pushing(address: str) -> None:
    """As `supabase db push`: file by file, and a record of its own."""
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("create schema supabase_migrations")
        connection.execute("create table supabase_migrations.schema_migrations (version text primary key, name text)")
        for migration in read_migrations():
            with connection.transaction():
                connection.execute(migration.text.encode())
                connection.execute(
                    "insert into supabase_migrations.schema_migrations values (%s, %s)",
                    [migration.name[:14], migration.name[15:].removesuffix(".sql")],
                )


def by_pasting(address: str) -> None:
    """As in the SQL editor: everything at once."""
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("\n".join(migration.text for migration in read_migrations()).encode())


WAYS: list[Callable[[str], None]] = [by_sparky_migrate, by_pushing, by_pasting]


@pytest.mark.parametrize("apply", WAYS)
def test_a_new_project_serves_after_its_migrations_however_they_came(
    project: str, apply: Callable[[str], None]
) -> None:
    apply(project)

    with Store(PostgresRpc(project, keep=True), vault()) as store:
        user = store.ensure_user("new@example.org")
        store.put_credentials(user, "aster", {"api_key": SecretStr("k")})
        strategy = store.create_strategy(
            NewStrategy.from_input({"user_id": user, "name": "first", "status": "running"})
        )
        assert [row.id for row in store.list_running_strategies()] == [strategy.id]
        report = store.get_security_report()
        assert (report.without_row_level_security, report.open_to_people, report.readable_by_anon) == ((), (), ())
        names = {migration.name for migration in read_migrations()}
        assert set(store.get_database_health().migrations) == (set() if apply is by_pasting else names)


def test_the_originals_rows_on_a_project_are_kept_read_and_sealed(project: str) -> None:
    original = ORIGINAL.read_text()
    tables = original[original.index("create table public.") :].split(";\n")
    with psycopg.connect(project, autocommit=True) as connection:
        connection.execute("insert into auth.users (id, email) values (%s, 'old@example.org')", [OLD_USER])
        connection.execute(";\n".join(text for text in tables if "into auth.users" not in text).encode())
        before = connection.execute("select count(*) from positions, trades").fetchone()

        migrate(project)

        assert connection.execute("select count(*) from positions, trades").fetchone() == before
        with Store(PostgresRpc(project, keep=True), vault()) as store:
            assert store.list_webhook_secrets(OLD_USER)[0].get_secret_value() == "old-secret"
            assert "clear" not in store.get_security_report().secrets
        kept = connection.execute("select to_jsonb(c)::text from bot_credentials c").fetchall()
    assert "old-secret" not in str(kept)
