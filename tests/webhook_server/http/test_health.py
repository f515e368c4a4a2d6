"""`GET /health` tells whether the server can trade, not whether everything can be read."""

from collections.abc import Iterator

import pytest
import requests

from tests.support.clients.sql import Sql
from tests.webhook_server.conftest import Site

ODD_RECORDS = {
    "columns of others": ["create table supabase_migrations.schema_migrations (id int)"],
    "a view that fails": [
        "create view supabase_migrations.schema_migrations as select '1' as version, (1 / 0)::text as name"
    ],
    "a sequence of that name": ["create sequence supabase_migrations.schema_migrations"],
    "another type": ["create table supabase_migrations.schema_migrations (version bytea, name jsonb)"],
    "nothing in it": [],
}


@pytest.fixture(autouse=True)
def schema_of_others(sql: Sql) -> Iterator[None]:
    """The schema in which `supabase db push` keeps its record."""
    sql("create schema supabase_migrations")
    yield
    sql("drop schema supabase_migrations cascade")


@pytest.mark.parametrize("record", ODD_RECORDS.values(), ids=ODD_RECORDS.keys())
def test_a_record_of_migrations_that_cannot_be_read_is_no_illness(site: Site, sql: Sql, record: list[str]) -> None:
    for statement in record:
        sql(statement)

    assert requests.get(f"{site.url}/health", timeout=60).status_code == 200


def test_a_schema_that_may_not_be_entered_is_no_illness(site: Site, sql: Sql) -> None:
    sql("create role odd_owner_of_health")
    try:
        sql("create table supabase_migrations.schema_migrations (version text, name text)")
        sql("grant all on schema public to odd_owner_of_health")
        sql("grant select on public.sparky_migrations to odd_owner_of_health")
        sql("alter function public.health() owner to odd_owner_of_health")
        sql("alter function public.migration_names(boolean) owner to odd_owner_of_health")

        assert requests.get(f"{site.url}/health", timeout=60).status_code == 200
    finally:
        sql("alter function public.health() owner to postgres")
        sql("alter function public.migration_names(boolean) owner to postgres")
        sql("drop owned by odd_owner_of_health")
        sql("drop role odd_owner_of_health")


def test_a_record_of_our_own_that_cannot_be_read_is_no_illness(site: Site, sql: Sql) -> None:
    sql("alter table public.sparky_migrations rename column name to label")
    try:
        assert requests.get(f"{site.url}/health", timeout=60).status_code == 200
    finally:
        sql("alter table public.sparky_migrations rename column label to name")


def test_a_database_that_only_reads_is_an_illness(site: Site, sql: Sql) -> None:
    (name,) = sql("select current_database()")[0]
    sql(f"alter database {name} set default_transaction_read_only = on")
    sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'sparky'")
    try:
        answer = requests.get(f"{site.url}/health", timeout=60)
        assert (answer.status_code, answer.json()["apiStatus"]) == (503, "database is read-only")
    finally:
        sql("set default_transaction_read_only = off")
        sql(f"alter database {name} reset default_transaction_read_only")
        sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'sparky'")
