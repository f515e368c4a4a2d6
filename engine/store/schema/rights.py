"""The rights that a migrating login needs, and the statements that grant missing ones."""

from typing import Any, Final

from psycopg import sql
from psycopg.rows import dict_row

from engine.store.transport.postgres import Connection

ROLES: Final = ("anon", "authenticated", "service_role")

# One row. Rights on what does not exist are null.
_RIGHTS_QUERY: Final = """
select
  current_user::text as login,
  current_database()::text as database,
  (select rolsuper or rolcreaterole from pg_catalog.pg_roles where rolname = current_user) as may_create_roles,
  array(select r from unnest(%s::text[]) r where r not in (select rolname from pg_catalog.pg_roles)) as missing_roles,
  has_database_privilege(current_database(), 'create') as may_create_schemas,
  pub.oid is not null as has_public,
  has_schema_privilege(pub.oid, 'usage') and has_schema_privilege(pub.oid, 'create') as may_use_public,
  auth.oid is not null as has_auth,
  has_schema_privilege(auth.oid, 'usage') as may_enter_auth,
  has_schema_privilege(auth.oid, 'create') as may_create_in_auth,
  users.oid is not null as has_users,
  has_table_privilege(users.oid, 'select') and has_table_privilege(users.oid, 'insert')
    and has_table_privilege(users.oid, 'references') as may_use_users,
  exists (select from pg_catalog.pg_proc p where p.pronamespace = auth.oid and p.proname = 'uid') as has_uid,
  pg_get_userbyid(record.relowner)::text as owner,
  record.oid is null or pg_has_role(record.relowner, 'usage') as is_owner
from (select 1) one
left join pg_catalog.pg_namespace pub on pub.nspname = 'public'
left join pg_catalog.pg_namespace auth on auth.nspname = 'auth'
left join pg_catalog.pg_class users on users.relnamespace = auth.oid and users.relname = 'users'
left join pg_catalog.pg_class record on record.relnamespace = pub.oid and record.relname = 'sparky_migrations'
"""


def describe_missing_rights(connection: Connection) -> str | None:
    """Why this login cannot migrate, with statements for psql that grant what is missing; None if it can."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rights = cursor.execute(_RIGHTS_QUERY, [list(ROLES)]).fetchone()
    assert rights is not None  # noqa: S101 - it always gives one row
    if not rights["is_owner"]:
        owner = _quote_identifier(rights["owner"])
        return f"The schema here belongs to {owner}, and nothing was applied: migrate with that login."
    statements = [*_build_role_statements(rights), *_build_schema_grants(rights), *_build_auth_grants(rights)]
    if not statements:
        return None
    return (
        f"This login may not make all that the schema needs, and nothing was applied. An administrator of the server "
        f"must run this first, in the database {_quote_identifier(rights['database'])}: {' '.join(statements)}"
    )


def _build_role_statements(rights: dict[str, Any]) -> list[str]:
    missing = [] if rights["may_create_roles"] else rights["missing_roles"]
    return [f"create role {role} nologin noinherit;" for role in missing]


def _build_schema_grants(rights: dict[str, Any]) -> list[str]:
    login, database = _quote_identifier(rights["login"]), _quote_identifier(rights["database"])
    statements = []
    if not rights["may_create_schemas"] and not (rights["has_auth"] and rights["has_public"]):
        statements.append(f"grant create on database {database} to {login};")
    if rights["has_public"] and not rights["may_use_public"]:
        statements.append(f"grant usage, create on schema public to {login};")
    return statements


def _build_auth_grants(rights: dict[str, Any]) -> list[str]:
    """Grants for an existing schema `auth` (Supabase's); migrations create what it lacks."""
    login = _quote_identifier(rights["login"])
    if not rights["has_auth"]:
        return []
    statements = []
    is_complete = rights["has_users"] and rights["has_uid"]
    if not rights["may_enter_auth"] or not (is_complete or rights["may_create_in_auth"]):
        statements.append(f"grant usage{'' if is_complete else ', create'} on schema auth to {login};")
    if rights["has_users"] and not rights["may_use_users"]:
        statements.append(f"grant select, insert, references on auth.users to {login};")
    return statements


def _quote_identifier(name: str) -> str:
    return sql.Identifier(name).as_string(None)
