"""Reads the functions of schema public, and the objects that depend on them, from a database's catalogue."""

from dataclasses import dataclass
from typing import Final

from engine.store.transport.postgres import Connection

OWN_ROLES: Final = ("public", "anon", "authenticated", "service_role")

# Without functions of extensions. With an empty search path, so that names are qualified.
_FUNCTIONS: Final = b"""
    select p.oid::regprocedure::text, pg_get_functiondef(p.oid), pg_get_function_result(p.oid),
      coalesce(p.proargnames, '{}'), p.pronargdefaults, p.prosrc, obj_description(p.oid, 'pg_proc'),
      array(
        select case a.grantee when 0 then 'public' else a.grantee::regrole::text end
        from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee <> p.proowner
      )
    from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.prokind = 'f' and not exists (
      select from pg_catalog.pg_depend d
      where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
    )
    order by 1"""
_DEPENDANTS: Final = b"""
    select d.refobjid::regprocedure::text, pg_describe_object(d.classid, d.objid, d.objsubid), pg_get_triggerdef(t.oid),
      case when c.relkind in ('i', 'I') then c.oid::regclass::text end
    from pg_catalog.pg_depend d
    join pg_catalog.pg_proc p on p.oid = d.refobjid and p.pronamespace = 'public'::regnamespace
    left join pg_catalog.pg_trigger t on d.classid = 'pg_catalog.pg_trigger'::regclass and t.oid = d.objid
    left join pg_catalog.pg_class c on d.classid = 'pg_catalog.pg_class'::regclass and c.oid = d.objid
    where d.refclassid = 'pg_catalog.pg_proc'::regclass and d.deptype = 'n'
      and d.classid <> 'pg_catalog.pg_proc'::regclass
    order by 1, 2"""


@dataclass(frozen=True)
class Function:
    """A function of schema public as the catalogue has it.

    `identity` is the qualified name with the argument types, `defaults` the number of arguments with a default.
    `callers` are the roles beside the owner that may call it; `public` stands for all roles.
    """

    identity: str
    definition: str
    result: str
    argument_names: tuple[str, ...]
    defaults: int
    body: str
    comment: str | None
    callers: frozenset[str]

    @property
    def name(self) -> str:
        return self.identity.partition("(")[0]

    @property
    def arguments(self) -> str:
        return self.identity.partition("(")[2]


@dataclass(frozen=True)
class Dependant:
    """An object that uses a function; `trigger` is the definition of a trigger, `index` the name of an index."""

    function: str
    description: str
    trigger: str | None
    index: str | None


def read_functions(connection: Connection) -> dict[str, Function]:
    """Functions by their identity: the qualified name with the argument types."""
    with connection.transaction():
        connection.execute("set local search_path = ''")
        rows = connection.execute(_FUNCTIONS).fetchall()
    return {
        identity: Function(identity, definition, result, tuple(names), defaults, body, comment, frozenset(callers))
        for identity, definition, result, names, defaults, body, comment, callers in rows
    }


def read_dependants(connection: Connection) -> tuple[Dependant, ...]:
    """Triggers, indexes and other objects that use a function in their definition, without bodies of functions."""
    with connection.transaction():
        connection.execute("set local search_path = ''")
        rows = connection.execute(_DEPENDANTS).fetchall()
    return tuple(Dependant(*row) for row in rows)


def read_names(connection: Connection) -> frozenset[str]:
    """Names of the tables, views, sequences, types and functions in schema public."""
    rows = connection.execute("""
        select relname from pg_catalog.pg_class where relnamespace = 'public'::regnamespace
        union select typname from pg_catalog.pg_type where typnamespace = 'public'::regnamespace
        union select proname from pg_catalog.pg_proc where pronamespace = 'public'::regnamespace""").fetchall()
    return frozenset(row[0] for row in rows)
